"""The clinic in Django, with its own ORM, users and permissions."""
