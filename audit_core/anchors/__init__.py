"""Where checkpoints are kept that whoever runs the database cannot rewrite: one file per technology, one protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import itemgetter
from typing import Protocol

from audit_core.canonical import format_timestamp
from audit_core.chain import AuditChain
from audit_core.chain.known import Answer, Kept, tree_of
from audit_core.errors import AuditError, ConfigurationError, IntegrityError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.verify import Finding
from audit_core.sqlite import in_sqlite

__all__ = [
    "Anchor", "ContradictionError", "Kept", "SearchableAnchor", "ask", "ask_all", "ask_for", "in_sqlite", "reading",
]  # fmt: skip


def reading(chain: AuditChain) -> AbstractContextManager[object]:
    """What a thread that anchors holds while it reads the chain: a fork waits for SQLite, and for nobody's network."""
    return in_sqlite if chain.store.seals_in_transaction else nullcontext()


class Anchor(Protocol):
    """Keeps the signed checkpoints of one chain.

    An attacker who can modify an anchor can hide what it holds, so that nothing vouches for the trail, and accuse an
    honest one. A trail that was rewritten he can make look right only if he holds the signing key as well.
    """

    @property
    def name(self) -> str:
        """Which one it is, without passwords: messages show it."""

    def keep(self, note: str, chain: AuditChain) -> None:
        """Keep the newest checkpoint of ``chain``, a signed note; one that it has already it keeps once.

        Returns when it is kept. Raises StoreUnavailableError, ConfigurationError; ContradictionError when it has seen
        what the chain does not extend.
        """

    def kept(self, chain: AuditChain) -> Iterator[Kept]:
        """What it holds, the largest tree first. Raises as ``keep`` does."""


class SearchableAnchor(Anchor, Protocol):
    """One that need not look through all that it holds for the newest of it."""

    def kept_from(self, chain: AuditChain, least: int) -> Iterator[Kept]:
        """What it holds of trees of ``least`` events or more, the largest first. Raises as ``keep`` does."""


class ContradictionError(IntegrityError):
    """An anchor has seen what the chain does not extend."""

    def __init__(self, finding: Finding, size: int = 0) -> None:
        """The ``finding`` says what it has seen, and where; ``size`` is the number of events of that tree."""
        super().__init__(f"The anchor {finding.where} has seen another history of this trail: {finding}.")
        self.finding, self.size = finding, size


def ask_all(
    anchors: Iterable[Anchor], chain: AuditChain, as_of: datetime | None = None, max_age: timedelta | None = None
) -> list[Answer]:
    """See ``ask``; with ``max_age`` it is a finding that none has a checkpoint that is younger.

    It is a warning where none can tell. Where there is no anchor to ask, the last event has to be younger.
    """
    answers = [ask(anchor, chain, as_of) for anchor in anchors]
    if max_age is not None:
        newest, what = _newest(answers, chain) if answers else chain.last_time(), "anchored" if answers else "sealed"
        limit = (as_of or datetime.now(UTC)) - max_age
        if newest is None or newest < limit:
            got = f"none since {format_timestamp(newest)}" if newest else "none with a time"
            untold = bool(answers) and newest is None and not any(map(_can_tell, answers))
            kind = "anchor.undated" if untold else "silent"
            expected = f"something {what} after {format_timestamp(limit)}"
            finding = Finding(kind, None, expected, got, warning=untold)
            answers.append(Answer("the anchors", findings=(finding,)))
    return answers


def _newest(answers: Iterable[Answer], chain: AuditChain) -> datetime | None:
    """Since when the largest tree is there. Whoever forged the keys that the trail names is found by verification."""
    try:
        ring = chain.keyring
    except (ConfigurationError, IntegrityError):
        ring = None
    return max((since for answer in answers if (since := _since(answer.kept, ring))), default=None)


def _can_tell(answer: Answer) -> bool:
    """Whether it would have a time for what is kept there: one that is down has none, and neither has a log."""
    return answer.trouble is None and all(one.kept_at for one in answer.kept)


def _since(kept: Iterable[Kept], ring: Keyring | None) -> datetime | None:
    """Nothing else there says that the trail is alive: whoever stops it may put there again what it was.

    What a restored backup has left behind says nothing of today.
    """
    timed = [(-one.size, one.kept_at, one) for one in kept if one.kept_at]
    for _, since, one in sorted(timed, key=itemgetter(0, 1)):
        if isinstance(one.what, Checkpoint):
            return since
        if ring is not None and (tree := tree_of(one, ring)) is not None and not ring.abandons(tree):
            return since
    return None


def ask_for(anchor: Anchor, chain: AuditChain, least: int) -> Answer:
    """What it holds of trees of ``least`` events or more, as far as they are signed. Raises nothing, as ``ask``.

    A witness holds nothing, and would be shown what it has to refuse.
    """
    if (kept_from := getattr(anchor, "kept_from", None)) is None:
        answer = ask(anchor, chain)
        return replace(answer, kept=[one for one in answer.kept if one.size >= least])
    return _answer(anchor, lambda: kept_from(chain, least))


def ask(anchor: Anchor, chain: AuditChain, as_of: datetime | None = None, *, at_most: int | None = None) -> Answer:
    """What the anchor holds, which had it already at ``as_of``; ``at_most`` so many checkpoints, of the largest trees.

    Raises nothing: an anchor may be down, or lie.
    """
    answer = _answer(anchor, lambda: anchor.kept(chain) if at_most is None else islice(_trees(anchor, chain), at_most))
    if as_of is None:
        return answer
    return replace(answer, kept=[one for one in answer.kept if one.kept_at is None or one.kept_at <= as_of])


def _trees(anchor: Anchor, chain: AuditChain) -> Iterator[Kept]:
    """What lies there may have any name, and come before all that is a checkpoint."""
    return (one for one in anchor.kept(chain) if one.size)


def _answer(anchor: Anchor, read: Callable[[], Iterable[Kept]]) -> Answer:
    kept: list[Kept] = []
    try:
        kept.extend(read())  # one by one: what came before a failure counts
    except ContradictionError as error:
        return Answer(anchor.name, kept, (error.finding,), seen=error.size)
    except AuditError as error:
        return Answer(anchor.name, kept, trouble=str(error))
    except Exception as error:  # noqa: BLE001 - an application may have an anchor of its own
        return Answer(anchor.name, kept, trouble=f"{type(error).__name__}: {error}")
    return Answer(anchor.name, kept)
