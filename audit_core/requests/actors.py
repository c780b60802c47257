"""Who a framework's user object is."""

from __future__ import annotations

from typing import Any

from audit_core.context import Actor
from audit_core.event import ActorType
from audit_core.requests.expired import expired_key

_ID_NAMES = ("pk", "id", "identity", "username", "display_name", "get_id")
_ADMIN_NAMES = ("is_superuser", "is_staff", "is_admin")


def actor_of(user: object) -> Actor | None:
    """The actor of a user object, by the attributes that all frameworks share; None if nobody is logged in."""
    if user is None or isinstance(user, str | int):
        return None if user in {None, ""} or isinstance(user, bool) else Actor(str(user), ActorType.USER)
    if key := expired_key(user):
        return Actor("/".join(map(str, key)), _type(vars(user)))
    authenticated = _attribute(user, "is_authenticated")
    if authenticated is not None and not authenticated:
        return None
    found = next((value for name in _ID_NAMES if (value := _attribute(user, name)) is not None and value != ""), None)
    return None if found is None else Actor(str(found), _type(user))


def _type(user: object) -> ActorType:
    return ActorType.ADMIN if any(_attribute(user, name) for name in _ADMIN_NAMES) else ActorType.USER


def _attribute(user: object, name: str) -> Any:
    """One attribute or item of a user, called if it is a method; None where there is none."""
    try:
        is_row = hasattr(type(user), "keys") and hasattr(type(user), "__getitem__")  # a dict, a sqlite3.Row
        value = user[name] if is_row else getattr(user, name, None)  # type: ignore[index]
        return value() if callable(value) else value
    except Exception:  # noqa: BLE001 - Starlette's `identity` raises NotImplementedError; a row has no such key
        return None
