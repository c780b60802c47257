"""A client that sends bytes as they are, and reads whatever comes."""

import re
import socket
from typing import NamedTuple

LAST = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] \d{3}[^\r\n]*")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_OURS = re.compile(rb"(?im)^(?:date|x-request-id):[^\r\n]*\r\n")


class Answer(NamedTuple):
    data: bytes
    cut: bool  # the server closed while bytes were on their way to it, and with them went what it had said

    @property
    def statuses(self):
        return _STATUS.findall(self.data)

    @property
    def told(self):
        """All of it, but for the time and the header that is ours."""
        return _OURS.sub(b"", self.data)

    def agrees(self, other):
        if self.cut or other.cut:
            return self.told.startswith(other.told) or other.told.startswith(self.told)
        return self.told == other.told


def exchange(port, payload, patience=0.1):
    """What is answered until the server closes; one that waits for more is told, after a moment, that this was all."""
    data, cut, is_last = bytearray(), False, False
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(payload)
            connection.settimeout(patience)
            while True:
                if not is_last and _is_complete(data):
                    is_last = True
                    connection.sendall(LAST)
                try:
                    part = connection.recv(65536)
                except TimeoutError:
                    if is_last:
                        break
                    is_last = True
                    connection.sendall(LAST)
                    continue
                if not part:
                    break
                data += part
        except (ConnectionError, TimeoutError):
            cut = True
    return Answer(bytes(data).replace(b":%d" % port, b":80"), cut)  # without a Host it stands in redirections


def _is_complete(data):
    """Whether a whole answer is there, after which the connection stays open."""
    head, end, body = bytes(data).partition(b"\r\n\r\n")
    if not end or b"\r\nconnection: close" in head.lower():
        return False
    length = _LENGTH.search(head + b"\r\n")
    return length is not None and len(body) >= int(length[1])
