"""One POST over HTTP, which ends in time whatever the server does."""

from __future__ import annotations

import io
import re
import time
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPSHandler, Request, build_opener

from audit_core.errors import StoreUnavailableError

if TYPE_CHECKING:
    from socket import socket

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
            response = build_opener(_InTime(deadline)).open(request, timeout=TIMEOUT_SECONDS)
        except HTTPError as error:
            response = error
        with response:
            return Response(response.status, _read(response))
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


def _read(response: Any) -> bytes:
    read = getattr(response, "read1", None) or response.read
    parts: list[bytes] = []
    while part := read(LONGEST):
        parts.append(part)
        if sum(map(len, parts)) > LONGEST:
            raise TimeoutError("its answer does not end")
    return b"".join(parts)


class _InTime(HTTPHandler, HTTPSHandler):
    """Opens http and https URLs whose answers have one deadline."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_connection, HTTPConnection, self._deadline), req)

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_connection, HTTPSConnection, self._deadline), req)


def _connection(kind: type[HTTPConnection], deadline: float, host: str, **more: Any) -> HTTPConnection:
    found = kind(host, **more)
    found.response_class = partial(_Answer, deadline=deadline)  # type: ignore[assignment]
    return found


class _Answer(HTTPResponse):
    """Its lines, headers and body have one deadline: a server that gives a byte a minute keeps nobody waiting."""

    def __init__(self, sock: socket, *words: Any, deadline: float, **more: Any) -> None:
        super().__init__(sock, *words, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_Until(sock, deadline))


class _Until(io.RawIOBase):
    def __init__(self, sock: socket, deadline: float) -> None:
        self._sock, self._file, self._deadline = sock, sock.makefile("rb", buffering=0), deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("its answer does not end")
        self._sock.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
