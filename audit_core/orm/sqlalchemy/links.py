"""Which many-to-many links a flush of a SQLAlchemy session makes and removes.

Both ends of a link may hold it in a collection. It is one event all the same, about the end whose key stands first in
the association table, whichever collection was changed; where only one end has a relationship, about that one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session, UOWTransaction
from sqlalchemy.orm.attributes import History
from sqlalchemy.orm.base import PassiveFlag

from audit_core.orm.changes import Change, linked, unlinked
from audit_core.orm.sqlalchemy.held import became, in_row
from audit_core.orm.sqlalchemy.mapped import Key, mapped

State = InstanceState[Any]
Relationship = RelationshipProperty[Any]
Found = list[tuple[Connection, Change]]
_End = tuple[Relationship, State]
_Pairs = dict[_End, dict[State, None]]  # who owns the links, and what is at the other end


def link_changes(session: Session, uow: UOWTransaction, audits: Callable[[Mapper[Any]], bool]) -> tuple[Found, Found]:
    """What this flush unlinked, and what it linked; from the histories of collections, which last until it is done."""
    added: _Pairs = {}
    removed: _Pairs = {}
    for state, (is_delete, list_only) in list(uow.states.items()):
        for relationship in () if list_only else mapped(state.mapper).many_to_many:
            if is_delete or relationship.key in state.committed_state:
                _collect(_history(uow, state, relationship), is_delete, (relationship, state), added, removed)
    return _name(session, unlinked, removed, audits), _name(session, linked, added, audits)


def _history(uow: Any, state: State, relationship: Relationship) -> History:
    """As the unit of work saw it: for a delete it has loaded what no object held."""
    history: History = uow.get_attribute_history(state, relationship.key, PassiveFlag.PASSIVE_NO_INITIALIZE)
    return history


def _collect(history: History, is_delete: bool, end: _End, added: _Pairs, removed: _Pairs) -> None:  # noqa: FBT001
    for other in history.deleted:
        _pair(end, other, removed)
    for other in (history.unchanged if is_delete else history.added) or ():
        _pair(end, other, removed if is_delete else added)


def _name(session: Session, change: Callable[..., Change], pairs: _Pairs, audits: Callable[..., bool]) -> Found:
    found: Found = []
    for (relationship, owner), others in sorted(pairs.items(), key=_order):
        if audits(owner.mapper):
            connection = session.connection(bind_arguments={"mapper": relationship.mapper})
            keys = [_key(other) for other in sorted(others, key=_sortable)]
            fields = mapped(owner.mapper)
            one = change(fields.resource_type, _key(owner), relationship.key, keys, fields.key)
            found.append((connection, one))
    return found


def _pair(end: _End, other: State | None, pairs: _Pairs) -> None:
    if other is None:
        return
    relationship, state = end
    owner = min((relationship, *relationship._reverse_property), key=place_in_table)  # noqa: SLF001 - has no public name
    if owner is not relationship:
        state, other = other, state
    pairs.setdefault((owner, state), {})[other] = None


def place_in_table(relationship: Relationship) -> int:
    """Where the key of the relationship's own class stands in the association table."""
    table = relationship.secondary
    places: dict[object, int] = {} if table is None else {column: i for i, column in enumerate(table.columns)}
    return min(places.get(column, len(places)) for _, column in relationship.synchronize_pairs)


def _order(pair: tuple[_End, object]) -> tuple[Any, ...]:
    """The unit of work keeps sets; the trail has an order that does not change from run to run."""
    (relationship, owner), _ = pair
    return str(relationship), _sortable(owner)


def _sortable(state: State) -> tuple[Any, ...]:
    return tuple((0, part, "") if isinstance(part, int) else (1, 0, str(part)) for part in _key(state))


def _key(state: State) -> Key:
    """As the row holds it, as in the events of the row."""
    names, known = mapped(state.mapper).key, became(state)
    values = [state.dict.get(name) for name in names] if state.key is None else state.key[1]
    return tuple(in_row(known, name, value) for name, value in zip(names, values, strict=True))
