"""Statements that change many rows at once: up to a limit each row is told, above it one summary is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from audit_core.clean import clean
from audit_core.errors import BulkForbiddenError, ConfigurationError
from audit_core.orm.changes import Values
from audit_core.policy import ROWS_TOLD
from audit_core.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Bulk:
    """What becomes of bulk operations: ``limit`` rows are told one by one, and ``forbid`` lets none happen at all.

    Raises ConfigurationError for a limit that is no number of rows.
    """

    limit: int = ROWS_TOLD
    forbid: bool = False

    def __post_init__(self) -> None:
        if type(self.limit) is not int or self.limit < 0:
            raise ConfigurationError(
                f"The limit of bulk operations is a number of rows, 0 or more, not {self.limit!r}."
            )

    def allow(self, operation: str, resource_type: str) -> None:
        """Raises BulkForbiddenError where bulk operations are forbidden; nothing was written."""
        if self.forbid:
            raise BulkForbiddenError(
                f"{operation} of {resource_type!r} was refused: bulk operations of audited classes are forbidden here. "
                "Save or delete the objects one by one, or allow bulk operations in the audit's settings."
            )


def checked_bulk(bulk: Bulk | None) -> Bulk:
    """What was given, or what is usual. Raises ConfigurationError for anything else, which would fail at each flush."""
    if bulk is not None and not isinstance(bulk, Bulk):
        raise ConfigurationError(f"bulk is a Bulk, not {bulk!r}: give Bulk(forbid=True), or Bulk(limit=200).")
    return bulk or Bulk()


@dataclass(frozen=True, slots=True)
class Summary:
    """One statement that changed more rows than are told one by one. ``action`` is create, update or delete."""

    action: str
    resource_type: str
    rows: int
    criteria: str = ""  # the condition as the ORM writes it, with names where its values were; "" is every row
    parameters: Values = field(default_factory=dict)  # the values, by the name of the field that they are compared with
    values: Values = field(default_factory=dict)  # what was written, by field; an expression as its text

    def resource(self, redactor: Redactor) -> tuple[str, None]:
        """What the event is about: rows of this type, and no single one."""
        del redactor
        return self.resource_type, None

    @property
    def details(self) -> Mapping[str, object]:
        """The event's details; names that are sensitive are redacted with all others when the event is made."""
        told = {"criteria": self.criteria, "parameters": self.parameters, "values": self.values}
        return {"bulk": {"rows": self.rows, **{name: clean(value) for name, value in told.items() if value}}}
