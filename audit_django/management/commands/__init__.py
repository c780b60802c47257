"""``manage.py audit``."""
