"""AuditMiddleware: what Django knows of a request, told to the core."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.signals import got_request_exception
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject, empty

from audit_core import AuditEvent, AuditTrail
from audit_core.context import Actor
from audit_core.errors import StoreUnavailableError
from audit_core.requests import MOMENT_SECONDS, REFUSED_BODY, REFUSED_STATUS, REQUEST_ID_HEADER, RequestAudit, actor_of
from audit_django.routing import route_of
from audit_django.trail import get_trail

_EXCHANGE = "_audit_exchange"  # on the request


class AuditMiddleware:
    """Records every request, before the first byte of its response leaves; for WSGI and ASGI.

    It is the first line of ``MIDDLEWARE``: what stands before it may answer a request that leaves no event. Its trail
    is the project's, unless it is made with another one.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any], trail: AuditTrail | None = None) -> None:
        self.get_response = get_response
        self.trail = trail
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """One request, through everything that stands behind."""
        if self.is_async:
            return self.__acall__(request)
        exchange = _Exchange(request, self.trail or get_trail())
        with exchange.open():
            try:
                response: HttpResponseBase = self.get_response(request)
            except BaseException as error:
                exchange.broken(exchange.audit.raise_(error))
                raise
            try:
                exchange.wait(exchange.respond(response))
            except StoreUnavailableError:
                return exchange.refuse(response)
            return exchange.watch(response)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """The same, under ASGI."""
        exchange = _Exchange(request, self.trail or get_trail())
        # Other requests must not wait with this one until a commit of ours has ended.
        while not exchange.audit.begin(wait=False):  # noqa: ASYNC110 - it may be another process that commits
            await asyncio.sleep(MOMENT_SECONDS)
        with exchange.open():
            try:
                response: HttpResponseBase = await self.get_response(request)
            except BaseException as error:  # cancelled, because the client is gone: the writer has the event
                exchange.audit.raise_(error)
                raise
            try:
                if (future := exchange.respond(response)) is not None and exchange.trail.durable:
                    await asyncio.shield(asyncio.wrap_future(future))
            except StoreUnavailableError:
                return exchange.refuse(response)
            return exchange.watch(response)


class _Exchange:
    """One request and its response."""

    error: BaseException | None = None  # that became a 500
    stream: _Stream | None = None

    def __init__(self, request: HttpRequest, trail: AuditTrail) -> None:
        self.request, self.trail = request, trail
        self.audit = RequestAudit(
            trail,
            method=request.method or "",
            path=request.path_info,
            root=request.path.removesuffix(request.path_info),
            query=request.META.get("QUERY_STRING", ""),
            peer=request.META.get("REMOTE_ADDR") or None,
            header=request.headers.get,
            find_actor=self.find_actor,
            find_session=self.find_session,
        )
        setattr(request, _EXCHANGE, self)

    @contextmanager
    def open(self) -> Iterator[None]:
        """The time until Django has the response; a stream remains a part of the request until it is closed."""
        self.audit.begin()
        try:
            with self.audit.active():
                yield
        finally:
            if self.stream is None:
                self.audit.finish()

    def find_actor(self) -> Actor | None:
        """Whom the application knows by now; that is no query, because nobody is asked who was not asked before."""
        user = self.request.__dict__.get("user")
        if isinstance(user, LazyObject) and user.__dict__.get("_wrapped", empty) is empty:
            user = self.request.__dict__.get("_acached_user")
        return actor_of(user)

    def find_session(self) -> str | None:
        """To read the key neither loads the session nor makes the response vary by its cookie."""
        return getattr(getattr(self.request, "session", None), "session_key", None)

    def respond(self, response: HttpResponseBase) -> Future[AuditEvent] | None:
        """Record the request's event."""
        self.audit.route = route_of(self.request)
        self._name(response)
        return self.audit.respond(response.status_code, self.error if response.status_code >= 500 else None)

    def watch(self, response: HttpResponseBase) -> HttpResponseBase:
        """See whether a stream comes to its end."""
        if response.streaming:
            self.stream = stream = (_AsyncStream if getattr(response, "is_async", False) else _Stream)(self, response)
            if getattr(response, "file_to_stream", None) is None:
                response.streaming_content = stream  # type: ignore[attr-defined]  # closed with the response
            else:  # the server sends the file by itself (wsgi.file_wrapper), unless somebody reads it in between
                response._resource_closers.append(self.audit.finish)  # type: ignore[attr-defined]  # noqa: SLF001
        return response

    def refuse(self, response: HttpResponseBase) -> HttpResponse:
        """The event is durable nowhere: nothing of the application's response leaves. It is closed with this one."""
        refusal = HttpResponse(REFUSED_BODY, status=REFUSED_STATUS, content_type="text/plain")
        self._name(refusal)
        refusal._resource_closers.extend(response._resource_closers)  # type: ignore[attr-defined]  # noqa: SLF001
        return refusal

    def wait(self, future: Future[AuditEvent] | None) -> None:
        """Until the event is durable, if it is to be."""
        if future is not None and self.trail.durable:
            future.result()

    def broken(self, future: Future[AuditEvent] | None) -> None:
        """The same, where nothing can be refused any more."""
        with suppress(StoreUnavailableError):
            self.wait(future)

    def _name(self, response: HttpResponseBase) -> None:
        response.headers.setdefault(REQUEST_ID_HEADER, str(self.audit.context.request_id))


class _Stream:
    """The content of a streaming response."""

    def __init__(self, exchange: _Exchange, response: Any) -> None:
        self._exchange = exchange
        self._content: Any = response.streaming_content
        self._is_complete = exchange.request.method == "HEAD"  # of which no content is read

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with self._exchange.audit.active():
                return next(self._content)  # type: ignore[no-any-return]
        except StopIteration:
            self._is_complete = True
            raise
        except BaseException as error:
            self._is_complete = True  # that it did not end is said here
            self._exchange.broken(self._exchange.audit.raise_(error))
            raise

    def close(self) -> None:
        """Django closes its response: at the end, or because the client is gone."""
        try:
            if not self._is_complete:
                self._is_complete = True
                self._exchange.broken(self._exchange.audit.break_off("client disconnected"))
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
            self._is_complete = True
            raise
        except asyncio.CancelledError:  # the client is gone, and Django closes the response
            raise
        except BaseException as error:
            self._is_complete = True
            self._exchange.audit.raise_(error)
            raise


@receiver(got_request_exception)
def _remember(*, request: HttpRequest | None = None, **_: object) -> None:
    """Django says this while it handles an exception that nobody else did."""
    exchange = getattr(request, _EXCHANGE, None)
    if isinstance(exchange, _Exchange):
        exchange.error = sys.exc_info()[1]
