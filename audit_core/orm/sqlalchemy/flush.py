"""What one flush of a SQLAlchemy session writes, row by row.

Old values are noted just before the row is written, while the session still knows them, and read from the row where
it does not: one query for all rows of a class. New values are noted just after, when keys are generated and defaults
are known; what only the database knows is read back, again in one query for all rows of a class.

The order of things inside ``Session.flush``: before_flush, the unit of work decides which objects it writes, per class
before_insert and before_update of each, INSERT and UPDATE, after_insert and after_update of each; the same for
deletes; UPDATEs of relationships with ``post_update``; after_flush; then history is forgotten.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, event
from sqlalchemy.orm import InstanceState, Mapper, Session, UOWTransaction
from sqlalchemy.orm.base import LoaderCallableStatus, instance_state
from sqlalchemy.sql.elements import ClauseElement

from audit_core.orm.changes import Change, created, deleted, updated
from audit_core.orm.sqlalchemy.held import Held, became, in_row, remember
from audit_core.orm.sqlalchemy.links import link_changes
from audit_core.orm.sqlalchemy.mapped import Key, Mapped, mapped, read, take_write_lock

State = InstanceState[Any]
Audits = Callable[[Mapper[Any]], bool]
_CURRENT = "audit_core.flush"
_MUTABLE = (dict, list, set, bytearray)
_UNRELIABLE = (LoaderCallableStatus, *_MUTABLE)
_UNKNOWN = LoaderCallableStatus.NO_VALUE


@dataclass(slots=True, eq=False)
class _Row:
    """One object that this flush writes."""

    action: str
    state: State
    fields: Mapped
    connection: Connection
    old: dict[str, Any] = field(default_factory=dict)
    new: dict[str, Any] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)  # what only the database knows by now
    known: Held = field(default_factory=dict)  # what became of values that were written before
    done: bool = False

    @property
    def mapper(self) -> Mapper[Any]:
        return self.state.mapper

    @property
    def key(self) -> Key:
        """The primary key after the change, as the row holds it: the session's identity is what it was given."""
        identity = self.state.key[1] if self.state.key else None
        names = self.fields.key
        if identity is not None and (self.action == "delete" or self.new.keys().isdisjoint(names)):
            values = identity
        else:
            before = dict(zip(names, identity, strict=True)) if identity else self.old
            values = tuple(self.new.get(name, self.state.dict.get(name, before.get(name))) for name in names)
        return tuple(map(self.held, names, values) if self.known else values)

    def held(self, name: str, value: Any) -> Any:
        """What the row holds where the object has ``value``, which an earlier flush may have written."""
        return in_row(self.known, name, value)

    def note(self, name: str, value: Any) -> None:
        """``value`` has been written, and is read back where the row may hold another one."""
        self.new[name] = _plain(value)
        keeps = self.fields.keeps.get(name)
        if keeps is None or value is None or type(value) is keeps.surely:
            return
        if not keeps.asked(value, self.connection.dialect):
            self.unread.add(name)

    def before(self, names: Iterable[str]) -> dict[str, Any]:
        """What the row held before this flush."""
        return {name: self.held(name, self.old.get(name)) for name in names}


class FlushRecorder:
    """Collects the changes of one flush. Its methods are called in the order that the module's docstring gives."""

    def __init__(self, uow: UOWTransaction) -> None:
        self._uow: UOWTransaction = weakref.proxy(uow)  # which keeps this alive
        self.choices: list[Audits] = []
        self._rows: dict[State, _Row] = {}
        self._looked_up: set[tuple[Mapper[Any], bool]] = set()
        self._from_row: dict[State, dict[str, Any]] = {}
        self._locked: set[Connection] = set()
        self._deletes: bool | None = None
        self._late: set[ColumnElement[Any]] | None = None
        self._audited: dict[Mapper[Any], bool] = {}

    def _audits(self, mapper: Mapper[Any]) -> bool:
        if (answer := self._audited.get(mapper)) is None:
            answer = self._audited[mapper] = any(audits(mapper) for audits in self.choices)
        return answer

    def _audits_links(self, mapper: Mapper[Any]) -> bool:
        return any(getattr(audits, "links", audits)(mapper) for audits in self.choices)

    def before(self, action: str, connection: Connection, state: State) -> None:
        """``state`` is about to be written."""
        if not self._audits(state.mapper):
            return
        row = self._rows[state] = _Row(action, state, mapped(state.mapper), connection, known=became(state))
        if action != "create":
            self._look_up(row)
            row.old = self._old(state)
        elif (replaced := self._replaced(state)) is not None:
            self._read_old(connection, [replaced], delete=True)
            row.old, row.known = self._old(replaced), became(replaced)

    def after(self, action: str, state: State) -> None:
        """It has been written. A new object in the place of one that this flush deletes is an update."""
        if (row := self._rows.get(state)) is None:
            return
        row.action, row.done = action, True
        if action == "create":
            self._note_created(row)
        elif action == "update":
            self._note_updated(row)

    def changes(self, session: Session) -> dict[Connection, list[Change]]:
        """What the flush wrote, per connection, in order."""
        self._note_post_updates()
        rows = [row for row in self._rows.values() if row.done]
        self._read_back([row for row in rows if row.unread])
        changes: dict[Connection, list[Change]] = {}
        unlinks, links = link_changes(session, self._uow, self._audits_links)
        for connection, change in (*unlinks, *_changes(rows), *links):
            changes.setdefault(connection, []).append(change)
        return changes

    # -- old values --------------------------------------------------------------------------------------------

    def _look_up(self, row: _Row) -> None:
        """Read the old values that the session does not know, for all objects of this class at once."""
        delete = row.action == "delete"
        states = [row.state]
        once = (row.mapper.base_mapper, delete)
        if once not in self._looked_up and _one_connection(row.state):
            self._looked_up.add(once)
            states = [s for s in self._registered(delete=delete) if s.mapper.base_mapper is once[0]]
        self._read_old(row.connection, states, delete=delete)

    def _registered(self, *, delete: bool) -> Iterator[State]:
        """What the unit of work is going to save, or to delete."""
        for state, (is_delete, list_only) in list(self._uow.states.items()):
            if is_delete == delete and not list_only and state.key and self._audits(state.mapper):
                yield state

    def _read_old(self, connection: Connection, states: Iterable[State], *, delete: bool) -> None:
        wanted = [(state, missing) for state in states if (missing := self._missing(state, delete=delete))]
        for mapper, group in _by(lambda pair: pair[0].mapper, wanted):
            if connection not in self._locked:
                self._locked.add(connection)
                take_write_lock(connection, mapper, delete=delete)
            names = list(dict.fromkeys(name for _, missing in group for name in missing))
            keys = {state: _identity(state) for state, _ in group}
            found = read(connection, mapper, list(keys.values()), names)
            for state, missing in group:
                values = found.get(keys[state], {})
                self._from_row.setdefault(state, {}).update((n, values[n]) for n in missing if n in values)

    def _missing(self, state: State, *, delete: bool) -> list[str]:
        """The fields that will be written and whose old value the session does not know."""
        fields, known = mapped(state.mapper), self._from_row.get(state, {})
        loaded, committed = state.dict, state.committed_state
        columns = fields.columns
        if delete:
            values = {**loaded, **committed}
            names = [n for n in columns if isinstance(values.get(n, _UNKNOWN), LoaderCallableStatus)]
        else:
            # A container may have been changed in place before it was replaced: it is not what was loaded.
            names = [n for n, value in committed.items() if isinstance(value, _UNRELIABLE) and n in columns]
            written = not columns.keys().isdisjoint(committed)
            unset = [*(fields.computed if written else ()), *self._written_later(fields)]
            names += [name for name in unset if name not in loaded and name not in committed]
        return [name for name in names if name not in known]

    def _written_later(self, fields: Mapped) -> list[str]:
        """Foreign keys that nobody has set yet: see ``_note_post_updates``."""
        if self._late is None:
            self._late = {c for mapper in {s.mapper for s in self._uow.states} for c in mapped(mapper).post_updated}
        if not self._late:
            return []
        return [name for name, c in fields.columns.items() if c in self._late and name not in fields.key]

    def _old(self, state: State) -> dict[str, Any]:
        values = {**state.dict, **state.committed_state, **self._from_row.get(state, {})}
        found = [(name, values[name]) for name in mapped(state.mapper).columns if name in values]
        return {n: None if v is JSON.NULL else v for n, v in found if not isinstance(v, LoaderCallableStatus)}

    def _replaced(self, state: State) -> State | None:
        """The object that this flush deletes and that has the new one's key: its row is updated instead."""
        if self._deletes is None:
            self._deletes = any(True for _ in self._registered(delete=True))
        if not self._deletes or state.session is None:
            return None
        key = [state.dict.get(name) for name in mapped(state.mapper).key]
        if None in key:
            return None
        identity = state.mapper.identity_key_from_primary_key(tuple(key))
        found = state.session.identity_map.get(identity)
        return None if found is None else instance_state(found)

    # -- new values --------------------------------------------------------------------------------------------

    def _note_created(self, row: _Row) -> None:
        loaded = row.state.dict
        for name in row.fields.columns:
            value = loaded.get(name, _UNKNOWN)
            if _is_expression(value) or (value is _UNKNOWN and name in row.state.expired_attributes):
                row.unread.add(name)
            elif value is not _UNKNOWN:
                row.note(name, value)

    def _note_updated(self, row: _Row) -> None:
        """Only fields whose old value is known can have been written; the unit of work leaves out equal values."""
        loaded, committed = row.state.dict, row.state.committed_state
        for name, old in row.old.items():
            value = loaded.get(name, _UNKNOWN)
            if value is old and not isinstance(value, _MUTABLE):
                continue
            if _is_expression(value) or (value is _UNKNOWN and name in row.state.expired_attributes):
                row.unread.add(name)
            elif value is not _UNKNOWN:
                if name in committed and row.state.manager[name].impl.is_equal(value, committed[name]) is True:
                    continue
                row.note(name, value)

    def _note_post_updates(self) -> None:
        """Foreign keys of ``post_update`` relationships are written last, by an UPDATE that fires no event."""
        for states, columns in self._uow.post_update_states.values():
            for row in filter(None, map(self._rows.get, states)):
                names = {row.mapper.get_property_by_column(c).key for c in columns if c in row.mapper.columns.values()}
                if row.action != "delete":
                    for name in names & row.state.dict.keys():
                        row.note(name, row.state.dict[name])

    def _read_back(self, rows: list[_Row]) -> None:
        for (connection, mapper), group in _by(lambda row: (row.connection, row.mapper), rows):
            names = list(dict.fromkeys(name for row in group for name in row.unread))
            found = read(connection, mapper, [row.key for row in group], names)
            for row in group:
                self._note_held(row, found.get(row.key, {}))

    def _note_held(self, row: _Row, values: dict[str, Any]) -> None:
        """The session goes on with the values that it was given, and they are the old ones of a later flush."""
        held = {name: (row.new.get(name, _UNKNOWN), values[name]) for name in row.unread if name in values}
        row.new.update((name, value) for name, (_, value) in held.items())
        if given := {name: pair for name, pair in held.items() if pair[0] is not _UNKNOWN}:
            remember(row.state, {**row.known, **given})


def _changes(rows: Iterable[_Row]) -> Iterator[tuple[Connection, Change]]:
    for row in rows:
        change = _change(row)
        if change is not None:
            yield row.connection, change


def _change(row: _Row) -> Change | None:
    fields = row.fields
    if row.action == "create":
        return created(fields.resource_type, row.key, row.new, fields.key)
    if row.action == "delete":
        return deleted(fields.resource_type, row.key, row.before(row.old), fields.key)
    return updated(fields.resource_type, row.key, row.before(row.new), row.new, fields.key)


def _by(key: Callable[[Any], Any], items: Iterable[Any]) -> list[tuple[Any, list[Any]]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _identity(state: State) -> Key:
    return tuple(state.key[1]) if state.key else ()


def _one_connection(state: State) -> bool:
    """A sharded session chooses a connection for each object."""
    return state.session is not None and getattr(state.session, "connection_callable", None) is None


def _plain(value: Any) -> Any:
    """The symbol for JSON's null is None, as it is when it is read back."""
    return None if value is JSON.NULL else value


def _is_expression(value: object) -> bool:
    kind: Any = type(value)
    return _is_sql(kind)


@lru_cache(maxsize=1024)
def _is_sql(kind: Any) -> bool:
    return issubclass(kind, ClauseElement) or hasattr(kind, "__clause_element__")


# -- one listener for all sessions: SQLAlchemy tells mappers, not sessions, which rows it writes ---------------------


def begin(session: Session, uow: UOWTransaction, owner: object, audits: Audits) -> None:
    """Record this flush for ``owner``, once, also where several choose for him which classes are audited.

    What is kept dies with the unit of work, however the flush ends.
    """
    session.info[_CURRENT] = weakref.ref(uow)
    recorders: dict[object, FlushRecorder] = uow.attributes.setdefault(_CURRENT, {})
    if owner not in recorders:
        recorders[owner] = FlushRecorder(uow)
    recorders[owner].choices.append(audits)


def finish(session: Session, uow: UOWTransaction, owner: object) -> dict[Connection, list[Change]]:
    """What the flush wrote, for ``owner``; the second time nothing."""
    recorder: FlushRecorder | None = uow.attributes.get(_CURRENT, {}).pop(owner, None)
    return recorder.changes(session) if recorder else {}


def _recorders(state: State) -> Iterable[FlushRecorder]:
    session = state.session
    current = session.info.get(_CURRENT) if session is not None else None
    uow = current() if current is not None else None
    return () if uow is None else uow.attributes.get(_CURRENT, {}).values()


def _before(action: str, mapper: Mapper[Any], connection: Connection, state: State) -> None:
    del mapper
    for recorder in _recorders(state):
        recorder.before(action, connection, state)


def _after(action: str, mapper: Mapper[Any], connection: Connection, state: State) -> None:
    del mapper, connection
    for recorder in _recorders(state):
        recorder.after(action, state)


def _listen() -> None:
    for name, action in (("insert", "create"), ("update", "update"), ("delete", "delete")):
        event.listen(Mapper, f"before_{name}", partial(_before, action), raw=True)
        event.listen(Mapper, f"after_{name}", partial(_after, action), raw=True)


_listen()
