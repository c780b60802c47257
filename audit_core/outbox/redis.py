"""A Redis Stream as a queue: each event is an entry, which is deleted once it is sealed.

What is in the stream is not sealed yet, or its removal was interrupted. How safe it is there is a matter of the
server's settings: see ``redis_settings`` and docs/queues.md.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from audit_core.errors import ConfigurationError
from audit_core.event import AuditEvent
from audit_core.extras import lacking
from audit_core.outbox import BYTES_AT_ONCE, Waiting
from audit_core.outbox.queue import Loss, Mark, Numbers, OfNoTransaction, Taken, split_url
from audit_core.outbox.redis_errors import explain
from audit_core.outbox.redis_settings import check_settings
from audit_core.postgres.doctor import Check
from audit_core.waiting import read_waiting

STREAM = "audit"
PAGE = 500
WAIT_SECONDS = 5.0  # for an answer, and for a connection
EMPTIED = "The queue was emptied, or another one has taken its place: how much was lost with it nobody knows."
WENT_BACK = (
    "The queue has gone back to before what was read of it already (a crash, a replica or a backup that lacks its "
    "end): how much was lost with that nobody knows."
)
RESTARTED = (
    "The server was started again, or another one answers in its place. What it had not written to its disk is lost; "
    "what processes that go on had sent is counted."
)
SHARED = "{name} is the queue of the trail {other}, and each trail needs its own: add ?stream=name to the URL."


class _State(NamedTuple):
    """What the server says of the queue."""

    generation: str | None  # made anew with each queue; None where it is missing
    last: str  # the highest id that was ever given out
    length: int
    server: str | None  # made anew with each start; None where nobody may ask


class RedisQueue(OfNoTransaction):
    """Events that wait in a stream of Redis 5 or later. ``url`` may name it: ``redis://host:6379/0?stream=audit``."""

    def __init__(self, url: str) -> None:
        """Nothing is opened yet. Raises ConfigurationError for a URL that is none, and without redis-py."""
        _require_redis()
        self._url, self._stream = _split_stream(url)
        self._owner = f"{self._stream}:trail"  # the trail that it belongs to, and its generation
        self.key = f"redis {self._stream}"
        self.name = f"{_without_user(self._url)} ({self._stream})"
        self._numbers = Numbers()
        self._origin: str | None = None
        self._is_ours_alone = False
        self._open: Any = None  # knows by itself when it has come into a forked child
        self._client()

    # -- as an outbox ------------------------------------------------------------------------------------------

    def create(self) -> None:
        if not self.is_created():
            with self._asked() as client, client.pipeline() as pipe:
                pipe.xgroup_create(self._stream, "audit", mkstream=True)
                pipe.xgroup_destroy(self._stream, "audit")
                pipe.execute()

    def is_created(self) -> bool:
        """Whoever may only add to it cannot look, and finds out with the first event."""
        import redis

        with self._asked() as client:
            try:
                kind = _text(client.type(self._stream))
            except redis.exceptions.NoPermissionError:
                return True
        if kind not in {"stream", "none"}:
            raise ConfigurationError(f"{self.name}: the key holds a {kind}: name another one with ?stream=name.")
        return kind == "stream"

    def put_json(self, events: Iterable[str], connection: Any) -> None:
        """In one round trip, all or none."""
        del connection
        texts = list(events)
        marks = self._numbers.attempt(len(texts))
        with self._asked() as client, client.pipeline() as pipe:
            for text, mark in zip(texts, marks, strict=True):
                pipe.xadd(self._stream, {"event": text, "mark": str(mark)})
            pipe.execute()
        self._numbers.taken(len(texts))

    def take(self, limit: int, connection: Any = None) -> list[Waiting]:
        del connection
        return [waiting for waiting, _ in self._entries("-", limit)]

    def remove(self, ids: Sequence[Any], connection: Any = None) -> None:
        """By their ids, and not all up to the last: a server that went back may give out lower ids anew."""
        del connection
        with self._asked() as client:
            for start in range(0, len(ids), PAGE):
                client.xdel(self._stream, *ids[start : start + PAGE])

    def waiting(self) -> Iterator[AuditEvent]:
        first = "-"
        while page := self._page(first, PAGE):
            for waiting, _ in page:
                yield read_waiting(waiting.event)
            first = f"({page[-1][0].id}"

    def close(self) -> None:
        client, self._open = self._open, None
        if client is not None:
            client.close()

    # -- as a queue --------------------------------------------------------------------------------------------

    def has_news(self, place: str | None) -> bool:
        state = self._state()
        return place is None or state.length > 0 or _as_place(state) != place

    def claim(self, origin: str | None) -> None:
        self._origin = origin
        with self._asked() as client:
            # A server without memory sets nothing, and whoever seals makes room.
            if (owner := client.get(self._owner)) is None:
                self._is_ours_alone = True  # nobody has taken from it before
                if origin is None:
                    return
                client.set(self._owner, f"{origin} {secrets.token_hex(8)}", nx=True)
                owner = client.get(self._owner)
        if (other := _text(owner).rpartition(" ")[0]) != origin:
            raise ConfigurationError(SHARED.format(name=self.name, other=other))

    def take_after(self, place: str | None, limit: int) -> Taken:
        """From the beginning: what was read is deleted, and what an old state of the server brings back is known."""
        self._is_ours_alone = self._is_ours_alone and place is None
        state = self._state()
        if state.generation is None and self._origin is not None:
            self.claim(self._origin)
            state = self._state()
        found = self._entries("-", limit)
        losses, notes = _compare(_read_place(place), state)
        return Taken(
            [waiting for waiting, _ in found],
            [mark for _, mark in found],
            _as_place(state),
            losses,
            notes,
            cut=len(found) == limit or _is_much(found),
            is_whole=self._is_ours_alone,
        )

    def waiting_after(self, place: str | None) -> Iterator[AuditEvent]:
        del place
        return self.waiting()

    def examine(self) -> Iterator[Check]:
        with self._asked() as client:
            yield from check_settings(client)

    # -- the server --------------------------------------------------------------------------------------------

    def _client(self) -> Any:
        if self._open is None:
            self._open = _connect(self._url, self.name)
        return self._open

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        """Give Redis's errors one sentence with the cure."""
        import redis

        try:
            yield self._client()
        except redis.exceptions.RedisError as error:
            raise explain(error, self.name) from error

    def _state(self) -> _State:
        with self._asked() as client, client.pipeline(transaction=False) as pipe:
            pipe.get(self._owner)
            pipe.xinfo_stream(self._stream)
            pipe.info("server")
            owner, stream, server = pipe.execute(raise_on_error=False)
            if isinstance(owner, Exception):
                raise owner
            if isinstance(stream, Exception):
                if "no such key" not in str(stream):
                    raise stream
                stream = {"last-generated-id": "0-0", "length": 0}
        return _State(
            _text(owner) if owner else None,
            _text(stream["last-generated-id"]),
            int(stream["length"]),
            None if isinstance(server, Exception) else _text(server["run_id"]),
        )

    def _entries(self, first: str, limit: int) -> list[tuple[Waiting, Mark | None]]:
        """At most ``limit``, or fewer that come to BYTES_AT_ONCE."""
        found: list[tuple[Waiting, Mark | None]] = []
        while len(found) < limit and not _is_much(found):
            wanted = min(PAGE, limit - len(found))
            page = self._page(first, wanted)
            found += page
            if len(page) < wanted:
                break
            first = f"({page[-1][0].id}"
        return found

    def _page(self, first: str, count: int) -> list[tuple[Waiting, Mark | None]]:
        with self._asked() as client:
            return [_read(id_, fields) for id_, fields in client.xrange(self._stream, min=first, count=count)]


def _read(id_: bytes, fields: dict[bytes, bytes] | None) -> tuple[Waiting, Mark | None]:
    """Whoever may write there may write anything."""
    given = fields or {}
    text = given.get(b"event", repr(given).encode()).decode("utf-8", "surrogateescape")
    return Waiting(_text(id_), text), Mark.parse(given.get(b"mark", b"").decode("ascii", "replace"))


def _is_much(found: Sequence[tuple[Waiting, Mark | None]]) -> bool:
    return sum(len(waiting.event) for waiting, _ in found) >= BYTES_AT_ONCE // 4


def _compare(before: _State | None, now: _State) -> tuple[list[Loss], list[dict[str, Any]]]:
    """What has become of the queue since ``before``."""
    if before is None or before.generation is None:  # nothing was sealed before that
        return [], []
    if before.generation != now.generation:
        return [Loss(None, EMPTIED)], []
    if _number(now.last) < _number(before.last):
        return [Loss(None, WENT_BACK)], []
    if None not in {before.server, now.server} and before.server != now.server:
        return [], [{"why": RESTARTED, "before": before.server, "now": now.server}]
    return [], []


def _as_place(state: _State) -> str:
    return json.dumps({"generation": state.generation, "last": state.last, "server": state.server})


def _read_place(place: str | None) -> _State | None:
    """What somebody has changed in the database says nothing."""
    try:
        found = json.loads(place or "null")
        return _State(found["generation"], str(found["last"]), 0, found["server"])
    except (ValueError, TypeError, LookupError):
        return None


def _number(id_: str) -> tuple[int, int]:
    try:
        milliseconds, _, number = id_.partition("-")
        return int(milliseconds), int(number or 0)
    except ValueError:
        return 0, 0


def _text(found: Any) -> str:
    return found.decode("utf-8", "surrogateescape") if isinstance(found, bytes) else str(found)


def _connect(url: str, name: str) -> Any:
    """One more try where a connection was cut while nobody used it; an event that was sent twice is sealed once."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once_more = Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,))
    try:
        client = redis.Redis.from_url(
            url, retry=once_more, protocol=2, decode_responses=False,
            socket_timeout=WAIT_SECONDS, socket_connect_timeout=WAIT_SECONDS,
        )  # fmt: skip
        client.connection_pool.make_connection()
    except (ValueError, TypeError, redis.exceptions.RedisError) as error:
        raise ConfigurationError(
            f"The URL of the queue {name} cannot be used ({error}): it is redis://user:password@host:6379/0?stream=name."
        ) from None
    return client


def _split_stream(url: str) -> tuple[str, str]:
    """The URL as redis-py takes it, and the stream that ours names besides."""
    parts = split_url(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    stream = dict(options).get("stream", STREAM)
    if not stream:
        raise ConfigurationError("The stream of a queue has a name: ?stream=audit.")
    rest = urlencode([option for option in options if option[0] != "stream"], quote_via=quote)
    return urlunsplit(parts._replace(query=rest)), stream


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _require_redis() -> None:
    try:
        import redis  # noqa: F401
    except ImportError:
        raise ConfigurationError(lacking("A queue in Redis", "redis-py", "redis")) from None
