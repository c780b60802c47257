"""What a client may wait for: how many answers a server owes to frames, and how many it has given."""

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping

from tests.hostile.frames import TOO_BIG

OPENING = b"HTTP/1.1 101 "
END = b"\r\n\r\n"  # of a head


class Owed:
    """An answer to each message, to each ping and to a goodbye, or in its place that the server closes."""

    def __init__(self):
        self.count = 0
        self.ended = False  # it owes nothing any more
        self.broken = False  # by a bad frame: some servers wait for its rest, some allow it
        self._parser, self._parts, self._sent = Connection(ConnectionType.SERVER), [], b""

    @property
    def is_all(self):
        """Whether nothing else can come: no end, and no frame that a server may refuse before it is whole."""
        return not self.ended and _frames(self._sent)[1]

    def add(self, piece):
        self._sent += piece
        self._parser.receive_data(piece)
        for event in self._parser.events():
            if not self.ended:
                self._add(event)

    def _add(self, event):
        if isinstance(event, Message):
            self._parts.append(event.data)
            if event.message_finished:
                message = self._parts[0][:0].join(self._parts)
                self._parts.clear()
                self.count += 1
                self.ended = message == "close" or len(message) >= TOO_BIG
        elif isinstance(event, Ping):
            self.count += 1
        elif isinstance(event, CloseConnection):
            self.ended, self.broken = True, self._parser.state is ConnectionState.OPEN
            self.count += not self.broken


def answers(said):
    """How many are there as a whole: the head, and each frame after one that opens the WebSocket."""
    head, end, rest = said.partition(END)
    return bool(end) + (_frames(rest)[0] if head.startswith(OPENING) else 0)


def _frames(data):
    """How many are whole, and whether all are (RFC 6455 5.2)."""
    count = place = 0
    while place + 2 <= len(data):
        length, start = data[place + 1] & 0x7F, place + 2
        if extended := {126: 2, 127: 8}.get(length, 0):
            length = int.from_bytes(data[start : start + extended])
        place = start + extended + (4 if data[place + 1] & 0x80 else 0) + length
        count += place <= len(data)
    return count, place == len(data)
