"""What a table's triggers tell of its columns: decided once, when they are installed, by the redactor's rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

from audit_core.errors import ConfigurationError
from audit_core.redaction import Redactor
from audit_core.redaction.rules import MEASURES
from audit_core.triggers.tables import Table

ROWS_TOLD = 1_000
Treatment: TypeAlias = Literal["tell", "replace", "mask", "exclude"]

_MEASURING = ("bool", "datetime")
_NUMBERS = ("int", "bool", "datetime")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the triggers of one table were installed with. It is kept as the comment on their function."""

    resource_type: str
    limit: int = ROWS_TOLD
    treatments: Mapping[str, Treatment] = field(default_factory=dict)  # by column; every one that the table had

    def as_text(self) -> str:
        """For the comment."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str | None) -> Rules | None:
        """The rules of a comment; None where it holds none that we have written."""
        try:
            found = json.loads(text or "")
            return cls(found["resource_type"], int(found["limit"]), dict(found["treatments"]))
        except (ValueError, TypeError, KeyError):
            return None


def rules_for(table: Table, redactor: Redactor, given: Given, before: Rules | None) -> Rules:
    """What to tell of a table as it is now. What an earlier installation said of it stays, unless it is said anew."""
    resource_type = given.names.get(_name(table)) or (before.resource_type if before else table.root[1])
    limit = given.limit if given.limit is not None else before.limit if before else ROWS_TOLD
    kept = before.treatments if before else {}
    treatments: dict[str, Treatment] = {}
    for column in table.columns:
        said = given.treatments.get((_name(table), column.name)) or kept.get(column.name)
        treatments[column.name] = said or _by_name(redactor, column.name, column.kind, resource_type)
    return Rules(resource_type, limit, treatments)


@dataclass(frozen=True, slots=True)
class Given:
    """What an installation says of tables and columns."""

    limit: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # schema.table: resource type
    treatments: Mapping[tuple[str, str], Treatment] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        tables: Iterable[Table],
        limit: int | None,
        names: Mapping[str, str],
        columns: Mapping[Treatment, Iterable[str]],
    ) -> Given:
        """``columns`` are written ``table.column``. Raises ConfigurationError for one that there is not."""
        if limit is not None and limit < 0:
            raise ConfigurationError(f"The limit is a number of rows, 0 or more, not {limit}.")
        known = list(tables)
        treatments: dict[tuple[str, str], Treatment] = {}
        for treatment, written in columns.items():
            for name in written:
                found = [(_name(t), c.name) for t in known for c in t.columns if name in _spellings(t, c.name)]
                if not found:
                    raise ConfigurationError(f"There is no column {name}: write it as table.column.")
                treatments.update(dict.fromkeys(found, treatment))
        types = {_name(t): resource for t in known for name, resource in names.items() if name in _spellings(t)}
        return cls(limit, types, treatments)


def _by_name(redactor: Redactor, column: str, kind: str, resource_type: str) -> Treatment:
    """A measure of a secret (``password_changed_at``) is told where its type can hold no secret."""
    treatment = redactor.treatment(column, resource_type)
    if treatment is None:
        return "tell"
    if treatment in MEASURES:
        return "tell" if kind in (_NUMBERS if treatment == "measure" else _MEASURING) else "replace"
    return "mask" if treatment == "mask" else "replace"


def _name(table: Table) -> str:
    return f"{table.schema}.{table.name}"


def _spellings(table: Table, column: str = "") -> Iterable[str]:
    """A part is named by its root, too."""
    ending = f".{column}" if column else ""
    root = ".".join(table.root)
    written = [
        _name(table),
        root,
        *(n.removeprefix("public.") for n in (_name(table), root) if n.startswith("public.")),
    ]
    return [name + ending for name in written]
