"""What it takes until something is on the disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_all(fd: int, data: bytes) -> None:
    """Write everything and wait for the disk. Raises OSError; then any part of it may be written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.fsync(fd)


def sync_folder(path: Path) -> None:
    """Make the name of a new file durable."""
    with suppress(OSError):  # Windows cannot open a directory
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
