"""The folder beside the database: gate and spill files, for whoever may use the database and for nobody else."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

SUFFIX = "-audit"
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # who may write the folder must not choose what root gives away


def folder_of(database: Path) -> Path:
    """Where the gate and the spill files of a SQLite file lie: beside the file itself, as its journals do.

    Whoever reaches it by a link shares them with all others, and a link that is made anew leaves none behind.
    """
    return Path(os.path.realpath(database) + SUFFIX)


def make_folder(folder: Path) -> None:
    """Make the folder if it is missing. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):  # a link, or (Windows) nothing that can be opened
        fd = os.open(folder, os.O_RDONLY | _NO_LINK)
        try:
            _share_like_database(fd, folder)
        finally:
            os.close(fd)


def open_file(path: Path, flags: int) -> int:
    """Open or make a file in the folder, never one that a link there names; a file descriptor. Raises OSError."""
    fd = os.open(path, flags | os.O_CLOEXEC | _NO_LINK, 0o600)
    _share_like_database(fd, path.parent)
    return fd


def is_in_place(fd: int, path: Path) -> bool:
    """Whether the open file still lies at the path: somebody may have removed it, with its folder."""
    try:
        there, here = os.stat(path), os.fstat(fd)  # noqa: PTH116 - each request asks, and a Path takes its time
    except OSError:
        return False
    return there.st_ino == here.st_ino and there.st_dev == here.st_dev


def _share_like_database(fd: int, folder: Path) -> None:
    """Whoever may write the database must adopt its spill files, and who may read it reads what waits for it.

    As SQLite does it with its own journals: what root makes (`audit verify` as root, say) belongs to the database's
    owner, and what one of a group makes belongs to the group.
    """
    if os.name != "posix":
        return
    with suppress(OSError):  # it is somebody else's, who has done this
        database, own = Path(str(folder).removesuffix(SUFFIX)).stat(), os.fstat(fd)
        mode = 0o600 | database.st_mode & 0o666
        try:
            os.fchown(fd, database.st_uid if os.geteuid() == 0 else -1, database.st_gid)
        except PermissionError:
            if own.st_gid != database.st_gid:  # our own group may not be one that may read the database
                mode &= ~0o060
        os.fchmod(fd, mode | (mode & 0o444) >> 2 if stat.S_ISDIR(own.st_mode) else mode)
