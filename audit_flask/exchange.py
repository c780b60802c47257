"""One request: what WSGI and Flask know of it, told to the core."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app, g, has_request_context, request
from flask import globals as flask_globals
from werkzeug.local import LocalProxy

from audit_core import AuditTrail
from audit_core.context import Actor
from audit_core.policy import Route
from audit_core.requests.actors import actor_of
from audit_core.requests.answer import Answer, settled
from audit_core.requests.body import next_part
from audit_core.requests.request import RequestAudit, claim, release

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FRAMEWORK = "flask"
_REQUEST = "audit_flask.request"
_SWITCHED, _UNANSWERED = 101, 500  # RFC 9110 15.2.2; the server answers with an error of its own
_FAREWELLS = (StopIteration, ConnectionError)
_CONVERTER = re.compile(r"<(?:[^<>]*:)?(\w+)>")


class Exchange:
    """One request, and the iterable of its response's body."""

    def __init__(self, trail: AuditTrail, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.environ, self._start_response, self._trail = environ, start_response, trail
        self.error: BaseException | None = None
        self._known = known = _Known(environ.get("REMOTE_USER"))
        self._body: Iterable[bytes] = ()
        self._chunks: Iterator[bytes] = iter(())
        self._refusal: list[bytes] = []  # what is left of it to be sent
        self._is_read = False
        self.audit = RequestAudit(
            trail,
            method=environ["REQUEST_METHOD"],
            path=_text(environ.get("PATH_INFO")),
            root=_text(environ.get("SCRIPT_NAME")),
            query=environ.get("QUERY_STRING", ""),
            peer=environ.get("REMOTE_ADDR") or None,
            header=lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}"),
            carrier=environ,
            find_actor=known.actor,
            find_session=known.session_id,
        )
        self.answer = Answer(self.audit)

    def run(self, app: WSGIApplication) -> Iterable[bytes]:
        """The application's answer; this request ends when the server closes it."""
        self.environ[_REQUEST] = weakref.ref(self)  # no cycle: an unclosed response must end with its last reference
        self.audit.begin()
        try:
            with self.audit.active():
                self._body = app(self.environ, self.start_response)
                self._chunks = iter(self._body)
        except BaseException as error:
            is_answered = self._raised(error)
            self.audit.finish()
            if not is_answered:
                raise
            return self._refusal
        finally:
            self._leave()
        return self

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """Called by Flask with its final response, while its contexts are there."""
        if self.answer.refused:
            return _discard
        self.look()
        error, self.error = self.error, None
        if not settled(self.answer.start(int(status.partition(" ")[0]), error)):
            return self._refuse()
        ours = self.answer.headers(name for name, _ in headers)
        return self._start_response(status, [*headers, *ours], *([exc_info] if exc_info else []))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.answer.refused:  # nothing of the application's response leaves
            return self._next_of_refusal()
        self._is_read = True
        claim(self.environ, FRAMEWORK, self._trail)  # again: what is mounted in a generator is called only now
        try:
            return next_part(self.audit, self.answer, self._chunks)
        finally:
            self._leave()

    def close(self) -> None:
        """The server has sent everything, or has given up."""
        try:
            with self.audit.active():
                if (close := getattr(self._body, "close", None)) is not None:
                    close()
        except BaseException as error:
            settled(self.answer.fail(error))
            raise
        else:
            if not self.answer.started:
                self._answered_otherwise()
            elif self._is_read:
                settled(self.answer.close())
        finally:
            self.audit.finish()

    def _answered_otherwise(self) -> None:
        """The application has taken the connection, for a WebSocket, or has said nothing at all."""
        settled(self.answer.start(_SWITCHED if _may_be_taken(self.environ) else _UNANSWERED))
        self.answer.end()

    def _leave(self) -> None:
        """Whoever calls us from now on tries again: he need not close what he does not want."""
        release(self.environ, FRAMEWORK, self._trail)

    def __del__(self) -> None:  # a test client may forget to close a response
        self.audit.finish()

    def _next_of_refusal(self) -> bytes:
        if not self._refusal:
            raise StopIteration
        return self._refusal.pop()

    def _raised(self, error: BaseException) -> bool:
        """Flask passed an exception on, which is the server's to answer, unless it must not be answered."""
        was_started = self.answer.started
        if not was_started and self._is_farewell(error):
            self._answered_otherwise()
            return False
        if settled(self.answer.fail(error)) or was_started:
            return False
        self._refuse()
        return True

    def _is_farewell(self, error: BaseException) -> bool:
        """So Flask-Sock tells gunicorn, and Werkzeug's own server, that all was said; Flask knows of no such error."""
        return isinstance(error, _FAREWELLS) and error is not self.error and _may_be_taken(self.environ)

    def _refuse(self) -> Callable[[bytes], object]:
        status, headers, body = self.answer.refuse()
        self._refusal = [body]
        self._start_response(f"{status} {HTTPStatus(status).phrase.upper()}", headers)
        return _discard

    def look(self) -> None:
        """Ask Flask while its contexts are there."""
        if has_request_context():
            self._known.look()
            self.audit.method, self.audit.route = request.method, _route()


class _Known:
    """What Flask knows of who it is; kept, because a stream outlives the contexts."""

    def __init__(self, remote_user: str | None) -> None:
        self._remote_user = remote_user
        self._globals: Any = None
        self._session: Any = None

    def look(self) -> None:
        """Keep it."""
        self._globals, self._session = g._get_current_object(), _session()  # noqa: SLF001 - Werkzeug documents it

    def actor(self) -> Actor | None:
        """Whom Flask-Login has loaded already, or whom the application keeps in ``g.user``, or the server named."""
        known = self._globals or (g if has_request_context() else {})
        for name in ("_login_user", "user"):
            user = known.get(name)
            if not isinstance(user, LocalProxy) and (actor := actor_of(user)):  # a proxy may load its user only now
                return actor
        return actor_of(self._remote_user)

    def session_id(self) -> str | None:
        """The id of a session that the server keeps."""
        return getattr(self._session, "sid", None)


def _may_be_taken(environ: WSGIEnvironment) -> bool:
    """Whether the client asked for a WebSocket (RFC 6455 4.1): any other upgrade is no application's to answer."""
    return "websocket" in _tokens(environ, "HTTP_UPGRADE") and "upgrade" in _tokens(environ, "HTTP_CONNECTION")


def _tokens(environ: WSGIEnvironment, name: str) -> list[str]:
    """A list of names, in which case does not matter (RFC 9110 5.6.1, 7.6.1 and 7.8)."""
    return [token.strip(" \t").lower() for token in environ.get(name, "").split(",")]


def _route() -> Route | None:
    if (rule := request.url_rule) is None:
        return None
    view = current_app.view_functions.get(rule.endpoint)
    return Route(_template(rule.rule), request.view_args or {}, view)


@lru_cache(maxsize=4096)
def _template(rule: str) -> str:
    return _CONVERTER.sub(r"{\1}", rule)


def _session() -> Any:
    """Not ``flask.session``: to touch that would add ``Vary: Cookie`` to the response."""
    for name in ("app_ctx", "request_ctx"):  # the first from Flask 3.2 on
        context = vars(getattr(flask_globals, name)._get_current_object())  # noqa: SLF001 - the same
        if (found := context.get("_session", context.get("session"))) is not None:
            return found
    return None


def _discard(_: bytes) -> None:
    """Where the body of a refused response goes."""


def note_exception(_: Flask, *, exception: BaseException, **__: object) -> None:
    """Nobody handled it: its type goes with the event of the response that Flask makes of it."""
    if (reference := request.environ.get(_REQUEST)) and (current := reference()) is not None:
        current.error = exception
        current.look()


def note_leaving(_: Flask, **__: object) -> None:
    """What ends the process, or the greenlet, or the response that is no response, only Flask's teardown sees."""
    reference = request.environ.get(_REQUEST)
    if reference and (current := reference()) is not None and not current.answer.started:
        current.look()


def _text(value: str | None) -> str:
    """WSGI strings hold bytes (PEP 3333)."""
    return (value or "").encode("latin-1", "replace").decode("utf-8", "replace")
