"""The folder beside the database: gate and spill files, for whoever owns the database and for nobody else."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SUFFIX = "-audit"


def folder_of(database: Path) -> Path:
    """Where the gate and the spill files of a SQLite file lie."""
    return database.with_name(database.name + SUFFIX)


def make_folder(folder: Path) -> None:
    """Make the folder if it is missing. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _give_to_owner(folder, folder)


def open_file(path: Path, flags: int) -> int:
    """Open or make a file in the folder; a file descriptor. Raises OSError."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    _give_to_owner(path, path.parent)
    return fd


def _give_to_owner(path: Path, folder: Path) -> None:
    """What root makes (`audit verify` as root, say) must not lock the application out."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        with suppress(OSError):
            owner = Path(str(folder).removesuffix(SUFFIX)).stat()
            os.chown(path, owner.st_uid, owner.st_gid)
