"""The command ``audit``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from audit_core.extras import lacking

if TYPE_CHECKING:
    from audit_core.cli.place import Gaps
    from audit_core.trail import AuditTrail
    from audit_core.triggers import Known

__all__ = ["main"]


def main(
    argv: list[str] | None = None,
    trail: AuditTrail | None = None,
    known: Known | None = None,
    gaps: Gaps | None = None,
) -> int:
    """Run one command and return its exit code.

    0 is well; 1 FAILED; 3 UNANCHORED; 2 means that it could not be done. With a ``trail`` no URL is needed. ``known``
    is what the application's classes say of its tables, for triggers; ``gaps`` says what a framework knows not to be
    covered, for ``audit check``.
    """
    try:
        from audit_core.cli.app import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {"typer", "rich"}:
            raise
        sys.stderr.write(f"{lacking('The command line', missing, 'cli')}\n")
        return 2
    return run(argv, trail, known, gaps)
