"""Where the tests keep what they write: in memory where there is room. Nothing here has to survive a power failure."""

import shutil
from pathlib import Path

ENOUGH = 6 * 2**30  # bytes; the whole suite takes less than a third of it


def roomy_place():
    """The folder for temporary files. Its path is short, as that of a socket has to be."""
    memory = Path("/dev/shm")  # noqa: S108 - what is made in it has random names
    there = memory.is_dir() and shutil.disk_usage(memory).free > ENOUGH
    return str(memory) if there else "/tmp"  # noqa: S108
