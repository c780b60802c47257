"""SQLAlchemyAuditor: the changes of SQLAlchemy sessions, in the transactions that make them."""

from __future__ import annotations

import _thread
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import Mapper, Session, SessionTransaction, UOWTransaction, scoped_session, sessionmaker

from audit_core.errors import ConfigurationError
from audit_core.orm.bulk import Bulk, checked_bulk
from audit_core.orm.selection import Selection
from audit_core.orm.sqlalchemy import bulk_methods as _bulk_methods  # noqa: F401 - makes sessions tell
from audit_core.orm.sqlalchemy import watched as _watched  # noqa: F401 - makes tests see what is undone
from audit_core.orm.sqlalchemy.classes import check_rules, every_name, is_frameworks, is_own, names_of
from audit_core.orm.sqlalchemy.flush import Audits, begin, finish
from audit_core.orm.sqlalchemy.statements import StatementListener, carry
from audit_core.orm.sqlalchemy.triggered import Triggered
from audit_core.settings import no_trail

if TYPE_CHECKING:
    from audit_core.trail import AuditTrail


class SQLAlchemyAuditor:
    """Audits what sessions write: create, update and delete of each object, link and unlink of many-to-many.

    The event commits or rolls back with the change, on the same connection. ``include`` names the only mapped classes
    that are audited, with their subclasses; ``exclude`` those that are not: the classes, or their names (``Patient``,
    ``clinic.models.Patient``, ``patient``). ``choose`` is asked for each other class, and what it says no to is not
    audited. A name that no class has is a ConfigurationError as soon as something is written. The trail's own tables
    never are audited.
    With ``triggers`` the rows of tables that have ours (PostgreSQL) are left to them, and they are told who acts.
    ``bulk`` says what becomes of statements and methods that write many rows at once.
    Raises ConfigurationError for what is none of these.
    """

    def __init__(
        self,
        trail: AuditTrail,
        *,
        include: Iterable[type | str] | None = None,
        exclude: Iterable[type | str] = (),
        choose: Callable[[type], object] | None = None,
        triggers: bool = False,
        bulk: Bulk | None = None,
    ) -> None:
        if not hasattr(trail, "outbox_of"):  # its class is above
            raise no_trail(trail, "SQLAlchemyAuditor(AuditTrail(url))")
        self.trail = trail
        self._selection, self._are_names_checked = Selection(include, exclude, choose), False
        self._triggered = Triggered(trail) if triggers else None
        self._audited: weakref.WeakKeyDictionary[Mapper[Any], bool] = weakref.WeakKeyDictionary()
        self._open: weakref.WeakKeyDictionary[SessionTransaction, weakref.finalize[..., SessionTransaction]]
        self._open = weakref.WeakKeyDictionary()
        beside = (lambda connection: self._beside(lambda _: connection)) if triggers else None
        self.bulk = checked_bulk(bulk)
        self._statements = StatementListener(trail, self.audits, self.bulk, beside)

    @property
    def uses_triggers(self) -> bool:
        """Whether the rows of tables that have our triggers are left to them."""
        return self._triggered is not None

    def attach(self, target: Any) -> None:
        """Audit the sessions of ``target``, from now on. May be repeated, by another auditor of the same trail too.

        ``target`` is a sessionmaker or scoped_session, a Session or a class of it, or their asyncio counterparts.
        Raises ConfigurationError for anything else.
        """
        sessions = _sessions(target)
        for name, listener in self._listeners():
            if not event.contains(sessions, name, listener):
                event.listen(sessions, name, listener)

    def detach(self, target: Any) -> None:
        """Undo ``attach`` of the same target."""
        sessions = _sessions(target)
        for name, listener in self._listeners():
            if event.contains(sessions, name, listener):
                event.remove(sessions, name, listener)

    def audits(self, mapper: Mapper[Any]) -> bool:
        """Whether changes of this mapped class are audited.

        Raises ConfigurationError where ``include``, ``exclude`` or ``@redacted`` names what there is not.
        """
        if (answer := self._audited.get(mapper)) is None:
            answer = self._audited[mapper] = self._look_at(mapper)
        return answer

    def _look_at(self, mapper: Mapper[Any]) -> bool:
        if not self._are_names_checked:
            self._selection.check(every_name())
            self._are_names_checked = True
        names = names_of(mapper.class_)
        only_as = names[mapper.class_] if is_frameworks(mapper) else None
        chosen = not is_own(mapper) and self._selection.chooses(mapper.class_, names, only_as)
        if chosen:
            check_rules(mapper)
        return chosen

    def _listeners(self) -> list[tuple[str, Callable[..., object]]]:
        follows = [("after_begin", self._connection_begins)] if self._triggered else []
        return [
            *follows,
            ("do_orm_execute", self._statements),
            ("after_transaction_create", self._transaction_begins),
            ("after_transaction_end", self._transaction_ends),
            ("before_flush", self._flush_begins),
            ("after_flush", self._flush_ends),
        ]

    def _flush_begins(self, session: Session, uow: UOWTransaction, objects: object) -> None:
        del objects
        begin(session, uow, self.trail, self._beside(lambda mapper: session.connection({"mapper": mapper})))

    def _flush_ends(self, session: Session, uow: UOWTransaction) -> None:
        """What this raises rolls the flush back: a change whose event cannot be written does not commit."""
        for connection, changes in finish(session, uow, self.trail).items():
            carry(self.trail, connection, changes)

    def _beside(self, connection_of: Callable[[Mapper[Any]], Connection]) -> Audits:
        return _Beside(self, self._triggered, connection_of) if self._triggered else self.audits

    def _connection_begins(self, session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        del session, transaction
        if self._triggered:
            self._triggered.follow(connection)

    def _transaction_begins(self, session: Session, transaction: SessionTransaction) -> None:
        """The trail waits with writes of its own while a transaction may be about to write."""
        del session
        if transaction.parent is not None or transaction in self._open:
            return
        self.trail.opened()
        # A session that is dropped without close() has no other end than this.
        finalizer = weakref.finalize(transaction, _dropped, self.trail, os.getpid())
        finalizer.atexit = False
        self._open[transaction] = finalizer

    def _transaction_ends(self, session: Session, transaction: SessionTransaction) -> None:
        del session
        if (finalizer := self._open.pop(transaction, None)) is not None and (found := finalizer.detach()):
            _, _, (trail, process), _ = found
            if process == os.getpid():
                trail.closed()


@dataclass(frozen=True, slots=True, eq=False)
class _Beside:
    """Which classes the hooks audit: those that no trigger does. Links are theirs in any case."""

    auditor: SQLAlchemyAuditor
    triggered: Triggered
    connection_of: Callable[[Mapper[Any]], Connection]
    known: dict[Mapper[Any], bool] = field(default_factory=dict)

    def __call__(self, mapper: Mapper[Any]) -> bool:
        if mapper not in self.known:
            audited = self.auditor.audits(mapper)
            self.known[mapper] = audited and not self.triggered.tells(self.connection_of(mapper), mapper)
        return self.known[mapper]

    def links(self, mapper: Mapper[Any]) -> bool:
        return self.auditor.audits(mapper)


def _dropped(trail: AuditTrail, process: int) -> None:
    """Runs wherever garbage is collected, perhaps in a thread that holds the very lock that this needs."""
    if process == os.getpid():
        with suppress(RuntimeError):  # the interpreter is ending, and the lock with it
            _thread.start_new_thread(trail.closed, ())


def _sessions(target: Any) -> Any:
    """What SQLAlchemy can listen to: a sessionmaker, or a Session or a class of it."""
    if isinstance(target, scoped_session):
        return _sessions(target.session_factory)
    if isinstance(target, sessionmaker | Session) or (isinstance(target, type) and issubclass(target, Session)):
        return target
    if "sqlalchemy.ext.asyncio" in sys.modules:
        from audit_core.orm.sqlalchemy.async_sessions import sync_side

        if (found := sync_side(target)) is not None:
            return found
    raise ConfigurationError(
        "SQLAlchemyAuditor.attach() takes a sessionmaker, a scoped_session, a Session or their asyncio counterparts, "
        f"not {target!r}."
    )
