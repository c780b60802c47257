"""Redis or Kafka in the outbox's place, for events that belong to no transaction.

Between commit and seal only the queue protects an event, and a queue may lose its end: a crash before it has written to
its disk, a replica that lacks the last events and is promoted, an old backup. So each process numbers what it sends.
The sealer keeps in the store, in the transaction that seals, how far it has read and whom it has heard; what a queue
has lost becomes the event of a gap, counted where somebody who sent it goes on.

An attacker who may write to a queue can change, drop or invent events that are not sealed yet, and can tell of gaps
that there are not.
"""

from __future__ import annotations

import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self
from urllib.parse import SplitResult, urlsplit

from audit_core.errors import ConfigurationError
from audit_core.event import AuditEvent
from audit_core.outbox import Outbox, Waiting
from audit_core.process.forking import abandon_in_children
from audit_core.rows import to_json

if TYPE_CHECKING:
    from audit_core.postgres.doctor import Check

PLACE = ""  # the part of a queue's position that says how far it was read; the others are of those who send
RENEW_SECONDS = 7 * 86_400.0  # after such a silence a process counts anew: the sealer may have forgotten it
FORGET_DAYS = 30  # of silence
UNREADABLE = (
    "The URL of the queue cannot be used: it is redis://user:password@host:6379/0?stream=name, or "
    "kafka://user:password@host:9092/topic, and /, ?, #, [, ] and @ in a user's name or password are written as %2F, "
    "%3F, %23, %5B, %5D and %40."
)
_MARK = re.compile(r"([0-9a-f]{16}) (\d{1,15}) (\d{1,15})", re.ASCII)


def split_url(url: str) -> SplitResult:
    """Its parts. Raises ConfigurationError for a URL that cannot be read: any piece of that may be a password's."""
    try:
        parts = urlsplit(url)
        is_whole = not parts.fragment and (parts.scheme == "kafka" or parts.port != 0)  # Kafka has several ports
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ConfigurationError(UNREADABLE)
    return parts


class Mark(NamedTuple):
    """Who has sent an event, in which of his attempts, and as his how many-eth that was taken."""

    sender: str
    attempt: int
    number: int

    def __str__(self) -> str:
        return " ".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for what is none of ours."""
        found = _MARK.fullmatch(text)
        return cls(found[1], int(found[2]), int(found[3])) if found else None


class Loss(NamedTuple):
    """What a queue has lost: how many events, where that is known, and how it shows."""

    events: int | None
    why: str


class Taken(NamedTuple):
    """What a look has found; ``place`` is how far it went, as text."""

    waiting: Sequence[Waiting]
    marks: Sequence[Mark | None]
    place: str
    losses: Sequence[Loss] = ()
    notes: Sequence[Mapping[str, Any]] = ()  # what else there is to record, and loses nothing by itself
    cut: bool = False  # whether there may be more
    is_whole: bool = True  # whether everything is there that was ever sent, unless it was lost or taken


class Queue(Outbox, Protocol):
    """An outbox that no transaction of a database writes to."""

    name: str  # which one it is, without a password
    key: str  # by which its position is kept, however its host is called

    def has_news(self, place: str | None) -> bool:
        """Whether a look would find anything, as the first one does.

        Raises QueueUnavailableError, ConfigurationError.
        """

    def claim(self, origin: str | None) -> None:
        """Let no other trail's sealer take from it; None is a trail that has not begun.

        Raises ConfigurationError where one does.
        """

    def take_after(self, place: str | None, limit: int) -> Taken:
        """Like ``take``, and what has become of the queue since the sealer was at ``place``; None is its first look."""

    def waiting_after(self, place: str | None) -> Iterator[AuditEvent]:
        """Every event behind ``place``, oldest first, in constant memory."""

    def examine(self) -> Iterator[Check]:
        """For ``audit doctor``: what of its settings can lose events."""


class OfNoTransaction(ABC):
    """What of an outbox is the same in every queue: it is in no database, and takes events by themselves."""

    @abstractmethod
    def put_json(self, events: Iterable[str], connection: Any) -> None:
        """Events as the outbox has them."""

    def owns(self, connection: Any) -> bool:
        """No application's connection is to a queue."""
        del connection
        return False

    def commit(self, events: Sequence[AuditEvent]) -> None:
        """Take events, which are durable then."""
        self.put_json(map(to_json, events), None)

    def reserve(self, connection: Any) -> None:
        """Nobody is refused here because somebody else has written."""
        del connection

    def put(self, events: Sequence[AuditEvent], connection: Any) -> None:
        """The same: there is no transaction to wait for."""
        del connection
        self.commit(events)


class Numbers:
    """How this process numbers what it sends. An attempt whose answer was lost gives its numbers to the next one."""

    def __init__(self) -> None:
        self.abandon()
        abandon_in_children(self)

    def abandon(self) -> None:
        """In a forked child: another process."""
        self._sender, self._attempt, self._taken, self._at = secrets.token_hex(8), 0, 0, time.monotonic()

    @property
    def sender(self) -> str:
        """By which the sealer knows this process."""
        return self._sender

    def attempt(self, count: int) -> list[Mark]:
        """The marks of the next ``count`` events."""
        if time.monotonic() - self._at > RENEW_SECONDS:
            self.abandon()
        self._attempt += 1
        return [Mark(self._sender, self._attempt, self._taken + n) for n in range(1, count + 1)]

    def taken(self, count: int) -> None:
        """The queue has acknowledged them."""
        self._taken += count
        self._at = time.monotonic()


def missing(marks: Iterable[Mark | None], heard: Mapping[str, str]) -> tuple[dict[str, int], dict[str, str]]:
    """How many events of which sender are not there, and up to where each was heard.

    In the order of the queue. What was heard before is passed over: an attempt whose answer was lost, or an old
    state of the queue, brings it again.
    """
    last = {sender: found[1:] for sender, text in heard.items() if (found := Mark.parse(f"{sender} {text}"))}
    lost: dict[str, int] = {}
    for mark in marks:
        if mark is None:
            continue
        before = last.get(mark.sender, (0, 0))
        if mark[1:] <= before:
            continue
        if (count := mark.number - 1 - before[1]) > 0:
            lost[mark.sender] = lost.get(mark.sender, 0) + count
        last[mark.sender] = mark[1:]
    return lost, {sender: f"{attempt} {number}" for sender, (attempt, number) in last.items()}


def senders_of(marks: Iterable[Mark | None]) -> Collection[str]:
    """Who has sent something."""
    return {mark.sender for mark in marks if mark is not None}
