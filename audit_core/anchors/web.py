"""One POST over HTTP, which ends in time whatever the server does."""

from __future__ import annotations

import re
import time
from http.client import HTTPException, InvalidURL
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from audit_core.errors import StoreUnavailableError

TIMEOUT_SECONDS = 10.0
_USER = re.compile(r"(?<=://)[^/?#]*@")
_PATH = re.compile(r"(?<=[^:/])[/?#].*", re.DOTALL)
LONGEST = 1_000_000  # bytes of an answer


class Response(NamedTuple):
    """What the server has answered."""

    status: int
    body: bytes


def post(url: str, body: bytes, content_type: str) -> Response:
    """Send ``body`` to an http or https URL. Raises StoreUnavailableError where there is no answer in time."""
    request = Request(url, body, {"Content-Type": content_type}, method="POST")  # noqa: S310 - open_anchor looks
    deadline = time.monotonic() + TIMEOUT_SECONDS
    try:
        try:
            response = urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
        except HTTPError as error:
            response = error
        with response:
            return Response(response.status, _read(response, deadline))
    except (OSError, HTTPException, ValueError) as error:
        is_bad = isinstance(error, InvalidURL | ValueError)  # which is quoted, with what must not be told
        reason = "it is no address" if is_bad else getattr(error, "reason", None) or error
        raise StoreUnavailableError(f"{host_of(url)} does not answer: {reason}.") from error


def host_of(url: str) -> str:
    """As it may be told: the path of a webhook is a secret, as is what stands before the host."""
    return _PATH.sub("", without_user(url))


def without_user(url: str) -> str:
    """Without what stands before the host."""
    return _USER.sub("", url)


def _read(response: object, deadline: float) -> bytes:
    """A server that gives a byte a minute keeps nobody waiting."""
    read = getattr(response, "read1", None) or response.read  # type: ignore[attr-defined]
    parts: list[bytes] = []
    while part := read(LONGEST):
        parts.append(part)
        if time.monotonic() > deadline or sum(map(len, parts)) > LONGEST:
            raise TimeoutError("its answer does not end")
    return b"".join(parts)
