"""The body of an answer, which the server reads part by part."""

from __future__ import annotations

from collections.abc import Iterator

from audit_core.requests.answer import Answer, settled
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
        settled(answer.fail(error))  # the response is on its way, and nothing can be refused any more
        raise
