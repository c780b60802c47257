"""``--auditor MODULE:NAME``: the application's SQLAlchemyAuditor, and with it the rules that its classes have."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from audit_core.errors import ConfigurationError

if TYPE_CHECKING:
    from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
    from audit_core.triggers import Known

AuditorPath = Annotated[
    str | None,
    typer.Option(
        "--auditor",
        metavar="MODULE:NAME",
        help="The application's SQLAlchemyAuditor, with its rules and what it leaves out.",
    ),
]


def load_auditor(path: str) -> SQLAlchemyAuditor:
    """What ``module:name`` names. Raises ConfigurationError where that is no auditor."""
    try:
        from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
    except ModuleNotFoundError as error:
        raise ConfigurationError(str(error)) from None
    module, _, name = path.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), name, None) if module and name else None
    except ImportError as error:
        raise ConfigurationError(f"--auditor {path}: {error}. Run it where the application runs.") from None
    if isinstance(found, SQLAlchemyAuditor):
        return found
    raise ConfigurationError(f"--auditor is module:name of a SQLAlchemyAuditor, and {path} is none.")


def known_by(auditor: SQLAlchemyAuditor) -> Known | None:
    """What its classes say of their tables; None where what they say is wrong, which ``gaps`` tells."""
    from audit_core.orm.sqlalchemy import known_of

    with suppress(ConfigurationError):
        return known_of(auditor)
    return None
