"""What a trail does not cover, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audit_core.errors import ConfigurationError, Cures, nearest
from audit_core.outbox import Outbox
from audit_core.redaction import Redactor
from audit_core.redaction.personal_names import is_personal
from audit_core.redaction.sensitive_names import flat
from audit_core.triggers import Known, Triggers

UNSEEN = "raw SQL, cascades and triggers of the database, and what other programs write"


@dataclass(frozen=True, slots=True)
class Gap:
    """One thing that is not covered: as it is meant, or not as it should be."""

    text: str
    is_problem: bool = False


def gaps_of(outbox: Outbox, known: Known | None = None) -> Iterator[Gap]:
    """What no hook of an ORM sees in the database of this outbox, and what its triggers tell against the rules."""
    database: Any = getattr(outbox, "database", None)
    if not hasattr(database, "schema"):
        yield from gaps_without_triggers(str(getattr(database, "path", "memory")), is_created=outbox.is_created())
        return
    with database.transaction() as connection:
        yield from gaps_with_triggers(connection, database.schema, database.name, known)


def gaps_without_triggers(name: str, *, is_created: bool) -> Iterator[Gap]:
    """On SQLite."""
    if not is_created:
        yield Gap(f"{name} has no outbox, and its changes fail: {Cures.make_tables}.", is_problem=True)
    yield Gap(f"{name}: {UNSEEN} leave no event, and SQLite has no triggers of ours.")


def gaps_with_triggers(connection: Any, schema: str, name: str, known: Known | None = None) -> Iterator[Gap]:
    """On PostgreSQL, on whichever connection ``Triggers`` takes."""
    try:
        triggers = Triggers(connection, schema, known=known)
    except ConfigurationError:
        yield Gap(f"{name} has no outbox, and its changes fail: {Cures.make_tables}.", is_problem=True)
        return
    for sentence in triggers.check(triggers.expected()):
        yield Gap(f"{name}: {sentence}", is_problem=True)
    covered = triggers.covered()
    for sentence in triggers.told_twice(covered):
        yield Gap(f"{name}: {sentence}", is_problem=True)
    tables = triggers.applications()
    if without := [f"{t.schema}.{t.name}" for t in tables if (t.schema, t.name) not in covered]:
        yield Gap(f"{name}: {UNSEEN} leave no event in tables without triggers: {', '.join(without)}.")


def gap_of_names(why: str, names: Iterable[str]) -> Iterator[Gap]:
    """What is not audited, by name."""
    if found := sorted(names):
        yield Gap(f"{why}: {', '.join(found)}.")


def gaps_of_fields(redactor: Redactor, fields: Mapping[str, Iterable[str]]) -> Iterator[Gap]:
    """Fields, by resource type, whose names suggest personal data and that no rule decides on."""
    if found := personal(redactor, fields):
        yield Gap(
            "Told as they are, though their names suggest personal data (a rule decides, `keep` too): "
            f"{', '.join(found)}."
        )


def personal(redactor: Redactor, fields: Mapping[str, Iterable[str]]) -> list[str]:
    """These fields, as ``patient.email``."""
    return [
        f"{kind}.{name}"
        for kind, names in sorted(fields.items())
        for name in names
        if is_personal(name)
        and redactor.rule(name, kind) is None
        and redactor.treatment(name, kind) is None
        and not redactor.is_private(name, kind)
    ]


def idle_rules(rules: Iterable[str], fields: Mapping[str, Iterable[str]]) -> Iterator[Gap]:
    """Rules for a resource type that has no such field: where one has nearly its name, that one stays as it is."""
    known = {flat(kind): {flat(name): name for name in names} for kind, names in fields.items()}
    for rule in rules:
        scope, _, field = rule.rpartition(".")
        kind = flat(scope.rpartition(".")[2])
        if kind in known and flat(field) not in known[kind]:
            meant = nearest(field, known[kind].values())
            only = meant or " It holds for an event's details alone."
            yield Gap(f"There is a rule for {rule}, and {kind} has no field of this name.{only}", bool(meant))
