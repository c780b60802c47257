"""AuditTrail: what an application holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, repeat
from typing import Any, Self

from audit_core.anchors import Anchor
from audit_core.anchors.anchoring import EVERY_SECONDS, Anchoring, AnchorState, keep_now
from audit_core.anchors.opening import open_anchors
from audit_core.archives.shelf import Shelf
from audit_core.chain import AuditChain
from audit_core.chain.erasing import Erasing, Subject, erase
from audit_core.chain.proof import Proof
from audit_core.chain.seen import Seen
from audit_core.chain.statements import rotate
from audit_core.chain.verification import Verification
from audit_core.compose import Resource, compose, split_resource, whole_resource
from audit_core.context import Acting, AuditContext, current
from audit_core.errors import (
    AuditError,
    ConfigurationError,
    IntegrityError,
)
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.history import History
from audit_core.integrity.note import Signer, VerifierKey
from audit_core.integrity.statement import ERASED, ROTATED
from audit_core.keys import find_hash_key, load_hash_key
from audit_core.lifecycle import OwnEvents, close_at_the_end
from audit_core.normalise import clean_text
from audit_core.noting import NOT_DURABLE, why_not_noted
from audit_core.outbox import Outbox
from audit_core.outbox.tally import Tally
from audit_core.places import open_places
from audit_core.policy import AuditPolicy
from audit_core.process.ending import at_the_end_of_a_child
from audit_core.process.threads import is_own_thread
from audit_core.proxies import TrustedProxies
from audit_core.query import EventQuery
from audit_core.recorded_ids import LACKS_KEY, RecordedIds, recorded_ids
from audit_core.redaction import Redactor, Rule
from audit_core.rows import to_json
from audit_core.settings import (
    checked_origin,
    checked_policy,
    checked_rules,
    checked_seconds,
    checked_texts,
    is_blocking,
)
from audit_core.signing import SigningKey
from audit_core.status import describe
from audit_core.telling import ToldChange, events_as_json
from audit_core.undrained import undrained
from audit_core.urls import open_store
from audit_core.waiting import read_waiting
from audit_core.watching import watchers
from audit_core.writing.backlog import Backlog
from audit_core.writing.counts import Counts
from audit_core.writing.sealer import Sealer
from audit_core.writing.writer import Writer

FLUSH_SECONDS = 10.0
CUT_OFF = (
    "Verification has found that the trail's end was cut off, or a backup put back: nothing is sealed on top of it "
    "until somebody has looked (`audit acknowledge-restore`); events wait in the outbox."
)
logger = logging.getLogger("audit_core")


class AuditTrail:
    """A tamper-evident trail at ``url``: ``sqlite:///clinic.db``, ``postgresql://host/clinic``, ``memory:`` for tests.

    ``redact`` are rules by field (``{"patient.phone": "mask"}``, see ``Redactor``), with the hash key of this user; a
    ``redactor`` has its own. ``durable=False`` does not wait for the disk; ``on_failure="block"`` makes a caller see
    that its event is durable nowhere, and not go on. ``outbox`` names further databases whose changes are audited,
    ``queue`` a Redis or Kafka in which events of no transaction wait: ``redis://host:6379/0``, ``kafka://host/topic``.
    With ``erasable`` addresses, user agents and details about people lie beside the records, and can be erased.
    ``anchors``, by their URLs, are given the newest checkpoint every ``anchor_every`` seconds, if it is a new one.
    ``archives`` are where archived months lie now, if not where they were written to.
    Raises ConfigurationError for a setting that cannot work.
    """

    def __init__(
        self,
        url: str,
        *,
        outbox: str | Iterable[str] = (),
        queue: str | None = None,
        origin: str | None = None,
        signer: Signer | None = None,
        redact: Mapping[str, Rule] | None = None,
        redactor: Redactor | None = None,
        erasable: bool = False,
        policy: AuditPolicy | None = None,
        trusted_proxies: Iterable[str] = (),
        proxy_header: str = "X-Forwarded-For",
        source: str | None = None,
        durable: bool = True,
        on_failure: str = "spill",
        anchors: Iterable[str | Anchor] = (),
        anchor_every: float = EVERY_SECONDS,
        archives: Iterable[str] = (),
        create: bool = True,
        lifecycle: bool = True,
    ) -> None:
        self.url, self.source, self.durable = url, source, durable
        self.policy, self.serves_requests = checked_policy(policy), policy is not None  # an adapter says so, too
        self.proxies = TrustedProxies(checked_texts("trusted_proxies", trusted_proxies), proxy_header)
        self._redactor, self._redact = redactor, checked_rules(redact, redactor, erasable=erasable)
        self.erasable = erasable or (redactor is not None and redactor.erasable)
        self.signing_key, self._lifecycle = SigningKey(signer), lifecycle
        self._places = open_places(url, outbox, queue, erasable=self.erasable, writes=lifecycle)
        self.store, self.outboxes, self.queue = self._places.store, self._places.outboxes, self._places.queue
        self._outbox_by_key: dict[object, Outbox] = {}
        self.chain = AuditChain(
            self.store,
            self.signing_key.for_sealing,
            checked_origin(origin),
            begin_with=self.signing_key.for_beginning,
            renew=self.signing_key.renew,
            shelf=Shelf(checked_texts("archives", archives)),
        )
        self.sealer = Sealer(self.chain, self.outboxes, self._places.tables)
        self.anchoring = Anchoring(
            self.chain, open_anchors(anchors), self._beat, checked_seconds("anchor_every", anchor_every),
            freed=self._seal_again, held=self.signing_key.held,
        )  # fmt: skip
        self._objection: AuditError | None = None  # against sealing, of a command that has found a backup
        self.chain.objection = self._find_objection
        self._own_events = OwnEvents(self.event, lambda: self.policy if self.serves_requests else None)
        self._writer = self._make_writer(block=is_blocking(on_failure))
        self._history = History(
            self.chain.whole, self.outboxes, self._places.directory, lambda: self._writer.backlog,
            self.sealer.drain.waiting if self.sealer.drain else None,
        )  # fmt: skip
        if create:
            self._create_at_the_start()

    # -- writing -----------------------------------------------------------------------------------------------

    def record(
        self,
        action: str,
        *,
        resource: Resource = None,
        outcome: str = Outcome.SUCCESS,
        details: Mapping[str, Any] | None = None,
    ) -> AuditEvent:
        """Record what happened; returns when it is durable (unless the trail is buffered).

        ``action`` is ``noun.verb``; ``resource`` is ``("invoice", "42")`` or ``"invoice:42"``. Waits while 10,000
        events of this process are on their way. Raises ValueError for an unknown outcome, and StoreUnavailableError
        with ``on_failure="block"`` when the event is durable nowhere. In a thread of the trail itself, whose log
        messages somebody records, it does not wait.
        """
        self._writer.start()
        event = self.event(action, resource=resource, outcome=outcome, details=details)
        waiter = self._submit(event)
        return waiter.result() if self.durable and not is_own_thread() else event

    def submit(
        self,
        action: str,
        *,
        resource: Resource = None,
        outcome: str = Outcome.SUCCESS,
        details: Mapping[str, Any] | None = None,
        context: AuditContext | None = None,
    ) -> Future[AuditEvent]:
        """Like ``record``, without waiting for the disk: ``await asyncio.wrap_future(trail.submit(...))``."""
        self._writer.start()
        event = self.event(action, resource=resource, outcome=outcome, details=details, context=context)
        return self._submit(event)

    def submit_event(self, event: AuditEvent) -> Future[AuditEvent]:
        """Like ``submit``, of an event that is made already, and whose values nobody has chosen."""
        self._writer.start()
        return self._submit(event)

    def event(
        self,
        action: str,
        *,
        resource: Resource = None,
        outcome: str = Outcome.SUCCESS,
        details: Mapping[str, Any] | None = None,
        context: AuditContext | None = None,
    ) -> AuditEvent:
        """Make an event of what happens now, with the current context, redacted and normalised."""
        return compose(
            action,
            resource,
            outcome,
            details,
            context=context or current(),
            source=self.source,
            redactor=self.redactor,
        )

    def tell(
        self, changes: Iterable[ToldChange], connection: Any, key: object, more: Mapping[str, object] | None = None
    ) -> None:
        """Write an event of each of these changes, with ``more`` details; they happen now, together. For ORM hooks.

        What changed nothing but excluded fields leaves none. In the caller's transaction; raises what ``carry`` raises.
        """
        context, redactor = current(), self.redactor
        events = events_as_json(changes, more or {}, context=context, source=self.source, redactor=redactor)
        if first := next(events, None):
            self._carry(chain((first,), events), connection, key)

    def carry(self, events: Sequence[AuditEvent], connection: Any, key: object) -> None:
        """Write events in the caller's transaction, on his DB-API connection.

        ``key`` stands for the database that the connection is to. Raises ConfigurationError when the trail does not
        drain that database, StoreUnavailableError when it cannot be written: then the change must not commit either.
        """
        self._carry(map(to_json, events), connection, key)

    def _carry(self, events: Iterable[str], connection: Any, key: object) -> None:
        self._writer.start()
        outbox = self.outbox_of(connection, key)
        if watchers:
            events = list(events)
        outbox.put_json(events, connection)
        for watcher in watchers:
            watcher.carried(list(map(read_waiting, events)), connection)
        self._writer.seal_carried(outbox, connection)

    def outbox_of(self, connection: Any, key: object) -> Outbox:
        """The outbox in the database of ``connection``. Raises ConfigurationError where there is none."""
        if key not in self._outbox_by_key:
            owners = (outbox for outbox in self.outboxes if outbox.owns(connection))
            if (owner := next(owners, None)) is None:
                raise undrained(self.url, self.store, connection)
            self._outbox_by_key[key] = owner
        return self._outbox_by_key[key]

    def actor(self, actor_id: object, *, type: str = ActorType.USER, on_behalf_of: object = None) -> Acting:
        """``with trail.actor("nightly-import", type="service"): ...`` names who acts; nests and restores.

        As a decorator it does so for each call of a function, ``async`` or not. Raises ValueError for a type of actor
        that there is not.
        """
        return Acting(actor_id, type, on_behalf_of)

    def opened(self, *, wait: bool = True) -> bool:
        """A request or session that may read and then write the application's database begins.

        Waits for a commit of ours; without ``wait`` (an event loop must not) it may answer that it is not the moment.
        """
        return self._places.gate is None or self._places.gate.enter(wait=wait)

    def closed(self) -> None:
        """It has ended."""
        if self._places.gate:
            self._places.gate.leave()

    def flush(self, timeout: float = FLUSH_SECONDS) -> None:
        """Wait until all that was committed before is sealed; raises StoreUnavailableError after ``timeout`` s."""
        if is_own_thread():
            return
        self.anchoring.watch.settle()
        self._writer.flush(timeout)

    def keep_sealing(self) -> None:
        """Seal what other processes commit too, from now on, where not whoever writes an event seals it; and anchor."""
        self.anchoring.start()  # first: what is sealed may have to wait for what the anchors say
        self._writer.keep_sealing()

    def close(self) -> None:
        """The orderly stop: an event of its own, everything sealed, thread and connections released."""
        if self._lifecycle and self._writer.running:
            self._writer.submit(self._own_events.stopped())
        self.anchoring.watch.settle()
        self._writer.close(FLUSH_SECONDS)
        self.anchoring.close()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- reading -----------------------------------------------------------------------------------------------

    def events(
        self,
        *,
        actor: str | None = None,
        resource: Resource = None,
        action: str | None = None,
        outcome: str | None = None,
        tenant: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = True,
        after: str | None = None,
    ) -> Iterator[AuditEvent]:
        """Events that match, sealed and waiting ones, by time; ``event.sealed`` tells which. Purged ones are gone.

        Streams in constant memory. A page is ``itertools.islice(trail.events(...), 50)``; the next one begins
        ``after`` the last ``event_id`` of it. ``since`` is included, ``until`` is not. Raises LookupError when the
        event to begin after is unknown.
        """
        kind, identifier = split_resource(resource)
        about: dict[str, Any] = {"resource_type": kind, "resource_id": identifier}
        if kind is not None and identifier is not None:
            ids = self.recorded_ids(kind, identifier)
            about = ids.asked
            if ids.lacks_key:
                logger.warning("Events may be missing: %s.", LACKS_KEY.format(kind))
        query = EventQuery(
            **about, actor=actor, action=action, outcome=outcome, tenant=tenant, since=since, until=until,
            newest_first=newest_first, after=None if after is None else self._history.place(after),
        )  # fmt: skip
        return self.select(query)

    def select(self, query: EventQuery) -> Iterator[AuditEvent]:
        """What ``events`` and the reports read."""
        return self._history.select(query)

    def recorded_ids(self, resource_type: str, resource_id: object) -> RecordedIds:
        """The ids that events may have of a resource: hashed, too, where it may be a secret. No hash key is made."""
        redactor = self._redactor or Redactor(self._redact, hash_key=b"none", erasable=self.erasable)
        return recorded_ids(resource_type, resource_id, redactor, self._find_hasher)

    def _find_hasher(self) -> Redactor | None:
        if self._redactor is not None and self._redactor.has_key:
            return self._redactor
        return Redactor(hash_key=key) if (key := find_hash_key()) else None

    def find(self, event: str | int) -> AuditEvent | None:
        """One event, sealed or waiting, by its id; a sealed one by its sequence, too."""
        return self._history.find(event)

    def waiting(self) -> Iterator[AuditEvent]:
        """Events that are committed and not yet sealed."""
        return self._history.waiting()

    def verify(
        self,
        key: VerifierKey | None = None,
        known: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
        *,
        anchors: Iterable[str | Anchor] | None = None,
        as_of: datetime | None = None,
        max_age: timedelta | None = None,
        seen: Seen | None = None,
        whole: bool = False,
        jobs: int = 1,
    ) -> Verification:
        """Check the whole chain; see ``AuditChain.verify``. That it was checked is itself an event.

        Asks ``anchors``, or the trail's own, what they hold, and of a copy that was made at ``as_of`` what they held
        then. With ``max_age`` the newest checkpoint that one of them keeps must not be older, or the last event, where
        there is none to ask: a trail that was stopped makes none.

        Without a ``key`` it is this process's own, if it has one, else the one that the trail names. Raises
        ConfigurationError when a sound trail is signed with another key than this process's: say then which is right.
        """
        again = partial(open_store, self.url) if self._places.directory else None  # memory is where it is
        answers = self.anchoring.ask(anchors, as_of, max_age)
        found = self.chain.verify(
            key,
            known,
            progress,
            anchored=answers,
            own=self.signing_key.own_of(self.chain),
            seen=seen,
            whole=whole,
            jobs=jobs,
            open_store=again,
        )
        if not self._lifecycle:  # what a command says of itself waits, and stands on no backup
            is_cut_off = any(finding.kind == "truncated" for finding in found.findings)
            self._objection = IntegrityError(CUT_OFF) if is_cut_off else None
        self.note_reading("trail.verified", {"result": found.result, "size": found.size, "origin": found.origin})
        return found

    def anchor_now(self) -> list[AnchorState]:
        """Give each anchor the newest checkpoint, if it takes it. Raises what reading the trail raises."""
        return list(keep_now(self.chain, self.anchoring.anchors))

    def prove(self, event: str | int) -> Proof:
        """The inclusion proof of one sealed event, by its id or its sequence.

        Raises LookupError when there is none, IntegrityError when the store contradicts its checkpoint.
        """
        return self.chain.prove(event)

    def status(self) -> dict[str, Any]:
        """Size, head, what waits and since when, who seals, with which key; what this process has anchored."""
        return {
            **describe(self.url, self.sealer, self.signing_key, self.waiting()),
            "anchors": [state.described() for state in self.anchoring.states],
            "process": self.counters(),
        }

    def counters(self) -> dict[str, int]:
        """What this process has written since it began, and what waits in it: events, and failed tries.

        Asks nobody: see ``audit_core.metrics``.
        """
        return self._writer.counters()

    def rotate_key(self, new: Signer, *, lost: bool = False) -> VerifierKey:
        """Let the ``new`` key sign from now on, in an event that the present one has signed; its verifier key.

        An event ``key.used`` follows, and with it the first checkpoint that the new one signs.

        With ``lost`` the new one signs alone, and whoever has pinned an earlier one is told that it may be anybody's.
        Raises ConfigurationError when this process's key is not the trail's, or the new one was, StoreUnavailableError.
        """
        with self.store.transaction(patient=True) as connection:
            key = rotate(self.chain, new, self.event(ROTATED), connection, lost=lost)
        self.signing_key.take(new)
        # The old key has signed the newest checkpoint, for which who has pinned the new one has nobody's word. A crash
        # here leaves that until the next event.
        with suppress(AuditError), self.store.transaction(patient=True) as connection:
            self.chain.append([self.event("key.used")], connection)
        return key

    def erase(
        self, *, actor: str | None = None, resources: Iterable[Resource] = (), basis: str, approved_by: str
    ) -> Erasing:
        """Remove what the trail keeps of a person outside of its records, and say in a signed event what and why.

        Of what an ``actor`` did, the address and the user agent, and details that are about no one resource; of what
        was done to ``resources``, the details that are kept apart, also where the id is a secret that events have
        hashed. What still waits to be sealed is sealed first, where this process may. Where nothing is left, what was
        erased ``before`` is told. Raises ConfigurationError where nothing can be erased or an event is under a legal
        hold, without a basis or an approval, and when this process's key is not the trail's.
        """
        if not (basis.strip() and approved_by.strip()):
            raise ConfigurationError("Nothing was erased: say on which basis, and who has approved it.")
        several = [resources] if isinstance(resources, str) else resources
        subject = Subject(actor, tuple(chain.from_iterable(map(self._whole, several))))
        if self.store.may_append():
            self.flush()
        with self.store.transaction(patient=True) as connection:
            events = (self.event(ERASED) for _ in repeat(None))
            return erase(
                self.chain, subject, events, connection,
                basis=clean_text(basis), approved_by=clean_text(approved_by),
            )  # fmt: skip

    def _whole(self, resource: Resource) -> list[tuple[str, str]]:
        ids = self.recorded_ids(*whole_resource(resource))
        if ids.lacks_key:
            raise ConfigurationError(f"Nothing was erased: {LACKS_KEY.format(ids.resource_type)}.")
        return [(ids.resource_type, one) for one in ids.any_of]

    def why_not_noted(self) -> str | None:
        """Why it is not recorded that somebody reads, in a clause; None where it is."""
        return why_not_noted(self.chain, self.signing_key, has_outbox=bool(self.outboxes))

    def note_reading(self, action: str, details: Mapping[str, Any]) -> str | None:
        """Record that the trail itself was read. Why that is not durable, in a clause; reading goes on all the same."""
        if why := self.why_not_noted():
            return why
        try:
            event = self.submit(action, details=details).result()
        except AuditError as error:
            logger.warning("%s could not be recorded: %s", action, error)
            return NOT_DURABLE
        backlog = self._writer.backlog
        return None if backlog is None or event not in backlog.held else NOT_DURABLE

    # -- its parts ---------------------------------------------------------------------------------------------

    @property
    def redactor(self) -> Redactor:
        """What keeps values out; made with the process's hash key when it is first needed."""
        if self._redactor is None:
            self._redactor = Redactor(self._redact, hash_key=load_hash_key(), erasable=self.erasable)
        return self._redactor

    def create(self) -> None:
        """Make what is missing of the tables; may be repeated."""
        self.sealer.tables.create()

    def _create_at_the_start(self) -> None:
        try:
            self.sealer.tables.create_at_the_start()
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        self._places.close()
        self.chain.shelf.close()

    def _submit(self, event: AuditEvent) -> Future[AuditEvent]:
        waiter = self._writer.submit(event)
        for watcher in watchers:
            watcher.recorded(event)
        return waiter

    def _make_writer(self, *, block: bool) -> Writer:
        return Writer(
            self.sealer,
            self._make_backlog,
            gate=self._places.gate,
            block=block,
            tally=Tally(self._places.directory) if self._places.directory and not self.durable else None,
            greeting=self._own_events.started if self._lifecycle else None,
            started=partial(self._begin, close_at_the_end(self)),
        )

    def _seal_again(self) -> None:
        self._writer.look()

    def _find_objection(self) -> AuditError | None:
        return self._objection or self.anchoring.watch.objection()

    def _make_backlog(self, counts: Counts) -> Backlog:
        """For a thread that is about to begin to write."""
        if self._lifecycle:
            self.anchoring.watch.begin()
        return Backlog(self._places.directory, self.store.known, self._own_events.gap, counts)

    def _begin(self, close: Callable[[], None]) -> None:
        """Called when this process begins to write."""
        at_the_end_of_a_child(close)
        if self._lifecycle:  # a command is no application that goes on
            self.anchoring.start()

    def _beat(self) -> None:
        self._writer.submit(self._own_events.alive())
