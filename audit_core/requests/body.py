"""The body of an answer, which the server reads part by part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from audit_core.errors import StoreUnavailableError
from audit_core.requests.answer import Answer, Written, wait
from audit_core.requests.request import RequestAudit


def next_part(audit: RequestAudit, answer: Answer, parts: Iterator[bytes]) -> bytes:
    """The next one. The answer learns that it was the last, or that the application broke off."""
    try:
        with audit.active():
            return next(parts)
    except StopIteration:
        answer.end()
        raise
    except BaseException as error:
        wait_anyway(answer.fail(error))
        raise


def wait_anyway(written: Written) -> None:
    """Until the event is durable, or cannot be: the response is on its way, and nothing can be refused any more."""
    with suppress(StoreUnavailableError):
        wait(written)
