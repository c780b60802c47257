"""``bulk_save_objects``, ``bulk_insert_mappings`` and ``bulk_update_mappings``: SQLAlchemy fires no event for them.

All three end in one method of the session, once for each class. There they are audited, for sessions that somebody
listens to; for all others nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState, Mapper, Session

from audit_core.orm.bulk import Summary
from audit_core.orm.sqlalchemy.by_key import KeyedUpdate, created_by_key
from audit_core.orm.sqlalchemy.mapped import Key, mapped
from audit_core.orm.sqlalchemy.statements import (
    StatementListener,
    check_outboxes,
    left_by_triggers,
    listeners_of,
    record,
)

Save = Callable[..., None]
_HOW = ("isupdate", "isstates", "return_defaults", "update_changed_only", "render_nulls")


def _audited(save: Save) -> Save:
    @wraps(save)
    def _bulk_save_mappings(session: Session, mapper: Any, mappings: Iterable[Any], *places: Any, **how: Any) -> None:
        how |= dict(zip(_HOW, places, strict=False))  # older versions give them no names
        own: Mapper[Any] = inspect(mapper)
        listeners = listeners_of(session, list(own.self_and_descendants))
        if listeners and not getattr(session, "connection_callable", None):
            _Bulk(session, own, list(mappings), how, listeners).save(save)
        else:
            save(session, mapper, mappings, **how)

    return _bulk_save_mappings


class _Bulk:
    """One call of the session's method."""

    def __init__(
        self,
        session: Session,
        mapper: Mapper[Any],
        rows: list[Any],
        how: dict[str, Any],
        listeners: list[StatementListener],
    ) -> None:
        self.session, self.mapper, self.rows, self.how, self.listeners = session, mapper, rows, how, listeners
        self.type = mapped(mapper).resource_type

    def save(self, save: Save) -> None:
        for one in self.listeners:
            one.bulk.allow(f"A bulk {'update' if self.how['isupdate'] else 'insert'}", self.type)
        if not self.rows:
            save(self.session, self.mapper, self.rows, **self.how)
            return
        connection = self.session.connection(bind_arguments={"mapper": self.mapper})
        self.listeners = left_by_triggers(self.listeners, connection, self.mapper.self_and_descendants)
        if not self.listeners:
            save(self.session, self.mapper, self.rows, **self.how)
            return
        check_outboxes(self.listeners, connection)
        if len(self.rows) > max(one.bulk.limit for one in self.listeners):
            save(self.session, self.mapper, self.rows, **self.how)
            told: Any = self._sum("update" if self.how["isupdate"] else "create")
        elif self.how["isupdate"]:
            update = KeyedUpdate(connection, self.mapper, self._values(), ())
            save(self.session, self.mapper, self.rows, **self.how)
            told = update.told()
        else:
            keys = self._insert(save)
            told = created_by_key(connection, self.mapper, keys) if keys else self._sum("create")
        record(self.listeners, self.session, connection, list(told))

    def _insert(self, save: Save) -> list[Key]:
        """The new keys. Copies take them where the caller does not want them in what he has passed.

        There are none where SQLAlchemy (before 2.0.32) does not put them into mappings.
        """
        if self.how["return_defaults"]:
            save(self.session, self.mapper, self.rows, **self.how)
            filled = self._values()
        else:
            filled = [dict(values) for values in self._values()]
            save(self.session, self.mapper, filled, **(self.how | {"isstates": False, "return_defaults": True}))
        names = mapped(self.mapper).key
        keys = [tuple(values.get(name) for name in names) for values in filled]
        return [] if any(None in key for key in keys) else keys

    def _sum(self, action: str) -> list[tuple[Mapper[Any], Summary]]:
        return [(self.mapper, Summary(action, self.type, len(self.rows)))]

    def _values(self) -> list[dict[str, Any]]:
        return [one.dict if isinstance(one, InstanceState) else one for one in self.rows]


Session._bulk_save_mappings = _audited(Session._bulk_save_mappings)  # type: ignore[method-assign]  # noqa: SLF001
