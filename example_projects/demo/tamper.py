"""What an attacker does who owns the database: he edits one event, and deletes another, with plain SQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Crime:
    """Which events are not what they were."""

    edited: int
    actor: str
    blamed: str
    deleted: int


def copy_database(source: Path, copy: Path) -> None:
    """All of it, also what the write-ahead log holds, whoever is writing."""
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(copy)) as other:
        original.backup(other)


def tamper(database: Path) -> Crime:
    """Blame a deletion on somebody else, and let a refusal vanish."""
    with closing(sqlite3.connect(database)) as attacker, attacker:
        drop_triggers(attacker)
        edited, actor = attacker.execute(
            "SELECT sequence, actor_id FROM audit_events WHERE action = 'delete' ORDER BY sequence LIMIT 1"
        ).fetchone()
        (blamed,) = attacker.execute(
            "SELECT max(actor_id) FROM audit_events WHERE action LIKE 'GET %' AND actor_id <> ?", (actor,)
        ).fetchone()
        (deleted,) = attacker.execute(
            "SELECT max(sequence) FROM audit_events WHERE outcome = 'denied' AND action LIKE 'DELETE %'"
        ).fetchone()
        attacker.execute("UPDATE audit_events SET actor_id = ? WHERE sequence = ?", (blamed, edited))
        attacker.execute("DELETE FROM audit_events WHERE sequence = ?", (deleted,))
    return Crime(edited, actor, blamed, deleted)


def drop_triggers(attacker: sqlite3.Connection) -> None:
    """They keep out accidents, not the owner of the file."""
    for (name,) in attacker.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        attacker.execute(f'DROP TRIGGER "{name}"')
