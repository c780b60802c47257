"""Several chains under one roof: by tenant, region or service.

The roof is a trail as any other. Its events are the checkpoints of the chains, so that one anchor of the roof serves
them all, and a chain that is rolled back, removed or exchanged contradicts it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from audit_core.anchors import Anchor, reading
from audit_core.chain import AuditChain
from audit_core.chain.known import Kept, tree_of
from audit_core.chain.verification import Verification
from audit_core.errors import AuditError, ConfigurationError, IntegrityError, StoreUnavailableError, nearest
from audit_core.event import AuditEvent
from audit_core.history import without_repeats
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.note import Signer, VerifierKey, parse_note
from audit_core.integrity.verify import Finding, Result
from audit_core.query import EventQuery, place_of
from audit_core.rows import from_row
from audit_core.trail import AuditTrail
from audit_core.urls import without_password

KEPT, CHAIN = "checkpoint.kept", "chain"  # the action of the roof's events, and their resource
WAIT_SECONDS = 10.0  # for the roof to take a checkpoint
REPEATED = timedelta(minutes=10)  # within which a checkpoint that another process has put there is looked for


class RoofAnchor:
    """Keeps checkpoints as events of the roof.

    Who may record in the roof can accuse an honest chain, and can excuse none: what was kept stays in the roof's chain.
    Who holds the roof's key and database can leave out what its own anchors do not have.
    """

    def __init__(self, roof: AuditTrail, below: int | None = None) -> None:
        """With ``below`` what the roof's events before that sequence say is all that it has."""
        self._roof, self._below = roof, below
        self.name = f"the roof {without_password(roof.url)}"

    def keep(self, note: str, chain: AuditChain) -> None:
        """See ``Anchor``. It is sealed when the roof's sealer has come to it."""
        if chain.store is self._roof.store:
            raise ConfigurationError(
                "The roof vouches for the chains under it, and not for itself: it needs an anchor."
            )
        origin = _origin_of(note)
        recent = self._sealed(_about(origin, datetime.now(UTC) - REPEATED))
        if any(event.details.get("note") == note for _, event in recent):
            return
        made = replace(self._roof.event(KEPT), resource_type=CHAIN, resource_id=origin, details={"note": note})
        try:
            self._roof.submit_event(made).result(WAIT_SECONDS)
        except NotYetError:
            raise StoreUnavailableError(
                f"{self.name} has not taken the checkpoint within {WAIT_SECONDS:g} s."
            ) from None

    def kept(self, chain: AuditChain) -> Iterator[Kept]:
        """See ``Anchor``. Its time is that of whoever kept it, and attests nothing."""
        yield from (kept for _, kept in self.kept_at(chain))

    def kept_at(self, chain: AuditChain) -> Iterator[tuple[int, Kept]]:
        """With the sequence of the roof's event."""
        if (origin := chain.origin) is not None:
            for place, event in self._sealed(_about(origin)):
                yield place, Kept(_note_of(event, origin), event.timestamp)

    def origins(self) -> dict[str, int]:
        """Those of all chains of which it has a checkpoint, each with the sequence of the first."""
        found: dict[str, int] = {}
        for place, event in self._sealed(EventQuery(action=KEPT, newest_first=False)):
            if _note_of(event, origin := str(event.resource_id)):
                found.setdefault(origin, place)
        return found

    def _sealed(self, query: EventQuery) -> Iterator[tuple[int, AuditEvent]]:
        try:
            with reading(self._roof.chain):
                for event in map(from_row, self._roof.chain.whole.select(query)):
                    if event.sequence is not None and (self._below is None or event.sequence < self._below):
                        yield event.sequence, event
        except (ValueError, TypeError) as error:
            raise IntegrityError("A row of the roof is no event: `audit --trails FILE verify` names it.") from error


@dataclass(frozen=True, slots=True)
class TrailsVerification:
    """What ``AuditTrails.verify`` found: of the roof, of each chain, and of which chains there are.

    A chain that could not be verified has the error.
    """

    roof: Verification
    chains: dict[str, Verification | AuditError]
    findings: tuple[Finding, ...] = ()

    @property
    def result(self) -> Result | None:
        """The worst of all; None where nothing failed, and something could not be verified."""
        results = {one.result for one in (self.roof, *self.chains.values()) if isinstance(one, Verification)}
        if self.findings or Result.FAILED in results:
            return Result.FAILED
        if any(isinstance(one, AuditError) for one in self.chains.values()):
            return None
        return Result.UNANCHORED if Result.UNANCHORED in results else Result.OK

    def __bool__(self) -> bool:
        """Only OK is true."""
        return self.result is Result.OK


class AuditTrails:
    """Chains by their names, ``AuditTrails({"north": url, "south": url}, roof=url, anchors=[...])``.

    ``anchors`` are the roof's; each chain is anchored in the roof, every ``anchor_every`` seconds. ``roof_signer`` is
    the roof's key, if not this user's. ``archives`` are where archived months of all of them lie now, if not where they
    were written to. ``options`` are those of each chain's ``AuditTrail``. Raises ConfigurationError.
    """

    def __init__(
        self,
        chains: Mapping[str, str],
        *,
        roof: str,
        anchors: Iterable[str | Anchor] = (),
        roof_signer: Signer | None = None,
        archives: Iterable[str] = (),
        create: bool = True,
        lifecycle: bool = True,
        **options: Any,
    ) -> None:
        if not chains or roof in chains.values() or len(set(chains.values())) < len(chains):
            raise ConfigurationError("Each chain under a roof has a URL of its own, and so has the roof.")
        if "origin" in options:
            raise ConfigurationError("Chains under a roof have origins of their own: leave out origin.")
        # "block": what lies in a spill file is not kept yet.
        common: dict[str, Any] = {"archives": [*archives], "create": create, "lifecycle": lifecycle}
        self.roof = AuditTrail(roof, anchors=anchors, signer=roof_signer, on_failure="block", **common)
        options |= {"anchors": [RoofAnchor(self.roof)], **common}
        self.chains: dict[str, AuditTrail] = {}
        try:
            for name, url in chains.items():
                self.chains[name] = AuditTrail(url, **options)
        except BaseException:
            self.close()
            raise

    def of(self, name: str) -> AuditTrail:
        """The trail of one chain. Raises ConfigurationError where there is none of that name."""
        if (found := self.chains.get(name)) is None:
            raise ConfigurationError(f"There is no chain {name!r} under this roof.{nearest(name, self.chains)}")
        return found

    def select(self, query: EventQuery) -> Iterator[AuditEvent]:
        """Events of all chains that match, by time."""
        found = (trail.select(query) for trail in self.chains.values())
        return without_repeats(heapq.merge(*found, key=place_of, reverse=query.newest_first))

    def anchor_now(self) -> dict[str, str | None]:
        """Put each chain's newest checkpoint into the roof, then the roof's into its anchors; what went wrong, by name.

        The roof's anchors have their own names.
        """
        said = {name: state.trouble for name, trail in self.chains.items() for state in trail.anchor_now()}
        if self.roof.store.may_append():
            self.roof.flush()
        return said | {state.name: state.trouble for state in self.roof.anchor_now()}

    def verify(
        self,
        key: VerifierKey | None = None,
        keys: Mapping[str, VerifierKey] | None = None,
        *,
        anchors: Iterable[str | Anchor] | None = None,
        max_age: timedelta | None = None,
        jobs: int = 1,
    ) -> TrailsVerification:
        """Check the roof, each chain against it, and that they are the chains that it knows.

        ``key`` is the roof's, ``keys`` those of chains. A chain is OK as far as an anchor of the roof vouches for what
        the roof has of it. Raises what the verification of the roof raises.
        """
        roof = self.roof.verify(key, anchors=anchors, max_age=max_age, jobs=jobs)
        vouched = roof.anchored if roof.result is Result.OK else 0
        anchor = RoofAnchor(self.roof, below=roof.size)
        chains = {
            name: _verify(trail, anchor, vouched, key=(keys or {}).get(name), max_age=max_age, jobs=jobs)
            for name, trail in self.chains.items()
        }
        return TrailsVerification(roof, chains, tuple(self._compare(anchor, chains)))

    def _compare(self, anchor: RoofAnchor, found: Mapping[str, Verification | AuditError]) -> Iterator[Finding]:
        """Findings where chains are missing, or one is there twice. One that is away may be what is missing."""
        names: dict[str, str] = {}
        for name, trail in self.chains.items():
            origin = _origin(trail)
            if origin in names:
                yield Finding("chain.twice", None, f"{names[origin]} and {name} apart", f"both are {origin}")
            elif origin is not None:
                names[origin] = name
        away = sum(isinstance(one, StoreUnavailableError) for one in found.values())
        missing = [(origin, place) for origin, place in anchor.origins().items() if origin not in names]
        if len(missing) > away:
            for origin, place in missing:
                yield Finding("chain.missing", place, f"the chain {origin}", "none of the chains")

    def close(self) -> None:
        """The orderly stop, of the roof last: what the chains end with goes into it."""
        for trail in (*self.chains.values(), self.roof):
            trail.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _verify(
    trail: AuditTrail,
    anchor: RoofAnchor,
    vouched: int,
    *,
    key: VerifierKey | None,
    max_age: timedelta | None,
    jobs: int,
) -> Verification | AuditError:
    """As far as the first ``vouched`` events of the roof go somebody outside vouches for the chain."""
    try:
        found = trail.verify(key, anchors=[anchor], max_age=max_age, jobs=jobs)
        ring = trail.chain.keyring
        kept = [kept for place, kept in anchor.kept_at(trail.chain) if place < vouched]
    except AuditError as error:
        return error
    kept.sort(key=lambda one: -one.size)
    trees = [tree_of(one, ring) for one in kept] if ring else []
    anchored = next((tree.size for tree in trees if tree and ring and not ring.abandons(tree)), 0)
    is_reached = found.result is not Result.OK or anchored
    return replace(found, anchored=anchored, result=found.result if is_reached else Result.UNANCHORED)


def _about(origin: str, since: datetime | None = None) -> EventQuery:
    return EventQuery(action=KEPT, resource_type=CHAIN, resource_id=origin, since=since)


def _origin(trail: AuditTrail) -> str | None:
    try:
        return trail.chain.origin
    except AuditError:
        return None


def _origin_of(note: str) -> str:
    return Checkpoint.parse(parse_note(note)[0]).origin


def _note_of(event: AuditEvent, origin: str) -> str:
    """The checkpoint of the chain that the event keeps; "", which is none, where it keeps no such thing."""
    try:
        note = str(event.details.get("note"))
        return note if _origin_of(note) == origin else ""
    except IntegrityError:
        return ""
