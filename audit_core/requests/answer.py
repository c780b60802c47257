"""The answer to one request, as it leaves. An adapter says how far it is; this says what the audit makes of it.

answer.start(status)     before the first byte, which waits for ``settled``; where that says no, ...
answer.refuse()          ... this is sent, and nothing of the application's
answer.end()             the last byte has left
answer.fail(error)       the application raised, whenever it did
answer.close()           nobody sends any more
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import NamedTuple, TypeAlias

from audit_core.errors import StoreUnavailableError
from audit_core.event import AuditEvent
from audit_core.requests.request import NOT_STORED, RequestAudit, type_of
from audit_core.requests.waking import finished

REQUEST_ID_HEADER = "X-Request-ID"
_REQUEST_ID_NAME = REQUEST_ID_HEADER.lower()
_UNAVAILABLE = 503
_BODY = b"The audit trail cannot record this request. Try again later.\n"
Written: TypeAlias = Future[AuditEvent] | None  # None where there is nothing to wait for


class Refusal(NamedTuple):
    """What is answered where an event must be durable and cannot be."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Answer:
    """How far it is."""

    started = ended = refused = False
    _status = 0

    def __init__(self, audit: RequestAudit) -> None:
        self._audit = audit

    def start(self, status: int, error: BaseException | None = None) -> Written:
        """Its first byte is ready to leave, and waits for this."""
        self.started, self._status = True, status
        return self._audit.respond(status, error)

    def headers(self, present: Iterable[str]) -> list[tuple[str, str]]:
        """What the response gets on top: the request's id, unless the application has set one."""
        if _REQUEST_ID_NAME in map(str.lower, present):
            return []
        return [(REQUEST_ID_HEADER, str(self._audit.context.request_id))]

    def refuse(self) -> Refusal:
        """The event is kept, but durable nowhere: this is the answer, and a second event says so."""
        self.started = self.ended = self.refused = True
        self._audit.break_off(NOT_STORED, status=_UNAVAILABLE)
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(_BODY))), *self.headers(())]
        return Refusal(_UNAVAILABLE, headers, _BODY)

    def end(self) -> None:
        """It has left as it should."""
        self.ended = True

    def fail(self, error: BaseException) -> Written:
        """The application raised: before its answer, in the midst of it, or (a background task) after it."""
        if not self.ended:
            self.ended = True
            return self._audit.raise_(error)
        if self._status >= 500:  # the error that was answered is raised again
            return None
        return self._audit.break_off(f"{type_of(error)} after the response")

    def close(self, *, is_client_gone: bool = True) -> Written:
        """Nobody sends any more, whether it has ended or not."""
        if self.ended or not self.started:
            return None
        self.ended = True
        return self._audit.break_off("client disconnected" if is_client_gone else "not completed")


def settled(written: Written) -> bool:
    """Wait until the event is durable, or cannot be; which of the two."""
    try:
        if written is not None:
            written.result()
    except StoreUnavailableError:
        return False
    return True


async def settled_async(written: Written) -> bool:
    """The same. A client that goes away takes nothing along."""
    if written is not None:
        await finished(written)
    return settled(written)
