"""Logins, logouts and failed logins, as Django's own signals tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed

from audit_core import Outcome, set_actor
from audit_core.context import Actor, log_in_tried
from audit_core.normalise import clean_text
from audit_core.policy import resource_name
from audit_core.requests.actors import actor_of
from audit_django.trail import get_trail


def connect() -> None:
    """Listen, from now on. May be repeated."""
    user_logged_in.connect(_logged_in, dispatch_uid="audit_django")
    user_logged_out.connect(_logged_out, dispatch_uid="audit_django")
    user_login_failed.connect(_login_failed, dispatch_uid="audit_django")


def _logged_in(sender: Any, user: Any, **_: object) -> None:
    log_in_tried(succeeded=True)
    with _acting(actor_of(user)):
        get_trail().record("user.login", resource=(_kind(), user.pk))


def _logged_out(sender: Any, user: Any, **_: object) -> None:
    if (actor := actor_of(user)) is None:  # nobody was logged in
        return
    with _acting(actor):
        get_trail().record("user.logout", resource=(_kind(), user.pk))
    with suppress(LookupError):  # the request was his, though he is nobody when it ends
        set_actor(actor.id, type=actor.type)


def _login_failed(sender: Any, credentials: Mapping[str, Any], **_: object) -> None:
    """Of the credentials only the name that was tried: whatever else they hold is not known to be harmless."""
    given = next((credentials[key] for key in (_user_model().USERNAME_FIELD, "username") if key in credentials), None)
    name = None if given is None else clean_text(given)
    log_in_tried(succeeded=False, name=name)
    trail = get_trail()
    details = {} if name is None else {"username": trail.redactor.text(name)}
    trail.record("user.login_failed", resource=(_kind(), None), outcome=Outcome.DENIED, details=details)


def _acting(actor: Actor | None) -> AbstractContextManager[object]:
    return nullcontext() if actor is None else get_trail().actor(actor.id, type=actor.type)


def _user_model() -> Any:
    return get_user_model()


def _kind() -> str:
    return resource_name(_user_model()._meta.concrete_model.__name__)
