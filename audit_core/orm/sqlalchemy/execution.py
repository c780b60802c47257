"""One statement on its way, and how it is run so that the rows it writes come back, unseen by the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Result
from sqlalchemy.engine.cursor import _NO_RESULT_METADATA, null_dml_result
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.orm.context import FromStatement

from audit_core.orm.bulk import Summary
from audit_core.orm.sqlalchemy.criteria import Condition, condition_of, told
from audit_core.orm.sqlalchemy.readable import readable
from audit_core.orm.sqlalchemy.targets import Written
from audit_core.orm.sqlalchemy.upserts import conflict_told


@dataclass(slots=True)
class Execution:
    """A statement of ``session.execute`` that writes ``target``; ``limit`` is how many rows are told one by one."""

    state: ORMExecuteState
    target: Written
    connection: Connection
    limit: int

    def __post_init__(self) -> None:
        statement = plain(self.state.statement)
        self.state.statement = _returning_entities(statement) if isinstance(statement, FromStatement) else statement

    @property
    def statement(self) -> Any:
        """The INSERT, UPDATE or DELETE."""
        return self.state.statement

    @property
    def parameters(self) -> Any:
        """What was passed beside it: a dict, or a list of them."""
        return self.state.parameters

    @property
    def condition(self) -> Condition:
        """Which rows an UPDATE or DELETE is about."""
        return condition_of(self.state, self.target)

    def run(self) -> Result[Any]:
        """As it is."""
        return self.state.invoke_statement()

    def run_counting(self, count: int = -1) -> tuple[Result[Any], int]:
        """As it is, and how many rows it wrote; ``count`` where the driver does not say."""
        result: Any = self.state.invoke_statement(execution_options={"preserve_rowcount": True})
        if self.statement._returning:  # noqa: SLF001 - has no public name
            frozen = result.freeze()
            return frozen(), len(frozen.data)
        written = getattr(result, "rowcount", -1)
        return result, written if written >= 0 else count

    def run_returning(self, columns: Sequence[ColumnElement[Any]]) -> tuple[Result[Any], list[Any]]:
        """With these columns of each row that it wrote."""
        if self.statement._returning or self._yields_nothing():  # noqa: SLF001 - the same
            return self._run_returning_more(columns)
        names = [f"audit_{number}" for number in range(len(columns))]
        told = [readable(column).label(name) for column, name in zip(columns, names, strict=True)]
        statement = self.statement.return_defaults(*self.key_columns, supplemental_cols=told)
        result: Any = self.state.invoke_statement(statement)
        pick = result._tuple_getter(names)  # noqa: SLF001 - how SQLAlchemy reads these rows itself
        rows = [pick(row) for row in result.returned_defaults_rows or ()]
        if self.statement.is_insert:
            result.context._rowcount = len(rows)  # noqa: SLF001 - as it does for an UPDATE
        result._soft_close()  # noqa: SLF001 - as one that never had rows, whoever asks
        result._metadata = _NO_RESULT_METADATA  # noqa: SLF001 - the same
        return result, rows

    @property
    def can_return(self) -> bool:
        """Whether the database has RETURNING for this statement; SQLite has it from 3.35 on."""
        dialect, statement = self.connection.dialect, self.statement
        if statement.is_insert:
            many = isinstance(self.parameters, list)
            return bool(dialect.insert_executemany_returning if many else dialect.insert_returning)
        return bool(dialect.update_returning if statement.is_update else dialect.delete_returning)

    def run_returning_keys(self) -> tuple[Result[Any], list[Any]]:
        """A bulk INSERT into the several tables of a class, with the primary keys."""
        mapper = self.target.mapper
        names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        return self._run_returning_more([getattr(mapper.class_, name) for name in names])

    @property
    def key_columns(self) -> list[ColumnElement[Any]]:
        """The primary key's columns, in the statement's table."""
        return [self.target.columns[place] for place in self.target.key]

    def summary(self, action: str, rows: int, values: Mapping[str, Any] | None = None) -> Summary:
        """What is told instead of that many rows."""
        if action == "create":
            return Summary(action, self.target.resource_type, rows, conflict_told(self.statement, self.target))
        criteria, parameters = told(self.condition, self.target, self.parameters)
        return Summary(action, self.target.resource_type, rows, criteria, parameters, values or {})

    def _yields_nothing(self) -> bool:
        """The caller of these gets a result with nothing in it: SQLAlchemy splits them up, or the database selects."""
        if not getattr(self.target.origin, "implicit_returning", True):
            return True
        if not self.statement.is_insert or self.statement._return_defaults:  # noqa: SLF001 - the same
            return False
        return self.statement.select is not None or bool(self.parameters and self.target.by_class)

    def _run_returning_more(self, columns: Sequence[ColumnElement[Any]]) -> tuple[Result[Any], list[Any]]:
        """The caller has a RETURNING of his own, or needs one: ours stand behind his, and he does not see them."""
        if any(getattr(one, "_is_star", False) for one in self.statement._returning):  # noqa: SLF001 - the same
            everything = self.run().freeze()
            rows = [row._mapping for row in everything.data]  # noqa: SLF001 - SQLAlchemy's public name for it
            return everything(), [tuple(row[column.name] for column in columns) for row in rows]
        more = [readable(column).label(f"audit_{number}") for number, column in enumerate(columns)]
        result: Any = self.state.invoke_statement(self.statement.returning(*more))
        frozen = result.freeze()
        rows = [tuple(row)[-len(more) :] for row in frozen.data]
        given: Any = frozen()
        width = len(given.keys()) - len(more)
        given = given.columns(*range(width)) if width else null_dml_result()
        given.raw, given.rowcount = getattr(result, "raw", None), len(rows)
        return given, rows


def plain(statement: Any) -> Any:
    """The statement that a ``lambda_stmt`` stands for."""
    return getattr(statement, "_resolved", statement)


def _returning_entities(statement: FromStatement[Any]) -> Any:
    """``select(User).from_statement(insert(User)...)`` as the statement that returns these entities."""
    inner: Any = statement.element
    inner = inner._clone()  # noqa: SLF001 - has no public name
    inner._returning = tuple(statement._raw_columns)  # noqa: SLF001 - the same
    inner._propagate_attrs = inner._propagate_attrs or statement._propagate_attrs  # noqa: SLF001 - the same
    return inner.options(*statement._with_options)  # noqa: SLF001 - the same
