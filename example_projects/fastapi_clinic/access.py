"""Who is asking, and may he."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from audit_core import set_actor
from example_projects.fastapi_clinic.database import Db
from example_projects.fastapi_clinic.models import User

tokens: dict[str, int] = {}  # who is logged in; a restart logs everybody out

Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def log_in(user: User) -> str:
    act_as(user)
    token = secrets.token_urlsafe()
    tokens[token] = user.id
    return token


def log_out(bearer: Bearer) -> None:
    if bearer:
        tokens.pop(bearer.credentials, None)


def current_user(db: Db, bearer: Bearer) -> User:
    user = db.get(User, tokens.get(bearer.credentials, 0)) if bearer else None
    if user is None:
        raise HTTPException(401, "Log in first.")
    act_as(user)
    return user


CurrentUser = Annotated[User, Depends(current_user)]


def not_a_nurse(user: CurrentUser) -> None:
    if user.role == "nurse":
        raise HTTPException(403, "A nurse may not do this.")


def act_as(user: User) -> None:
    """Name the actor of this request's events."""
    set_actor(user.name, type="admin" if user.role == "admin" else "user")


signed_in = Depends(current_user)
senior = Depends(not_a_nurse)
