"""AuditMiddleware: what Django knows of a request, told to the core."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import got_request_exception
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject, empty

from audit_core import AuditTrail
from audit_core.context import Actor
from audit_core.keys import load_hash_key
from audit_core.requests.actors import actor_of
from audit_core.requests.answer import Answer, Written, settled, settled_async
from audit_core.requests.body import next_part
from audit_core.requests.checks import checked_trail
from audit_core.requests.request import RequestAudit, claim, release
from audit_django.routing import route_of
from audit_django.trail import get_trail

_EXCHANGE = "_audit_exchange"  # on the request
_APP = "audit_django"


class AuditMiddleware:
    """Records every request, before the first byte of its response leaves; for WSGI and ASGI.

    It is the first line of ``MIDDLEWARE``: what stands before it may answer a request that leaves no event. Its trail
    is the project's, unless it is made with another one.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any], trail: AuditTrail | None = None) -> None:
        if not apps.is_installed(_APP):
            raise ImproperlyConfigured(
                f'AuditMiddleware is in MIDDLEWARE, but changes are not captured: INSTALLED_APPS += ["{_APP}"].'
            )
        self.get_response = get_response
        self.trail = None if trail is None else checked_trail(trail)
        if trail is None:
            load_hash_key()  # of the project's trail: else every request would fail, and not the start
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """One request, through everything that stands behind."""
        if self.is_async:
            return self.__acall__(request)
        trail = self.trail or get_trail()
        if not claim(_carrier(request), _APP, trail):
            return self.get_response(request)  # type: ignore[no-any-return]
        exchange = _Exchange(request, trail)
        with exchange.open():
            try:
                response: HttpResponseBase = self.get_response(request)
            except BaseException as error:
                settled(exchange.fail(error))
                raise
            if not settled(exchange.respond(response)):
                return exchange.refuse(response)
            return exchange.watch(response)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """The same, under ASGI."""
        trail = self.trail or get_trail()
        if not claim(_carrier(request), _APP, trail):
            return await self.get_response(request)  # type: ignore[no-any-return]
        exchange = _Exchange(request, trail)
        await exchange.audit.begin_async()
        with exchange.open():
            try:
                response: HttpResponseBase = await self.get_response(request)
            except BaseException as error:  # cancelled, because the client is gone: the writer has the event
                exchange.fail(error)
                raise
            try:
                is_settled = await settled_async(exchange.respond(response))
            except asyncio.CancelledError:
                exchange.answer.close()
                await sync_to_async(exchange.drop)(response)  # in the thread in which Django would close it
                raise
            return exchange.watch(response) if is_settled else exchange.refuse(response)


class _Exchange:
    """One request and its response."""

    error: BaseException | None = None  # that nobody handled but Django
    is_streaming = False

    def __init__(self, request: HttpRequest, trail: AuditTrail) -> None:
        self.request, self._trail = request, trail
        self.audit = RequestAudit(
            trail,
            method=request.method or "",
            path=request.path_info,
            root=request.path.removesuffix(request.path_info),
            query=request.META.get("QUERY_STRING", ""),
            peer=request.META.get("REMOTE_ADDR") or None,
            header=lambda name: request.META.get(f"HTTP_{name.upper().replace('-', '_')}"),
            carrier=_carrier(request),
            find_actor=self.find_actor,
            find_session=self.find_session,
        )
        self.answer = Answer(self.audit)
        setattr(request, _EXCHANGE, weakref.ref(self))  # no cycle: a request must end with its last reference

    @contextmanager
    def open(self) -> Iterator[None]:
        """The time until Django has the response; a stream remains a part of the request until it is closed."""
        self.audit.begin()
        try:
            with self.audit.active():
                yield
        finally:
            if not self.is_streaming:
                self.audit.finish()
            release(_carrier(self.request), _APP, self._trail)

    def find_actor(self) -> Actor | None:
        """Whom the application knows by now; that is no query, because nobody is asked who was not asked before."""
        user = self.request.__dict__.get("user")
        if isinstance(user, LazyObject) and user.__dict__.get("_wrapped", empty) is empty:
            user = self.request.__dict__.get("_acached_user")
        return actor_of(user)

    def find_session(self) -> str | None:
        """To read the key neither loads the session nor makes the response vary by its cookie."""
        return getattr(getattr(self.request, "session", None), "session_key", None)

    def respond(self, response: HttpResponseBase) -> Written:
        """Record the request's event."""
        self._look()
        self._name(response)
        return self.answer.start(response.status_code, self.error)

    def fail(self, error: BaseException) -> Written:
        """Something came through that Django makes no response of: the process is told to end, say."""
        self._look()
        return self.answer.fail(error)

    def watch(self, response: HttpResponseBase) -> HttpResponseBase:
        """See whether a stream comes to its end."""
        if response.streaming:
            self.is_streaming = True
            response._resource_closers = list(map(self._within, response._resource_closers))  # type: ignore[attr-defined]  # noqa: SLF001
            if getattr(response, "file_to_stream", None) is None:
                kind = _AsyncStream if getattr(response, "is_async", False) else _Stream
                response.streaming_content = kind(self, response)  # type: ignore[attr-defined]  # closed with the response
            else:  # the server sends the file by itself (wsgi.file_wrapper), unless somebody reads it in between
                response._resource_closers.append(self.audit.finish)  # type: ignore[attr-defined]  # noqa: SLF001
        return response

    def refuse(self, response: HttpResponseBase) -> HttpResponse:
        """The event is durable nowhere: nothing of the application's response leaves. It is closed with this one."""
        status, headers, body = self.answer.refuse()
        refusal = HttpResponse(body, status=status, headers=dict(headers))
        refusal._resource_closers.extend(map(self._within, response._resource_closers))  # type: ignore[attr-defined]  # noqa: SLF001
        return refusal

    def drop(self, response: HttpResponseBase) -> None:
        """Nobody gets it, nor closes it: what it holds is released here, and errors go where Django lets them go."""
        for close in response._resource_closers:  # type: ignore[attr-defined]  # noqa: SLF001
            with suppress(Exception):
                close()

    def _look(self) -> None:
        self.audit.method, self.audit.route = self.request.method or "", route_of(self.request)

    def _within(self, close: Callable[[], None]) -> Callable[[], None]:
        """What a response does while it is closed is a part of its request."""

        def closing() -> None:
            with self.audit.active():
                close()

        return closing

    def _name(self, response: HttpResponseBase) -> None:
        for name, value in self.answer.headers(response.headers):
            response.headers[name] = value


def _carrier(request: HttpRequest) -> MutableMapping[str, Any]:
    carrier: MutableMapping[str, Any] = getattr(request, "scope", request.META)
    return carrier


class _Stream:
    """The content of a streaming response."""

    def __init__(self, exchange: _Exchange, response: Any) -> None:
        self._exchange = exchange
        self._content: Any = response.streaming_content
        if exchange.request.method == "HEAD":  # of which no content is read
            exchange.answer.end()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next_part(self._exchange.audit, self._exchange.answer, self._content)

    def close(self) -> None:
        """Django closes its response: at the end, or because the client is gone."""
        try:
            settled(self._exchange.answer.close())
        finally:
            self._exchange.audit.finish()

    def __del__(self) -> None:  # a test that does not read its response does not close it either
        self._exchange.audit.finish()


class _AsyncStream(_Stream):
    """The same, under ASGI."""

    __iter__ = None  # type: ignore[assignment]  # what can be iterated is synchronous to Django

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            with self._exchange.audit.active():
                return await anext(self._content)
        except StopAsyncIteration:
            self._exchange.answer.end()
            raise
        except asyncio.CancelledError:  # the client is gone, and Django closes the response
            raise
        except BaseException as error:
            self._exchange.answer.fail(error)
            raise

    def close(self) -> None:
        """The same. Python closes a generator that is let go in a task of its own, which knows what is current here."""
        try:
            super().close()
        finally:
            with self._exchange.audit.active():
                self._content = None


@receiver(got_request_exception)
def _remember(*, request: HttpRequest | None = None, **_: object) -> None:
    """Django says this while it handles an exception that nobody else did."""
    if (reference := getattr(request, _EXCHANGE, None)) and (exchange := reference()) is not None:
        exchange.error = sys.exc_info()[1]
