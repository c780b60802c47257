"""WebSockets as an attacker speaks them: a handshake, then frames (RFC 6455 5.2), not all of them as they should be."""

import struct
from dataclasses import dataclass

from hypothesis import strategies as st

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x37\xfa\x21\x3d"
TOO_BIG = 2**16 + 1  # more than the servers here are told to take
AT_ONCE = 2**15  # what is longer arrives in pieces, and their order is chance


@dataclass(frozen=True)
class Attack:
    """What is sent, in these pieces, and how the client leaves then."""

    pieces: tuple[bytes, ...]
    leaving: str  # "waits" until the server closes, "closes", "resets", or is "half" gone: it reads on


def handshake(path=b"/rooms/7?token=hunter2", *headers, key=KEY, version=b"13", host=b"Host: localhost\r\n"):
    lines = [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: " + key, *headers]
    head = b"GET %b HTTP/1.1\r\n%b" % (path, host)
    return head + b"\r\n".join((*lines, b"Sec-WebSocket-Version: " + version, b"", b""))


def frame(opcode, payload=b"", *, first=0x80, mask=MASK, size=None, length=None):
    """``first``: FIN and the reserved bits; ``length``: what it says it is, written in so many bits (``size``)."""
    length = len(payload) if length is None else length
    size = size or (7 if length < 126 else 16 if length < 2**16 else 64)
    masked = 0x80 if mask is not None else 0
    head = {7: lambda: bytes((masked | length,)), 16: lambda: struct.pack("!BH", masked | 126, length)}.get(
        size, lambda: struct.pack("!BQ", masked | 127, length)
    )()
    body = payload if mask is None else bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes((first | opcode,)) + head + (mask or b"") + body


def closing(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


FRAMES = [
    *(frame(opcode, b"a") for opcode in range(16)),  # of which ten are reserved
    *(frame(TEXT, b"a", first=first) for first in range(0x00, 0x100, 0x10)),  # each reserved bit, and without an end
    frame(TEXT, b"a", mask=None), frame(BINARY, b"a", mask=b"\0\0\0\0"), frame(CLOSE, mask=None),
    frame(PING, mask=None), frame(PING, b"p" * 125), frame(PING, b"p" * 126), frame(PING, b"p", first=0x00),
    frame(CLOSE, b"", first=0x00), frame(PONG, b"nobody asked"), frame(PING, b"\xff") * 50,
    frame(TEXT, b"\xff\xfe"), frame(TEXT, b"\xed\xa0\x80"), frame(TEXT, b"\xf4\x90\x80\x80"), frame(TEXT, b"\xc3"),
    frame(TEXT, b"\0"), frame(TEXT, "\u2028\ufffe".encode()), frame(TEXT), frame(BINARY), frame(TEXT, b"close"),
    frame(TEXT, b"\xc3", first=0x00) + frame(CONTINUATION, b"\xa9"),
    frame(TEXT, b"a", first=0x00) + frame(PING) + frame(CONTINUATION, b"b"),
    frame(TEXT, b"a", first=0x00) + frame(TEXT, b"b"), frame(TEXT, b"a", first=0x00) + closing(1000),
    frame(TEXT, first=0x00) + frame(CONTINUATION, first=0x00) * 50, frame(CONTINUATION, b"of nothing"),
    frame(TEXT, b"a" * TOO_BIG), frame(BINARY, b"a" * 2**15, first=0x00) + frame(CONTINUATION, b"a" * 2**15) * 2,
    frame(TEXT, b"a", size=16), frame(TEXT, b"a", size=64), frame(TEXT, b"a", length=2**63 - 1, size=64),
    frame(TEXT, b"a", length=2**64 - 1, size=64), frame(TEXT, b"a", length=5), frame(CLOSE, b"a", length=200, size=16),
    *(closing(code) for code in (0, 999, 1000, 1001, 1004, 1005, 1006, 1011, 1012, 1015, 2999, 3000, 4999, 65535)),
    closing(), frame(CLOSE, b"\x03"), closing(1000, b"\xff"), closing(1000, b"hunter2"), closing(4000, b"r" * 123),
    closing(4001) + frame(TEXT, b"after that"), closing(4001) + closing(4002),
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0", b"\x81", b"\x81\x85\x00", b"\xff" * 64, b"",
]  # fmt: skip
HANDSHAKES = [
    handshake(key=b""), handshake(key=b"x"), handshake(key=KEY + b"," + KEY), handshake(version=b"8"),
    handshake(version=b""), handshake(version=b"13, 8"), handshake(host=b""), handshake(b"/rooms/%ff%00"),
    handshake(b"/rooms/7", b"Sec-WebSocket-Protocol: a, b,, \xff"),
    handshake(b"/rooms/7", b"Sec-WebSocket-Key: " + KEY),
    handshake(b"/rooms/7", b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99"),
    handshake(b"/rooms/7", b'Sec-WebSocket-Extensions: permessage-deflate, x; y="z'),
    handshake(b"/rooms/7", b"Sec-WebSocket-Extensions: ;=,,"), handshake(b"/rooms/7", b"Origin: null\x00"),
    handshake(b"/rooms/7", b"Content-Length: 5"), handshake(b"/rooms/7", b"Transfer-Encoding: chunked"),
    handshake(b"/rooms/7", b"X-Any: " + b"x" * 70_000), handshake(b"/forbidden"), handshake(b"/denied"),
    handshake(b"/raising"), handshake(b"/nowhere"), handshake(b"//"), handshake(b"*"), handshake(b"/falling"),
    handshake().replace(b"GET", b"POST"), handshake().replace(b"HTTP/1.1", b"HTTP/1.0"),
    handshake().replace(b"Upgrade: websocket", b"Upgrade: websocket, h2c"), handshake().replace(b"Connection", b"X"),
    handshake()[:-2], handshake()[:40], b"GET /rooms/7",
]  # fmt: skip
TALKS = [
    (frame(TEXT, b"a"), frame(TEXT, b"b"), frame(3, b"a")), (frame(TEXT, b"a"), frame(TEXT, b"b"), closing(1000)),
    (frame(TEXT, b"a"), frame(TEXT, b"close"), frame(TEXT, b"b")),
]  # fmt: skip
LEAVINGS = ("waits", "closes", "resets", "half")

_any_frame = st.builds(
    frame,
    st.integers(0, 15),
    st.binary(max_size=200),
    first=st.sampled_from(range(0x00, 0x100, 0x10)),
    mask=st.none() | st.binary(min_size=4, max_size=4),
    size=st.sampled_from((None, 64)),
)
_good_frame = st.builds(frame, st.sampled_from((TEXT, BINARY, PING, PONG)), st.text(max_size=20).map(str.encode))
_frames = st.lists(st.one_of(_good_frame, st.sampled_from(FRAMES), _any_frame), max_size=5)
_handshakes = st.sampled_from([handshake()] * 2 * len(HANDSHAKES) + HANDSHAKES)


@st.composite
def attacks(draw):
    """Mostly a good handshake, with frames right behind it or in pieces of their own, the last perhaps not whole."""
    start, sent = draw(_handshakes), draw(_frames)
    if sent and draw(st.booleans()):
        sent[-1] = sent[-1][: draw(st.integers(0, len(sent[-1])))]
    together = start + b"".join(sent)
    pieces = (together,) if draw(st.booleans()) and len(together) < AT_ONCE else (start, *sent)
    return Attack(pieces, draw(st.sampled_from(LEAVINGS)))


def each():
    """Each frame and each handshake by itself, and each way to leave in turn; then those that come to an end."""
    payloads = [(handshake(), one) for one in FRAMES] + [(one,) for one in HANDSHAKES]
    alone = [Attack(pieces, LEAVINGS[place % len(LEAVINGS)]) for place, pieces in enumerate(payloads)]
    return alone + [Attack((handshake(), *pieces), "waits") for pieces in TALKS]
