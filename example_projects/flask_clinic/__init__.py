"""The clinic in Flask, with SQLAlchemy."""
