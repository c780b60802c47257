"""Who logs out with Flask-Login: he is nobody when his request ends, though it was his."""

from __future__ import annotations

from contextlib import suppress

from flask import Flask

from audit_core import set_actor
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
        with suppress(LookupError):  # outside of a request that is audited
            set_actor(actor.id, type=actor.type)
