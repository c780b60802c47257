"""``flask`` commands of the application: who runs them. ``flask run`` is none of them, and a shell is a prompt."""

from __future__ import annotations

from functools import wraps
from typing import Any

from click import Command, Context
from flask import Flask

from audit_core.context import commanded


def install(app: Flask) -> None:
    """Name the account and the command of whatever ``app.cli`` runs, where nobody has been named."""
    find = app.cli.get_command

    def get_command(context: Context, name: str) -> Command | None:
        command = find(context, name)
        if command is not None and not hasattr(command.invoke, "__audit__"):
            command.invoke = _named(command.invoke, name)  # type: ignore[method-assign]
        return command

    app.cli.get_command = get_command  # type: ignore[method-assign,assignment]  # bound already


def _named(invoke: Any, name: str) -> Any:
    @wraps(invoke)
    def run(context: Context) -> Any:
        with commanded(name):
            return invoke(context)

    run.__audit__ = True  # type: ignore[attr-defined]
    return run
