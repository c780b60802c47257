"""What makes test runners work as before: nothing of ours outlives a test database."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

from django.db.backends.base.creation import BaseDatabaseCreation

from audit_django.trail import close_trail, remember_databases


def install() -> None:
    """Close the trail before a test database is dropped. May be repeated."""
    remember_databases()
    original: Any = BaseDatabaseCreation.destroy_test_db
    if hasattr(original, "__audit__"):
        return

    @wraps(original)
    def destroy_test_db(self: Any, *args: Any, **kwargs: Any) -> Any:
        suffix = kwargs.get("suffix")  # of the copy that a parallel process had
        settings = self.connection.settings_dict if suffix is None else self.get_test_db_clone_settings(suffix)
        name = str(settings["NAME"])
        close_trail()  # closed later, it would make the file anew
        result = original(self, *args, **kwargs)
        _forget(name)
        return result

    destroy_test_db.__audit__ = True  # type: ignore[attr-defined]
    BaseDatabaseCreation.destroy_test_db = destroy_test_db  # type: ignore[method-assign]


def _forget(name: str) -> None:
    """Remove what lay beside a database that is gone: the folder of the spill files."""
    directory = Path(f"{name}-audit")
    if name and not Path(name).exists() and directory.is_dir():
        for file in (directory / "gate", *directory.glob("*.spill")):
            file.unlink(missing_ok=True)
        directory.rmdir()
