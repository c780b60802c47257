"""Who is asking, and may he."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import abort, g, session

from audit_core import set_actor
from example_projects.flask_clinic.database import db
from example_projects.flask_clinic.models import User

View = Callable[..., Any]


def know_user() -> None:
    """Before every request."""
    g.user = db.get(User, session["user"]) if "user" in session else None
    if g.user:
        act_as(g.user)


def log_in(user: User) -> None:
    session["user"] = user.id
    act_as(user)


def act_as(user: User) -> None:
    """Name the actor of this request's events."""
    set_actor(user.name, type="admin" if user.role == "admin" else "user")


def signed_in(*roles: str) -> Callable[[View], View]:
    """Only for who is logged in and, if roles are given, has one of them."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(**arguments: Any) -> Any:
            if g.user is None:
                abort(401)
            if roles and g.user.role not in roles:
                abort(403)
            return view(**arguments)

        return guarded

    return decorate
