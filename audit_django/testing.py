"""What makes test runners work as before: nothing of ours outlives a test database."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from django.db.backends.base.creation import BaseDatabaseCreation

from audit_django.databases import SQLITE
from audit_django.trail import close_trail, remember_databases


def install() -> None:
    """Close the trail before a test database is dropped. May be repeated."""
    remember_databases()
    for name, wrap in (("destroy_test_db", _destroying), ("clone_test_db", _cloning)):
        original: Any = getattr(BaseDatabaseCreation, name)
        if not hasattr(original, "__audit__"):
            wrapped: Any = wraps(original)(wrap(original))
            wrapped.__audit__ = True
            setattr(BaseDatabaseCreation, name, wrapped)


def _destroying(original: Callable[..., Any]) -> Callable[..., Any]:
    def destroy_test_db(self: Any, *args: Any, **kwargs: Any) -> Any:
        suffix = kwargs.get("suffix")  # of the copy that a parallel process had
        settings = self.connection.settings_dict if suffix is None else self.get_test_db_clone_settings(suffix)
        name = str(settings["NAME"])
        close_trail()  # closed later, it would make the file anew; and a server keeps a database that is in use
        result = original(self, *args, **kwargs)
        if self.connection.vendor == SQLITE:
            _forget(name)
        return result

    return destroy_test_db


def _cloning(original: Callable[..., Any]) -> Callable[..., Any]:
    def clone_test_db(self: Any, *args: Any, **kwargs: Any) -> Any:
        close_trail()  # PostgreSQL copies no database that anybody is connected to
        return original(self, *args, **kwargs)

    return clone_test_db


def _forget(name: str) -> None:
    """Remove what lay beside a database that is gone: the folder of the spill files."""
    directory = Path(f"{name}-audit")
    if name and not Path(name).exists() and directory.is_dir():
        for file in (directory / "gate", *directory.glob("*.spill")):
            file.unlink(missing_ok=True)
        directory.rmdir()
