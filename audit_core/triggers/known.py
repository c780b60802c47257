"""What an application knows of its tables: what its classes are called, what rules they have, what is not audited."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from audit_core.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Known:
    """Each table is called as ``table`` or ``schema.table``."""

    resources: Mapping[str, str]  # the resource type of each table of an audited class
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # table: column: field
    classes: Mapping[str, str] = field(default_factory=dict)  # what a class is called, in lower case: its table
    limit: int | None = None  # rows of a statement that are told one by one
    redactor: Redactor | None = None  # it decides, whatever an earlier installation said
    database: str | None = None  # what the events say of the database; None for the usual one
    # Table: the resource types and fields, by column, that others of its rows have: the strictest rule holds for all.
    others: Mapping[str, Mapping[str, Collection[tuple[str, str]]]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)  # a table that is not to be told: the class that says so
    cure: str = ""  # where the ORM's hooks tell of tables that have triggers, too: what to do about it

    def table_of(self, name: str) -> str:
        """The table of a class, or of that name."""
        return self.classes.get(name.lower(), name)

    def column_of(self, name: str) -> str:
        """``table.column`` of a field that is written ``class.field``, or what is that already."""
        owner, _, called = name.rpartition(".")
        table = self.table_of(owner)
        columns = {told: column for column, told in self.fields.get(table, {}).items()}
        return f"{table}.{columns.get(called, called)}"


@dataclass(frozen=True, slots=True)
class Stored:
    """One class, and the tables in which the rows of its objects are."""

    name: str
    tables: Collection[str]
    is_audited: bool


def left_to_hooks(classes: Sequence[Stored]) -> dict[str, str]:
    """The tables whose rows no trigger may tell, each with the class that is the reason.

    A trigger sees rows and no classes: it would tell of each row, also where it is a part of an object that is not
    audited. And an object is told by triggers wholly, or not at all.
    """
    left = {table: one.name for one in classes if not one.is_audited for table in one.tables}
    before = -1
    while len(left) > before:
        before = len(left)
        for one in classes:
            if reason := next((left[table] for table in one.tables if table in left), None):
                left = dict.fromkeys(one.tables, reason) | left
    return left
