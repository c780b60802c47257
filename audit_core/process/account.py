"""Under which account of the operating system this process runs, and what it was started as."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Final

PREFIX: Final = "os:"  # an account of the operating system is no user of the application


def account() -> str:
    """``os:amina``. Asks the system and not the environment, in which LOGNAME and USER say what anybody likes.

    ``os:1001`` where the account has no name, as in a container.
    """
    if hasattr(os, "getuid"):
        return _named(os.getuid())
    try:
        return f"{PREFIX}{os.getlogin()}"  # Windows asks for the name that belongs to the process
    except OSError:
        return f"{PREFIX}unknown"


def command() -> str:
    """The program's name, without its path and its arguments, among which there may be secrets."""
    return Path(sys.argv[0]).name if getattr(sys, "argv", None) and sys.argv[0] not in {"", "-c"} else "python"


@lru_cache(maxsize=16)
def _named(uid: int) -> str:
    import pwd

    try:
        return f"{PREFIX}{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"{PREFIX}{uid}"
