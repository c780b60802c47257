"""A trail that lives, and beside it what it must hold: every step is taken twice, by the trail and in plain Python."""

from __future__ import annotations

import copy
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import repeat
from random import Random
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.archives.places import open_place
from audit_core.chain.known import Answer, Kept
from audit_core.chain.seen import BEFORE
from audit_core.chain.statements import acknowledge, find_lost
from audit_core.compose import compose
from audit_core.context import Actor, AuditContext
from audit_core.errors import ConfigurationError
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.statement import HELD, LIFTED, RESTORED
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.postgres.partitions import Partitions
from audit_core.retention import holds
from audit_core.retention.archiving import Archiver, Held
from audit_core.retention.policies import Retention, months_ago
from audit_core.retention.purging import Purger, Remains
from audit_core.retention.sqlite_months import SqliteMonths
from tests.postgres.server import new_database

ORIGIN = "example.com/life"
MONTHS = [f"2025-{number:02d}" for number in range(1, 7)]
NOW = datetime(2025, 9, 15, tzinfo=UTC)
PATIENTS, NURSES, TENANTS = ("1", "2", "3"), ("amina", "bob"), ("north", "south")
ROUND = {
    "append": 6, "archive": 3, "hold": 1, "lift": 1, "purge": 2, "erase": 3, "rotate": 1, "back_up": 1, "restore": 1,
}  # fmt: skip
WHO = {"basis": "GDPR Art. 17", "approved_by": "officer"}


def interrupt(*_):
    raise InterruptedError


@dataclass
class Told:
    """An event, and what became of it."""

    number: int
    month: str
    actor: str
    tenant: str
    patient: str | None
    archive: int | None = None  # the statement that says where it lies
    is_purged: bool = False
    erased: set[str] = field(default_factory=set)  # of its two values

    @property
    def values(self):
        """Two values that are personal: one of whom it is about, one of whoever did it."""
        return {"details": f"mail{self.number}@secret.example", "agent": f"agent{self.number}/secret"}

    def is_held(self, held):
        kind, name = held
        about = {"actor": self.actor, "tenant": self.tenant, "resource": f"patient:{self.patient}"}
        return name == about[kind] or (held == ("resource", "patient") and self.patient is not None)


@dataclass
class Model:
    """What the trail must hold."""

    events: dict[str, Told] = field(default_factory=dict)
    holds: dict[int, tuple[str, str]] = field(default_factory=dict)
    key: int = 0  # the number of the present signer
    erasures: list[dict] = field(default_factory=list)
    purges: list[int] = field(default_factory=list)

    def there(self):
        return [told for told in self.events.values() if not told.is_purged]

    def held(self, told):
        return any(told.is_held(held) for held in self.holds.values())

    def month_is_held(self, month, *, live=False):
        """By an event that is there; ``live`` by one that is not archived."""
        months = [told for told in self.there() if told.month == month and not (live and told.archive is not None)]
        return any(map(self.held, months))


class Life:
    """Steps at random, from a seed. ``said`` are those that were taken."""

    def __init__(self, kind, folder, seed):
        self.kind, self.folder, self.seed, self.random = kind, folder, seed, Random(seed)
        self.url = f"sqlite:///{folder / 'clinic.db'}" if kind == "sqlite" else new_database()
        self.anchor, self.place = (folder / "anchor").as_uri(), (folder / "archive").as_uri()
        self.signers, self.model, self.said = [LocalSigner(bytes([seed % 250 + 1]) * 32)], Model(), []
        self.kept = None  # a backup: where it lies, and what it has
        self.numbers, self.gone = 0, set()  # of the next event; values that were erased once
        self.ahead = []  # steps to take
        self.seen = None  # by an auditor who goes on from where he was
        with self.opened() as trail:
            trail.record("clinic.opened")
            trail.flush(60)
            self.key = str(trail.chain.key)
        self.append()

    @contextmanager
    def opened(self, **more):
        signer = self.signers[self.model.key]
        with AuditTrail(
            self.url, origin=ORIGIN, signer=signer, anchors=[self.anchor], erasable=True, lifecycle=False, **more
        ) as trail:
            yield trail

    def step(self):
        """One more, which leaves the trail sound. Of ``ROUND`` in a row each is taken as often as it says."""
        if not self.ahead:
            self.ahead = [name for name, times in ROUND.items() for _ in range(times)]
            self.random.shuffle(self.ahead)
        self.said.append(self.ahead.pop())
        getattr(self, self.said[-1])()
        with self.opened() as trail:
            trail.anchor_now()

    def verify(self, seen=None, **more):
        """With the first key that the auditor was given, and with what the anchor keeps."""
        with self.opened(**more) as trail:
            return trail.verify(VerifierKey.parse(self.key), seen=seen)

    # -- Steps -------------------------------------------------------------------------------------------------

    def append(self):
        with self.opened() as trail:
            made = [self._make(trail) for _ in range(self.random.randint(1, 5))]
            with trail.outboxes[0].database.transaction() as connection:
                trail.outboxes[0].put(made, connection)
            trail.flush(60)
            if self.kind == "postgres":
                Partitions(trail.store.database).move_from_default()

    def _make(self, trail):
        pick, self.numbers = self.random.choice, self.numbers + 1
        told = Told(self.numbers, pick(MONTHS), pick(NURSES), pick(TENANTS), pick((*PATIENTS, None)))
        context = AuditContext(
            actor=Actor(told.actor, "user"), tenant_id=told.tenant, ip_address="192.0.2.1",
            user_agent=told.values["agent"],
        )  # fmt: skip
        about = None if told.patient is None else ("patient", told.patient)
        details = {"email": told.values["details"], "note": f"of {told.number}"}
        event = compose("chart.read", about, "success", details, context=context, source=None, redactor=trail.redactor)
        self.model.events[event.event_id] = told
        first = datetime.fromisoformat(f"{told.month}-01").replace(tzinfo=UTC)
        return replace(event, timestamp=first + timedelta(days=self.random.randrange(27), microseconds=told.number))

    def archive(self):
        before, model = self.random.choice(MONTHS[1:]), self.model
        live = {told.month for told in model.there() if told.archive is None and told.month < before}
        stay = {month for month in live if model.month_is_held(month, live=True)}
        interrupted = self.kind == "sqlite" and self.random.random() < 0.3  # once a month is stated, and still there
        done = list(self._archived(before, interrupted=interrupted))
        archived = {one.month: one.sequence for one in done if not isinstance(one, Held)}
        if not interrupted:
            assert {one.month for one in done if isinstance(one, Held)} == stay
            assert archived.keys() == live - stay
        for told in model.there():
            if told.archive is None and told.month in archived:
                told.archive = archived[told.month]

    def _archived(self, before, *, interrupted):
        with self.opened() as trail, pytest.MonkeyPatch.context() as patch:
            there = set(trail.chain.keyring.archives)
            if interrupted:
                patch.setattr(SqliteMonths, "_remove", interrupt)
            try:
                yield from Archiver(trail.chain, open_place(self.place), trail.event).run(before)
            except InterruptedError:
                yield from (one for number, one in trail.chain.keyring.archives.items() if number not in there)

    def hold(self):
        kind, name = self.random.choice([
            ("actor", self.random.choice(NURSES)), ("tenant", self.random.choice(TENANTS)),
            ("resource", f"patient:{self.random.choice(PATIENTS)}"), ("resource", "patient"),
        ])  # fmt: skip
        with self.opened() as trail, trail.store.transaction(patient=True) as connection:
            number = holds.add(trail.chain, (kind, name), "case 7", trail.event(HELD), connection)
        self.model.holds[number] = kind, name

    def lift(self):
        for number in list(self.model.holds)[:2]:
            with self.opened() as trail, trail.store.transaction(patient=True) as connection:
                holds.lift(trail.chain, number, "closed", trail.event(LIFTED), connection)
            del self.model.holds[number]

    def purge(self, keep=None):
        keep, model = keep or self.random.randint(3, 7), self.model
        model.purges.append(keep)
        last = months_ago(f"{NOW:%Y-%m}", keep)
        archives = {(told.month, told.archive) for told in model.there() if told.archive is not None}
        with self.opened() as trail:
            done = list(Purger(trail.chain, trail.event, Retention.parse(f"{keep}m", NOW)).run("over"))
        expected = []
        for month, archive in sorted(one for one in archives if one[0] < last):
            is_held = model.month_is_held(month)
            expected.append((month, is_held))
            for told in model.there():
                told.is_purged = told.is_purged or (told.archive == archive and not is_held)
        done = [one for one in done if not isinstance(one, Remains)]  # said where a backup has purged twice
        assert [(one.month, True) if isinstance(one, Held) else (one[0].month, False) for one in done] == expected

    def erase(self, whose=None):
        whose = whose or self.random.choice([
            {"actor": self.random.choice(NURSES)}, {"resources": [("patient", self.random.choice(PATIENTS))]},
        ])  # fmt: skip
        meant = {id(told): told for told in self.model.there() if self._places(told, whose)}
        is_held = any(map(self.model.held, meant.values()))
        with self.opened() as trail:
            if is_held:
                with pytest.raises(ConfigurationError, match="legal hold"):
                    trail.erase(**whose, **WHO)
                return
            trail.erase(**whose, **WHO)
        self.model.erasures.append(whose)
        for told in meant.values():
            told.erased |= self._places(told, whose)
            self.gone |= {told.values[place] for place in told.erased}

    @staticmethod
    def _places(told, whose):
        if told.actor == whose.get("actor"):
            return {"agent"} | ({"details"} if told.patient is None else set())
        return {"details"} if ("patient", told.patient) in whose.get("resources", ()) else set()

    def rotate(self):
        self.signers.append(LocalSigner(self.random.randbytes(32)))
        with self.opened() as trail:
            trail.rotate_key(self.signers[-1])
        self.model.key = len(self.signers) - 1

    def back_up(self):
        self.kept = self._copy(self.url), copy.deepcopy(self.model)

    def restore(self):
        """A backup is put back, and what has to be done after that is done."""
        if self.kept is None:
            self.back_up()
            return
        where, before, now = self.kept[0], copy.deepcopy(self.kept[1]), self.model
        with self.opened() as trail:
            trail.anchor_now()
        self.url = self._copy(where)
        if self.kind == "sqlite":
            shutil.copy(urlsplit(self.url).path, self.folder / "clinic.db")
            self.url = f"sqlite:///{self.folder / 'clinic.db'}"
        self.model = before
        self._acknowledge()
        for _ in range(0, len(self.model.holds), 2):
            self.lift()
        for keep in now.purges[len(before.purges) :]:  # first: who erases reads what is archived
            self.purge(keep)
        for whose in now.erasures[len(before.erasures) :]:
            self.erase(whose)

    def _acknowledge(self):
        with self.opened() as trail:
            held = self.signers[self.model.key + 1 :]
            remembered = [Answer(BEFORE, [Kept(self.seen.note)])] if self.seen else []
            lost = find_lost(trail.chain, [*trail.anchoring.ask(), *remembered], held)
            if not lost.trees:
                return
            assert self.verify().result is Result.FAILED
            events = (trail.event(RESTORED) for _ in repeat(None))
            with trail.store.transaction(patient=True) as connection:
                acknowledge(trail.chain, lost, events, connection, reason="disk failure", held=held)

    def _copy(self, url):
        if self.kind == "sqlite":
            target = self.folder / f"backup-{len(self.said)}.db"
            shutil.copy(urlsplit(url).path, target)
            return f"sqlite:///{target}"
        target = new_database()
        parts = urlsplit(url)
        with psycopg.connect(urlunsplit(parts._replace(path="/postgres")), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {urlsplit(target).path[1:]}")
            connection.execute(f"CREATE DATABASE {urlsplit(target).path[1:]} TEMPLATE {parts.path[1:]}")
        return target
