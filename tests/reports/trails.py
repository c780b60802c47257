"""Trails made by hand."""

from __future__ import annotations

import os
import sqlite3
import traceback
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from audit_core import AuditEvent, AuditTrail
from audit_core.identity import new_event_id
from audit_core.keys import LocalSigner
from tests.attacks.attacker import without_guards

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
OURS, THEIRS = LocalSigner(b"o" * 32), LocalSigner(b"t" * 32)
ORIGIN = "example.com/clinic"
BATCH = 5_000


def make_trail(path: Path) -> AuditTrail:
    return AuditTrail(f"sqlite:///{path}", origin=ORIGIN, signer=OURS, lifecycle=False)


def event(second: float = 0, action: str = "GET /patients/{id}", **fields: object) -> AuditEvent:
    values = {"event_id": new_event_id(), "timestamp": NOON + timedelta(seconds=second), "action": action}
    return AuditEvent(**values | fields)


def started(second: float = 0, reads: Iterable[str] = ("patient",), **details: object) -> AuditEvent:
    """What a process says that serves requests and audits these reads."""
    stated = {"reads": list(reads), "skip": [], "rules": []} | details
    return event(second, "trail.started", actor_type="system", details=stated)


def about(patient: str, second: float = 0, **fields: object) -> AuditEvent:
    return event(second, **{"resource_type": "patient", "resource_id": patient, "actor_id": "amina"} | fields)


def seal(trail: AuditTrail, events: Iterable[AuditEvent]) -> list[AuditEvent]:
    events = list(events)
    for start in range(0, len(events), BATCH):
        with trail.store.transaction(patient=True) as connection:
            trail.chain.append(events[start : start + BATCH], connection)
    return events


def tamper(path: Path, *statements: str) -> None:
    """As somebody does who owns the file."""
    with closing(sqlite3.connect(path)) as attacker, attacker, without_guards(attacker):
        for statement in statements:
            attacker.execute(statement)


def let_everybody_in(path):
    """Other users may look into the folders that the file lies in, which pytest keeps to itself."""
    for folder in path.parents:
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(0o755)


def as_nobody(function) -> int:
    """Run it in a child process that may write nothing of ours; its exit status."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            status = function()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
