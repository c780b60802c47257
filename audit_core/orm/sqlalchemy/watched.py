"""Tells whoever watches what is recorded of savepoints, commits and rollbacks; nobody does, but for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

from audit_core.watching import Watcher, followers

SAVEPOINT, BACK = "SAVEPOINT ", "ROLLBACK TO SAVEPOINT "


@contextmanager
def follow(watcher: Watcher) -> Iterator[None]:
    """In this block, on every engine."""

    def executed(connection: Connection, cursor: object, statement: str, *rest: object) -> None:
        """SQLAlchemy's own event of a savepoint does not know its name yet."""
        del cursor, rest
        for begin, tell in ((SAVEPOINT, watcher.savepoint), (BACK, watcher.undone)):
            if statement.startswith(begin):
                tell(_raw(connection), statement.removeprefix(begin))

    def undone(connection: Connection, *rest: object) -> None:
        del rest
        watcher.undone(_raw(connection), None)

    def committed(connection: Connection, *rest: object) -> None:
        del rest
        watcher.committed(_raw(connection))

    listeners: list[tuple[str, Callable[..., None]]] = [("after_cursor_execute", executed)]
    listeners += [("rollback", undone), ("rollback_twophase", undone)]
    listeners += [("commit", committed), ("commit_twophase", committed)]
    for name, listener in listeners:
        event.listen(Engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            event.remove(Engine, name, listener)


def _raw(connection: Connection) -> Any:
    return connection.connection.dbapi_connection if not connection.closed and not connection.invalidated else None


followers.append(follow)
