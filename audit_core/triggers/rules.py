"""What a table's triggers tell of its columns: decided once, when they are installed, by the redactor's rules."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

from audit_core.errors import ConfigurationError
from audit_core.policy import ROWS_TOLD
from audit_core.redaction import Redactor
from audit_core.redaction.rules import MEASURES
from audit_core.triggers.known import Known
from audit_core.triggers.tables import Table

Treatment: TypeAlias = Literal["tell", "replace", "mask", "exclude"]

_MEASURING = ("bool", "datetime")
_NUMBERS = ("int", "bool", "datetime")
_STRICTER: tuple[Treatment, ...] = ("tell", "mask", "replace", "exclude")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the triggers of one table were installed with. It is kept as the comment on their function."""

    resource_type: str
    limit: int = ROWS_TOLD
    treatments: Mapping[str, Treatment] = field(default_factory=dict)  # by column; every one that the table had
    fields: Mapping[str, str] = field(default_factory=dict)  # what a column is called, where it is not its own name
    database: str | None = None

    def as_text(self) -> str:
        """For the comment."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str | None) -> Rules | None:
        """The rules of a comment; None where it holds none that we have written."""
        try:
            found = json.loads(text or "")
            fields, database = dict(found.get("fields", {})), found.get("database")
            return cls(found["resource_type"], int(found["limit"]), dict(found["treatments"]), fields, database)
        except (ValueError, TypeError, KeyError):
            return None


def rules_for(table: Table, redactor: Redactor, given: Given, before: Rules | None) -> Rules:
    """What to tell of a table as it is now. What an earlier installation said of it stays, unless it is said anew."""
    resource_type = given.names.get(_name(table)) or (before.resource_type if before else table.root[1])
    limit = given.limit if given.limit is not None else before.limit if before else ROWS_TOLD
    kept = before.treatments if before else {}
    fields = given.fields.get(_name(table), before.fields if before else {})
    others = given.others.get(_name(table), {})
    treatments: dict[str, Treatment] = {}
    for column in table.columns:
        called = {(resource_type, fields.get(column.name, column.name)), *others.get(column.name, ())}
        ruled = max((_by_name(redactor, name, column.kind, kind) for kind, name in called), key=_STRICTER.index)
        said = given.treatments.get((_name(table), column.name))
        if said is None and not (ruled != "tell" and _name(table) in given.fields):
            said = kept.get(column.name)
        treatments[column.name] = said or ruled
    database = given.database if _name(table) in given.fields else before.database if before else None
    return Rules(resource_type, limit, treatments, fields, database)


def unhashed(redactor: Redactor, rules: Rules) -> list[str]:
    """The columns that are to be hashed: the key has no place in a trigger, where every superuser reads it."""
    named = ((name, rules.fields.get(name, name)) for name in rules.treatments)
    return [name for name, called in named if redactor.treatment(called, rules.resource_type) == "hash"]


@dataclass(frozen=True, slots=True)
class Given:
    """What an installation says of tables and columns."""

    limit: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # schema.table: resource type
    treatments: Mapping[tuple[str, str], Treatment] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # schema.table: column: field
    database: str | None = None
    others: Mapping[str, Mapping[str, Collection[tuple[str, str]]]] = field(default_factory=dict)  # as Known has them

    @classmethod
    def of(
        cls,
        tables: Iterable[Table],
        limit: int | None = None,
        names: Mapping[str, str] | None = None,
        columns: Mapping[Treatment, Iterable[str]] | None = None,
        application: Known | None = None,
    ) -> Given:
        """``columns`` are written ``table.column``. Raises ConfigurationError for one that there is not."""
        if limit is not None and limit < 0:
            raise ConfigurationError(f"The limit is a number of rows, 0 or more, not {limit}.")
        known, application = list(tables), application or Known({})
        treatments: dict[tuple[str, str], Treatment] = {}
        for treatment, written in (columns or {}).items():
            for name in map(application.column_of, written):
                found = [(_name(t), c.name) for t in known for c in t.columns if name in _spellings(t, c.name)]
                if not found:
                    raise ConfigurationError(f"There is no column {name}: write it as table.column.")
                treatments.update(dict.fromkeys(found, treatment))
        said, called = names or {}, [(_name(t), name) for t in known for name in reversed(spellings_anywhere(t))]
        types = {table: application.resources[name] for table, name in called if name in application.resources}
        types |= {_name(t): said[name] for t in known for name in _spellings(t) if name in said}
        fields = {table: application.fields.get(name, {}) for table, name in called if name in application.resources}
        others = {table: application.others[name] for table, name in called if name in application.others}
        limit = application.limit if limit is None else limit
        return cls(limit, types, treatments, fields, application.database, others)


def _by_name(redactor: Redactor, column: str, kind: str, resource_type: str) -> Treatment:
    """A measure of a secret (``password_changed_at``) is told where its type can hold no secret."""
    treatment = redactor.treatment(column, resource_type)
    if treatment is None:  # a trigger can keep nothing apart
        return "replace" if redactor.is_private(column, resource_type) else "tell"
    if treatment in MEASURES:
        return "tell" if kind in (_NUMBERS if treatment == "measure" else _MEASURING) else "replace"
    return treatment if treatment in {"mask", "exclude"} else "replace"


def _name(table: Table) -> str:
    return f"{table.schema}.{table.name}"


def is_called(table: Table, names: Iterable[str]) -> bool:
    """Whether one of these names is this table's."""
    return not set(_spellings(table)).isdisjoint(names)


def spellings_anywhere(table: Table) -> list[str]:
    """As an application's classes may name it, the exact names first: which search_path they have nobody knows here."""
    places = [(table.schema, table.name), table.root]
    return [f"{schema}.{name}" for schema, name in places] + [name for _, name in places]


def _spellings(table: Table, column: str = "") -> Iterable[str]:
    """A part is named by its root, too, and what the search_path finds without its schema."""
    ending = f".{column}" if column else ""
    places = {(table.schema, table.name), table.root}
    written = [f"{schema}.{name}" for schema, name in places]
    written += [name for schema, name in places if schema == "public" or table.is_visible]
    return [name + ending for name in written]
