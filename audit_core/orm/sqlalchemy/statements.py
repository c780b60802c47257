"""What ``session.execute`` writes with INSERT, UPDATE and DELETE, row by row up to a limit.

The rows of an UPDATE are read by its own condition, and locked, before it runs; what it then wrote comes back with
RETURNING, and so does what an INSERT wrote and what a DELETE removed. What the caller gets is what he would have got.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import tee
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Result
from sqlalchemy.orm import Mapper, ORMExecuteState, Session
from sqlalchemy.orm.context import FromStatement

from audit_core.orm.bulk import Bulk, Summary
from audit_core.orm.changes import Change
from audit_core.orm.sqlalchemy.associations import Association
from audit_core.orm.sqlalchemy.execution import Execution, plain
from audit_core.orm.sqlalchemy.targets import target_of
from audit_core.orm.sqlalchemy.written import ClassFact, write

if TYPE_CHECKING:
    from audit_core.trail import AuditTrail

Audits = Callable[[Mapper[Any]], bool]
Beside = Callable[[Connection], Audits]


class StatementListener:
    """Listens to ``do_orm_execute`` for one auditor; where several listen, one of them speaks for all."""

    def __init__(self, trail: AuditTrail, audits: Audits, bulk: Bulk, beside: Beside | None = None) -> None:
        self.trail, self.audits, self.bulk, self._beside = trail, audits, bulk, beside

    def on(self, connection: Connection) -> StatementListener:
        """The same, without what triggers tell on this connection."""
        return StatementListener(self.trail, self._beside(connection), self.bulk) if self._beside else self

    def __call__(self, state: ORMExecuteState) -> Result[Any] | None:
        """Run the statement after all other listeners have had their say: they may change it, or run it elsewhere."""
        if not state.statement.is_dml or not any(map(self.audits, _classes(state.statement))):
            return None
        everyone = state._events_todo  # noqa: SLF001 - what SQLAlchemy keeps for ``invoke_statement``
        listeners = [one for one in everyone if isinstance(one, StatementListener)]
        later = [one for one in state._remaining_events() if not isinstance(one, StatementListener)]  # noqa: SLF001
        state._events_todo = [*later, Last(listeners)]  # noqa: SLF001 - as above
        for position, listener in enumerate(state._events_todo):  # noqa: SLF001 - as above
            state._starting_event_idx = position  # noqa: SLF001 - as above
            if (result := listener(state)) is not None:
                return result  # type: ignore[no-any-return]
        raise AssertionError  # the last one always has a result


class Last:
    """Runs the statement, and tells what it wrote."""

    def __init__(self, listeners: Sequence[StatementListener]) -> None:
        self._listeners = listeners

    def __call__(self, state: ORMExecuteState) -> Result[Any]:
        """The result of the statement, as the caller expects it."""
        statement = state.statement
        target = target_of(_written_by(statement))
        if target is None:
            return state.invoke_statement()
        listeners = listeners_for(self._listeners, target.mappers)
        for one in listeners:
            one.bulk.allow(f"{_verb(statement)} statement", target.resource_type)
        if _option(state, "autoflush", usual=True):
            state.session._autoflush()  # noqa: SLF001 - what the statement would do first
            state.update_execution_options(autoflush=False)  # and not again: a flush may leave work for the next one
        connection = state.session.connection(bind_arguments=dict(state.bind_arguments))
        with _in_its_schema(state, connection):
            if not isinstance(target, Association):
                listeners = left_by_triggers(listeners, connection, target.mappers)
            if not listeners:
                return state.invoke_statement()
            check_outboxes(listeners, connection)
            limit = max(one.bulk.limit for one in listeners)
            result, facts = write(Execution(state, target, connection, limit))
            record(listeners, state.session, connection, facts)
        return result


def listeners_of(session: Session, mappers: Iterable[Mapper[Any]]) -> list[StatementListener]:
    """Those who listen to this session and audit one of these classes."""
    found = [one for one in session.dispatch.do_orm_execute if isinstance(one, StatementListener)]
    return listeners_for(found, list(mappers))


def listeners_for(listeners: Iterable[StatementListener], mappers: Sequence[Mapper[Any]]) -> list[StatementListener]:
    """Those who audit one of these classes."""
    return [one for one in listeners if any(map(one.audits, mappers))]


def left_by_triggers(
    listeners: Iterable[StatementListener], connection: Connection, mappers: Iterable[Mapper[Any]]
) -> list[StatementListener]:
    """Those who have something to tell of these classes' rows that triggers on this connection do not tell."""
    return listeners_for([one.on(connection) for one in listeners], list(mappers))


def check_outboxes(listeners: Iterable[StatementListener], connection: Connection) -> None:
    """Raises ConfigurationError, before anything is written, for a database that a trail does not drain."""
    for trail in {one.trail for one in listeners}:
        trail.outbox_of(connection.connection.dbapi_connection, weakref.ref(connection.engine))


def record(
    listeners: Iterable[StatementListener], session: Session, connection: Connection, facts: Iterable[ClassFact]
) -> None:
    """Write the events of one statement. What this raises undoes the transaction, as a flush that fails does."""
    trails = list({one.trail: None for one in listeners})
    try:
        for trail, its_facts in zip(trails, tee(facts, len(trails)), strict=True):
            choices = [one.audits for one in listeners if one.trail is trail]
            carry(trail, connection, _chosen(its_facts, choices))
    except BaseException:
        if (transaction := session.get_transaction()) is not None:
            inner = transaction._begin()  # noqa: SLF001 - what a flush does
            inner.rollback(_capture_exception=True)
        raise


def _chosen(facts: Iterable[ClassFact], choices: Sequence[Audits]) -> Iterator[Change | Summary]:
    known: dict[Mapper[Any], bool] = {}
    for mapper, fact in facts:
        if mapper not in known:
            known[mapper] = any(audits(mapper) for audits in choices)
        if known[mapper]:
            yield fact


def carry(trail: AuditTrail, connection: Connection, facts: Iterable[Change | Summary]) -> None:
    """Write what happened into the outbox of the connection's database, in its transaction."""
    redactor = trail.redactor
    told = (replace(one, criteria=redactor.text(one.criteria)) if isinstance(one, Summary) else one for one in facts)
    # A weak reference equals another one to the same engine, and keeps no engine alive.
    trail.tell(told, connection.connection.dbapi_connection, weakref.ref(connection.engine))


def _option(state: ORMExecuteState, name: str, usual: Any) -> Any:
    """An execution option, as a listener may have changed it."""
    return state.local_execution_options.get(name, state.execution_options.get(name, usual))


@contextmanager
def _in_its_schema(state: ORMExecuteState, connection: Connection) -> Iterator[None]:
    """What we read is read where the statement writes."""
    chosen = _option(state, "schema_translate_map", usual=None)
    usual = connection.get_execution_options().get("schema_translate_map")
    if chosen is None or chosen == usual:
        yield
        return
    connection.execution_options(schema_translate_map=chosen)
    try:
        yield
    finally:
        connection.execution_options(schema_translate_map=usual)


def _written_by(statement: Any) -> Any:
    statement = plain(statement)
    return statement.element if isinstance(statement, FromStatement) else statement


def _classes(statement: Any) -> list[Mapper[Any]]:
    target = target_of(_written_by(statement))
    return target.mappers if target else []


def _verb(statement: Any) -> str:
    return "An INSERT" if statement.is_insert else "An UPDATE" if statement.is_update else "A DELETE"
