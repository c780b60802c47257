"""Tells whoever watches what is recorded of savepoints, commits and rollbacks; nobody does, but for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from audit_core.watching import Watcher, followers


def install() -> None:
    """From now on. May be repeated."""
    if follow not in followers:
        followers.append(follow)


@contextmanager
def follow(watcher: Watcher) -> Iterator[None]:
    """In this block, on every connection."""
    tell: dict[str, Callable[..., None]] = {
        "_savepoint": watcher.savepoint,
        "_savepoint_rollback": watcher.undone,
        "_rollback": lambda raw: watcher.undone(raw, None),
        "_commit": watcher.committed,
    }
    originals = {name: getattr(BaseDatabaseWrapper, name) for name in tell}
    for name, original in originals.items():
        setattr(BaseDatabaseWrapper, name, _telling(original, tell[name]))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(BaseDatabaseWrapper, name, original)


def _telling(original: Callable[..., Any], tell: Callable[..., None]) -> Callable[..., Any]:
    @wraps(original)
    def told(self: BaseDatabaseWrapper, *names: str) -> Any:
        result = original(self, *names)
        if self.connection is not None:
            tell(self.connection, *names)
        return result

    return told
