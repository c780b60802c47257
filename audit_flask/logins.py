"""Who logs out with Flask-Login: he is nobody when his request ends, though it was his."""

from __future__ import annotations

from flask import Flask

from audit_core.context import known_otherwise
from audit_core.requests.actors import actor_of


def install(app: Flask) -> None:
    """Listen, where there is Flask-Login."""
    try:
        from flask_login import user_logged_out
    except ImportError:
        return
    user_logged_out.connect(_logged_out, app)


def _logged_out(_: Flask, *, user: object, **__: object) -> None:
    if (actor := actor_of(user)) is not None:
        known_otherwise(actor)
