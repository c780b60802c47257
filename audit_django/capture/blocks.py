"""The transaction around a change, of which an application that has none there notices nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

_ENDS = frozenset(("BEGIN", "COMMIT", "ROLLBACK"))


@dataclass(slots=True)
class Block:
    """``tells`` says that the application's statements are done, and what follows is ours."""

    tells: bool = False


@contextmanager
def block(connection: BaseDatabaseWrapper) -> Iterator[Block]:
    """An ``atomic`` block.

    Where Django would have opened none, neither here nor inside of it,

    * what begins and ends it is not among the queries that are counted (``connection.queries``);
    * a statement that fails does not mark for rollback what the application manages itself, with autocommit off and
      savepoints of its own. Events that cannot be written do: the change must not commit.
    """
    ours = Block()
    if connection.in_atomic_block:
        with transaction.atomic(using=connection.alias, savepoint=False):
            yield ours
        return
    is_managed = not connection.get_autocommit()
    log: Any = connection.queries_log
    blocks, begin, end = _Blocks(), len(log), len(log)
    try:
        with transaction.atomic(using=connection.alias, savepoint=False):
            blocks = connection.savepoint_ids = _Blocks(connection.savepoint_ids)
            try:
                yield ours
            finally:
                end = len(log)
                connection.savepoint_ids = [*connection.savepoint_ids]  # what runs after the commit is not in here
    except BaseException:
        if is_managed and not (blocks.are_djangos or ours.tells):
            connection.needs_rollback = False
        raise
    finally:
        if not blocks.are_djangos:
            _forget(log, end)
            _forget(log, begin)


class _Blocks(list[Any]):
    """Where a connection keeps one entry for each block inside of the outermost one."""

    are_djangos = False

    def append(self, block: Any) -> None:
        self.are_djangos = True
        super().append(block)


def _forget(log: Any, place: int) -> None:
    """The log is a ring: where it is full, an entry is not found at its end."""
    if len(log) > place and log[place].get("sql") in _ENDS:
        del log[place]
