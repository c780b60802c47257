"""What an extra brings, and a sentence where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def lacking(what: str, library: str, extra: str) -> str:
    """What to install, in a sentence."""
    return f'{what} needs {library}: pip install "audit-core[{extra}]".'


@contextmanager
def needed_by(what: str, extra: str, *packages: str) -> Iterator[None]:
    """Around the imports of these packages. Raises ModuleNotFoundError for one that is missing, with the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (package := (error.name or "").partition(".")[0]) not in packages:
            raise
        raise ModuleNotFoundError(lacking(what, package, extra), name=error.name) from None
