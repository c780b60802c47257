"""Verify what a store holds, with whatever the caller knows that the trail itself could not have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, starmap
from typing import Any

from audit_core.archives.shelf import Shelf
from audit_core.canonical import encode_record
from audit_core.chain.archived import ArchivedEvents, Unread
from audit_core.chain.created import created_details
from audit_core.chain.hashing import LOWEST, OpenStore, hash_chain
from audit_core.chain.known import Answer
from audit_core.chain.life import check_keys, check_life
from audit_core.chain.seen import Seen
from audit_core.chain.trust import Trust, find_trust
from audit_core.chain.walking import Walker
from audit_core.errors import AuditError, ConfigurationError, Cures
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.hashed import Hashed
from audit_core.integrity.known_trees import KnownTree
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.note import Signer, VerifierKey, parse_note, spelled
from audit_core.integrity.statement import ABOUT, ARCHIVED, PURGED
from audit_core.integrity.verify import Finding, Result
from audit_core.query import EventQuery
from audit_core.rows import Row
from audit_core.stores import AuditStore, Extent

FINDINGS_AT_MOST = 100_000  # kept one by one; further ones are counted
PROGRESS_EVERY = 5_000  # events
TRIES = 3  # of a verification during which months are archived or purged
NOT_BEGUN = (
    "The trail is empty: there is nothing to verify yet. {} or the first event begins it. If it had events, they were "
    "removed: verify it with the verifier key, or with a checkpoint that was kept elsewhere."
)

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``AuditChain.verify`` found. ``size`` events, of which ``anchored`` are vouched for from outside."""

    result: Result
    findings: tuple[Finding, ...]
    origin: str
    size: int
    anchored: int = 0
    pinned: bool = False  # whether the key came from outside the trail
    warnings: tuple[Finding, ...] = ()
    start: int = 0  # events before it were not looked at: they were verified before
    seen: Seen | None = None  # what to go on from next time; None where something is wrong
    unread: tuple[Unread, ...] = ()  # archived events that were compared by their hashes alone
    erasures: int = 0  # statements that values beside the records were erased
    keys: tuple[VerifierKey, ...] = ()  # of the trail, in order, as far as they were met
    replaced_at: int = 0  # the sequence of the event that named the last of them

    def __bool__(self) -> bool:
        """Only OK is true: what is consistent, and vouched for by nobody outside, is nothing to rely on."""
        return self.result is Result.OK


def verify_store(
    store: AuditStore,
    key: VerifierKey | None,
    answers: Sequence[Answer],
    own: Signer | None,
    progress: Progress,
    *,
    jobs: int = 1,
    open_store: OpenStore | None = None,
    seen: Seen | None = None,
    whole: bool = False,
    shelf: Shelf | None = None,
) -> Verification:
    """See ``AuditChain.verify``. Whoever has been asked was asked before: what is sealed since is more than he has."""
    shelf, tries = shelf or Shelf(), 0
    while True:
        before = _moved(store)
        found = _verify(
            store, key, answers, own, progress, jobs=jobs, open_store=open_store, seen=seen, whole=whole, shelf=shelf
        )
        tries += 1
        # A month that was archived meanwhile may have been read neither here nor there; one that was purged, nowhere.
        if found.result is not Result.FAILED or tries == TRIES or _moved(store) == before:
            return found


def _moved(store: AuditStore) -> int:
    """How many statements there are of months that were archived or purged."""
    kinds = (EventQuery(action=kind, resource_type=ABOUT) for kind in (ARCHIVED, PURGED))
    try:
        return sum(1 for query in kinds for _ in store.select(query))
    except AuditError:  # a column is missing, say
        return 0


def _verify(
    store: AuditStore,
    key: VerifierKey | None,
    answers: Sequence[Answer],
    own: Signer | None,
    progress: Progress,
    *,
    jobs: int,
    open_store: OpenStore | None,
    seen: Seen | None,
    whole: bool,
    shelf: Shelf,
) -> Verification:
    damage = list(store.check_schema())
    begun = _look(store, key, answers, damage)
    if isinstance(begun, Verification):
        return begun
    extent, created = begun
    trust = find_trust(store, created, key, own, answers)
    if isinstance(trust, Finding):
        return Verification(Result.FAILED, (*damage, trust), "", extent.events)
    begin = None if whole or seen is None or not _goes_on(store, seen, trust) else seen
    start = LOWEST if begin is None else begin.tree.size
    rows = hash_chain(store, extent.events, trust.origin, jobs=jobs, open_store=open_store, start=start)
    walker = Walker(store, trust.first, trust.known, trust.claimed, begin)
    archived = ArchivedEvents(store, shelf, trust.claimed, start)
    rows = archived.merge(rows, extent.events)
    walk = chain(
        _findings(walker, trust, created, extent, _reporting(rows, extent.events, progress)),
        archived.check(walker.ring),
    )
    readable = _readable(walk, damaged=bool(damage))
    found = _summarise(chain(damage, trust.strange, readable), trust, walker.known, extent.events)
    _doubt(found, trust, created.get("origin"), partial(_is_sound_alone, store, shelf))
    seen_now = walker.seen if found.result is not Result.FAILED else None
    ring = walker.ring
    return replace(
        found, start=max(0, start), seen=seen_now, unread=archived.unread(), erasures=len(ring.erasures),
        keys=tuple(ring.keys), replaced_at=ring.reigns[-1].sequence,
    )  # fmt: skip


def _doubt(found: Verification, trust: Trust, origin: object, is_sound_alone: Callable[[], bool]) -> None:
    """Raises ConfigurationError where the key may be the wrong one, and nothing else is wrong."""
    if trust.doubt is not None and found.result is not Result.FAILED:
        raise trust.doubt
    if _is_of_another(found, trust) and is_sound_alone():
        raise ConfigurationError(
            f"This trail is {spelled(str(origin))}, and the key that you gave is of the trail {spelled(trust.origin)}. "
            "If this is to be that one, somebody has put another trail in its place: give a checkpoint of it that was "
            "kept elsewhere, with --checkpoint or --anchor, and that is a finding. Only if you meant this one, give "
            "the key that you were handed for this one."
        )


def _is_of_another(found: Verification, trust: Trust) -> bool:
    """Whether nothing is wrong but that the key is of another trail, of which nobody keeps a checkpoint here."""
    kinds = {finding.kind for finding in found.findings}
    return "origin" in kinds and kinds <= {"origin", "key"} and not trust.known


def _is_sound_alone(store: AuditStore, shelf: Shelf) -> bool:
    """Whether it verifies under the key that it names itself: who has changed the first event is found by that."""
    try:
        found = _verify(store, None, (), None, None, jobs=1, open_store=None, seen=None, whole=True, shelf=shelf)
    except ConfigurationError:
        return False
    return found.result is not Result.FAILED


def _look(
    store: AuditStore, key: VerifierKey | None, answers: Sequence[Answer], damage: Sequence[Finding]
) -> tuple[Extent, dict[str, Any]] | Verification:
    """How far the chain reaches, and what its first record says; the verdict where there is nothing to walk over.

    Raises ConfigurationError where that is no verdict.
    """
    is_known = any(answer.kept or answer.findings for answer in answers)
    try:
        extent, created = store.extent(), created_details(store)
    except ConfigurationError:
        if not damage or (not is_known and any(finding.kind == "empty" for finding in damage)):
            raise
        return Verification(Result.FAILED, tuple(damage), "", 0, pinned=key is not None)
    if extent == (0, 0) and key is None and not is_known and not damage and not any(store.check_indexes()):
        raise ConfigurationError(NOT_BEGUN.format(Cures.begin_trail))
    return extent, created


def _goes_on(store: AuditStore, seen: Seen, trust: Trust) -> bool:
    """Whether what was seen is of this chain, and its last event still stands there: else all of it is looked at."""
    checkpoint, size = Checkpoint.parse(parse_note(seen.note)[0]), seen.tree.size
    is_known = any(known.checkpoint == checkpoint for known in trust.known)
    return is_known and store.leaf_hashes(size - 1, size) == [seen.last_hash]


def _findings(
    walker: Walker, trust: Trust, created: Mapping[str, Any], extent: Extent, rows: Iterator[Hashed]
) -> Iterator[Finding]:
    store = walker.store
    yield from _check_created(created, trust.first)
    if created.get("origin") != trust.origin and _is_first(store.row(0), created):
        return  # another trail, in which every record would be called changed
    if walker.begin is not None:
        yield from walker.walk(rows, extent.signed)
    else:
        with ThreadPoolExecutor(1, "audit-indexes") as beside:  # the database compares while we hash
            indexes = beside.submit(lambda: list(islice(store.check_indexes(), FINDINGS_AT_MOST)))
            yield from walker.walk(rows, extent.signed)
            yield from starmap(_duplicate, store.duplicate_ids())
            yield from indexes.result()
    yield from check_keys(walker.ring, trust.pinned)
    yield from check_life(walker.ring, walker.known, trust.pinned)


def _is_first(row: Row | None, created: Mapping[str, Any]) -> bool:
    """Whether this is the first record of some trail, as it was sealed."""
    try:
        return row is not None and leaf_hash(encode_record(row[:-1], created["origin"])).hex() == row[-1]
    except (LookupError, TypeError, ValueError):
        return False


def _check_created(created: Mapping[str, Any], key: VerifierKey) -> Iterator[Finding]:
    if created.get("origin") != key.name:
        yield Finding("origin", 0, key.name, str(created.get("origin", "nothing")))
    if created.get("key") != str(key):
        yield Finding("key", 0, str(key), str(created.get("key", "nothing")))


def _readable(findings: Iterator[Finding], *, damaged: bool) -> Iterator[Finding]:
    """Up to where a column is missing: what is wrong with the schema says so already."""
    try:
        yield from findings
    except ConfigurationError:
        if not damaged:
            raise


def _duplicate(event_id: object, sequence: object) -> Finding:
    place = sequence if isinstance(sequence, int) else None
    return Finding("duplicate", place, "every event once", f"{event_id} again")


def _summarise(findings: Iterator[Finding], trust: Trust, known: Sequence[KnownTree], size: int) -> Verification:
    found = list(islice(findings, FINDINGS_AT_MOST))
    if more := sum(1 for _ in findings):
        found.append(Finding("more", None, "no further findings", f"{more} more"))
    failures = tuple(finding for finding in found if not finding.warning)
    warnings = tuple(finding for finding in found if finding.warning)
    anchored = max((one.size for one in known), default=0)
    result = Result.FAILED if failures else Result.OK if anchored else Result.UNANCHORED
    return Verification(result, failures, trust.origin, size, anchored, trust.pinned is not None, warnings)


def _reporting(rows: Iterable[Hashed], total: int, progress: Progress) -> Iterator[Hashed]:
    for count, row in enumerate(rows, 1):
        if progress and count % PROGRESS_EVERY == 0:
            progress(count, total)
        yield row
    if progress:
        progress(total, total)
