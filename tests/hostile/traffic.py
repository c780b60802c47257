"""Requests as an attacker writes them: bytes, and not all of them HTTP."""

import ast
import re
from pathlib import Path
from urllib.parse import quote

from hypothesis import strategies as st

_REPEATED = re.compile(r"(\\x[0-9a-f]{2}|\\?.)\{(\d+)\}")
_TOKEN = "!#$%&'*+-.^_`|~0123456789ABCdefghiJKL"  # RFC 9110 5.6.2, the most of it


def _header(line):
    repeated = _REPEATED.sub(lambda match: match[1] * int(match[2]), line)
    return ast.literal_eval("b'{}'".format(repeated.replace("'", r"\x27")))


HEADERS = [
    _header(line)
    for line in Path(__file__).with_name("headers.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]

_THE_SERVERS = {b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade"}
_HIDDEN = re.compile(rb"[\0-\x1f\x7f]")
_NAMES = [b"User-Agent", b"Cookie", b"X-Forwarded-For", b"Forwarded", b"X-Request-ID", b"traceparent", b"X-Any"]
_METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS"]
_ODD_METHODS = [
    b"TRACE", b"CONNECT", b"get", b"PoSt", b"BREW", b"M-SEARCH", b"PROPFIND", b"PRI", b"0", b"~", b"a{b}", b"\xff", b"",
    b"GE T", b"A" * 1024,
]  # fmt: skip
_PATHS = """
    / /read/7 /read/-7 /read/07 /read/9999999999999999999999999 /read/x /read/7/ /files/a /files/a/b/../c /files//
    /json /form /whole /unread /unread/ /boom /refused /nowhere // //x //evil.example/x /.. /../../etc/passwd /./read/7
    /read/%37 /read/%2537 /read%2F7 /files/%00 /files/%0a%0d%0aX:y /files/%ff%fe /files/%c0%ae%c0%ae /files/%ed%a0%80
    /files/%E2%80%A8 /files/%F0%9F%92%A9 /files/%u0041 /files/% /files/%zz /files/%2e%2e%2f /files/a;b=c;d
    /files/token/hunter2 /reset/hunter2 /files/{x}{y}{0} /files/<x> /files/[x]*?x /files/|^`\\" /READ/7 /files/+ /*
    /json?a=b;c#d
""".split()
_TARGETS = [
    b"*", b"x", b"", b"?", b"#", b"read/7", b"localhost:80", b"http://localhost/read/7", b"HTTP://LOCALHOST/read/7",
    b"http://evil.example", b"http://a:b@localhost/read/7", b"http://[::1", b"http:///read/7", b"https://localhost:x/",
    b"ftp://localhost/read/7", b"javascript:x", b"/files/\xff\xfe", b"/files/\xe2\x80\xa8", b"/files/\xed\xa0\x80",
    b"/files/\x00", b"/files/a b", b"/files/a\tb", b"/files/\x7f", b"\\files\\a", b"/" + b"a/" * 3000,
    b"/files/" + b"x" * 60_000, b"/read/" + b"9" * 5000,
]  # fmt: skip
_QUERIES = [
    b"", b"?", b"?number=7", b"?number=x", b"?number=" + b"9" * 5000, b"?a=%00&%00=a", b"?=&=&&;;", b"?%ff=%fe",
    b"?a=%ed%a0%80&b=%E2%80%A8", b"?\xff\xfe=\xe2\x80\xa8", b"?token[]=hunter2&%2574oken=hunter2", b"?a=%u0041%zz%",
    b"?" + b"a=b&" * 4000, b"?" + b"a" * 60_000, b"?number=7#x", b"??number=7", b"?a=" + b"[" * 2000,
    b"?__proto__[x]=y&a[b][c]=d&a[b]=e", b"?number=1&number=2", b"?next=http%3A%2F%2F%5B%3A%3A1",
]  # fmt: skip
_VERSIONS = [b"HTTP/1.0", b"HTTP/1.1 ", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/9.9", b"http/1.1", b"HTTP/1.1\x00", b"", b"X"]
_BODIES = [
    b"", b"{}", b"[]", b"null", b'"x"', b"{", b'{"a":', b"\xff\xfe{}", b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"":NaN}',
    b'{"a":1e999999}', b'{"a":' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 50_000, b'{"a":1,"a":2}', b"\x00" * 99,
    b"a=b&c=d", b"a=%ff&%00=%ed%a0%80", b"&" * 5000, b"password=hunter2", b"x" * 70_000, b"\xe2\x80\xa8",
    b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n",
    b"--x\r\nContent-Disposition: form-data\r\n",
    b'--x\r\nContent-Disposition: form-data; name="\xff"; filename="\x00"\r\n\r\nb\r\n--x--\r\n', b"\x1f\x8b\x08",
]  # fmt: skip
_TYPES = [
    b"application/json", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"text/plain",
    b"application/json; charset=utf-16",
]  # fmt: skip
# What a server cannot see the end of: it waits, and so does whoever tests it.
_FRAMES = [
    lambda body: b"Content-Length: %d\r\n\r\n%b" % (len(body) + 5, body),
    lambda body: b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%b" % (len(body), chunked(body)),
    lambda body: b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (len(body) + 5, body),
    lambda body: b"Transfer-Encoding: chunked\r\n\r\nzz\r\n%b\r\n0\r\n\r\n" % body,
    lambda body: b"Transfer-Encoding: chunked\r\n\r\n-1\r\n%b\r\n0\r\n\r\n" % body,
    lambda body: b"Transfer-Encoding: chunked\r\n\r\n%s\r\n%b\r\n0\r\n\r\n" % (b"f" * 40, body),
    lambda body: b"Transfer-Encoding: chunked\r\n\r\n1;%b=\r\na\r\n0\r\nX: y\r\n\r\n" % (b"x" * 500),
    lambda body: b"\r\n" + body,
    lambda body: body,
]


def chunked(body):
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"


def plain(method, target, *headers, body=b""):
    """A request as it should be, but for what it is given."""
    head = [b"%b %b HTTP/1.1" % (method, target), b"Host: localhost", b"Connection: close", *headers]
    return b"\r\n".join((*head, b"Content-Length: %d" % len(body), b"", body))


def _passes(header):
    """Whether a server hands it on: a token, a colon, and no character that ends or hides something."""
    name, colon, value = header.partition(b":")
    is_token = colon and re.fullmatch(rb"[A-Za-z-]+", name)
    return is_token and name.lower() not in _THE_SERVERS and len(value) < 4000 and not _HIDDEN.search(value)


_usual_methods = st.sampled_from(_METHODS)
_odd_methods = st.sampled_from(_ODD_METHODS) | st.text(_TOKEN, min_size=1, max_size=12).map(str.encode)
_usual_targets = st.tuples(
    st.sampled_from([path.encode() for path in _PATHS])
    | st.binary(max_size=12).map(lambda tail: b"/files/" + quote(tail).encode()),
    st.sampled_from([query for query in _QUERIES if query.isascii()])
    | st.binary(max_size=12).map(lambda tail: b"?" + quote(tail, safe="=&;%").encode()),
).map(b"".join)
_odd_targets = st.one_of(
    st.sampled_from(_TARGETS),
    st.sampled_from(_QUERIES).map(lambda query: b"/read/7" + query),
    st.binary(max_size=12).map(lambda tail: b"/files/" + tail),
    st.text(max_size=8).map(lambda tail: b"/files/" + tail.encode(errors="surrogatepass")),
)
_values = st.binary(max_size=20).filter(lambda value: not _HIDDEN.search(value))
_usual_headers = st.one_of(
    st.sampled_from([header for header in HEADERS if _passes(header)]),
    st.sampled_from([b"Content-Type: " + kind for kind in _TYPES]),
    st.tuples(st.sampled_from(_NAMES), st.binary(max_size=20).filter(lambda value: _passes(b"X:" + value))).map(
        b": ".join
    ),
)
_odd_headers = st.sampled_from(HEADERS) | st.tuples(
    st.text(_TOKEN, min_size=1, max_size=10).map(str.encode), st.binary(max_size=20)
).map(b":".join)
_bodies = st.sampled_from(_BODIES) | st.binary(max_size=30)
_PARTS = ("method", "target", "version", "host", "close", "headers", "end", "frame")


def _usual_frame(body):
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _chunked_frame(body):
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body)


@st.composite
def requests(draw):
    """One request with one thing wrong at most that a server may look at: else few would reach the application."""
    odd = draw(st.sampled_from(_PARTS) | st.none())
    method = draw(_odd_methods if odd == "method" else _usual_methods)
    target = draw(_odd_targets if odd == "target" else _usual_targets)
    version = draw(st.sampled_from(_VERSIONS)) if odd == "version" else b"HTTP/1.1"
    host = [] if odd == "host" else [b"Host: localhost"]
    close = [] if odd == "close" else [b"Connection: close"]
    headers = draw(st.lists(_odd_headers if odd == "headers" else _usual_headers, max_size=4))
    frame = draw(st.sampled_from(_FRAMES if odd == "frame" else [_usual_frame, _usual_frame, _chunked_frame]))
    end = b"\n" if odd == "end" else b"\r\n"
    line = b" ".join((method, target, version))
    return end.join((line, *host, *close, *headers, b"")) + frame(draw(_bodies))
