"""The clinic in FastAPI, with SQLAlchemy."""
