"""The Flask extension."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, got_request_exception, request_tearing_down

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError
from audit_core.requests.checks import checked_trail
from audit_core.requests.request import claim
from audit_flask import commands, logins
from audit_flask.exchange import FRAMEWORK, Exchange, note_exception, note_leaving

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_EXTENSION = "audit"


class Audit:
    """Records every request of ``app``, before the first byte of its response leaves, and who runs its commands.

    ``Audit(app, trail)``, or ``audit = Audit(trail=trail)`` and ``audit.init_app(app)``.
    """

    def __init__(self, app: Flask | None = None, trail: AuditTrail | None = None) -> None:
        self.trail = None if trail is None else checked_trail(trail)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, trail: AuditTrail | None = None) -> None:
        """Audit one application more. Raises ConfigurationError without a trail, or when it is audited already."""
        if (trail := trail or self.trail) is None:
            raise ConfigurationError("Audit needs a trail: Audit(app, AuditTrail(url)).")
        trail = checked_trail(trail)
        if _EXTENSION in app.extensions:
            raise ConfigurationError(f"The application {app.name} is audited already.")
        app.extensions[_EXTENSION] = trail
        app.wsgi_app = _Audited(app.wsgi_app, trail)  # type: ignore[method-assign]
        got_request_exception.connect(note_exception, app)
        request_tearing_down.connect(note_leaving, app)
        commands.install(app)
        logins.install(app)


class _Audited:
    """The WSGI application with an audit around each of its requests."""

    def __init__(self, app: WSGIApplication, trail: AuditTrail) -> None:
        self.app = app
        self.trail = trail

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not claim(environ, FRAMEWORK, self.trail):
            return self.app(environ, start_response)
        return Exchange(self.trail, environ, start_response).run(self.app)
