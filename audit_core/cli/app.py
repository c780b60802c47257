"""The commands together, and what becomes of an error: one sentence with the cure, and exit code 2."""

from __future__ import annotations

import sqlite3
import sys
import traceback
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from audit_core.cli import (
    anchors,
    archiving,
    check,
    erasing,
    events,
    export,
    holds,
    keeping,
    keys,
    postgres,
    proofs,
    report,
    restored,
    triggers,
    verify,
)
from audit_core.cli.place import Archives, Gaps, Place, Queue, Url
from audit_core.cli.terminal import abandon_stdout, have_streams, note, say, use_utf8
from audit_core.cli.words import sentence
from audit_core.errors import AuditError, ConfigurationError
from audit_core.trail import AuditTrail
from audit_core.triggers import Known

_WRONG_VALUES = {
    "int_parsing": "{} is no whole number",
    "float_parsing": "{} is no number",
    "greater_than_equal": "{} is not {ge:g} or more",
    "less_than_equal": "{} is not {le:g} or less",
}


class _Commands(TyperGroup):
    """Turns what a command raises into a sentence."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            abandon_stdout()
            raise typer.Exit(2) from None
        except (AuditError, OSError, LookupError, sqlite3.Error) as error:
            note(sentence(error), "red")
            raise typer.Exit(2) from None
        except typer.BadParameter as error:
            error.message = _plain(error)
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        return result


def _plain(error: typer.BadParameter) -> str:
    """What is wrong with a value, where typer leaves that to pydantic, in words that are not pydantic's."""
    for one in getattr(error.__cause__, "errors", list)():
        if words := _WRONG_VALUES.get(one["type"]):
            return words.format(repr(one["input"]), **one.get("ctx", {}))
    return error.message.removeprefix("Value error, ")


app = typer.Typer(
    cls=_Commands, name="audit", no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    pretty_exceptions_enable=False, help="Compliance audit trails: keep one, verify it, prove and report from it.",
)  # fmt: skip
COMMANDS = (
    keeping, anchors, verify, events, proofs, export, keys, restored, archiving, erasing, check, postgres,
)  # fmt: skip
for commands in COMMANDS:
    commands.add_to(app)
app.add_typer(report.app)
app.add_typer(keys.app, name="key")
app.add_typer(holds.app, name="hold")
app.add_typer(triggers.app, name="triggers")


def _say_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        say(f"audit-core {version('audit-core')}")
        raise typer.Exit


@app.callback()
def _begin(
    context: typer.Context,
    url: Url = None,
    outbox: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A further database whose changes it audits; repeatable.")
    ] = None,
    archive: Archives = None,
    queue: Queue = None,
    *,
    trails: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file that names several chains under one roof: see docs/scale.md."),
    ] = None,
    chain: Annotated[str | None, typer.Option(metavar="NAME", help="With --trails: about this one of them.")] = None,
    version_: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version_
    place: Place = context.obj
    place.url, place.outboxes, place.queue = url, tuple(outbox or ()), queue or None
    place.archives = tuple(archive or ())
    place.trails, place.chain = trails, chain
    if chain is not None and trails is None:
        raise ConfigurationError("--chain is one of the chains that a file names: give it with --trails.")


@cache  # typer takes longer to make them than most of them take to run
def all_commands(*, of_one_trail: bool = False) -> Any:
    """All of them under one name. Help offers no other trail where there is one already."""
    made = typer.main.get_command(app)
    if of_one_trail:
        _hide_where(made)
    return made


def _hide_where(command: Any) -> None:
    for option in command.params:
        option.hidden = option.hidden if option.name not in {"url", "outbox", "queue", "trails", "chain"} else True
    for below in getattr(command, "commands", {}).values():
        _hide_where(below)


def run(argv: list[str] | None, trail: AuditTrail | None, known: Known | None, gaps: Gaps | None) -> int:
    """Run one command and return its exit code."""
    have_streams()
    if argv is None:
        use_utf8()
    commands = all_commands(of_one_trail=trail is not None or gaps is not None)
    try:
        commands.main(args=argv, prog_name="audit", obj=Place(trail, known=known, gaps=gaps))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 2
    except Exception:  # noqa: BLE001 - an error of ours: Python's own exit code 1 would say FAILED
        traceback.print_exc()
        return 2
    return 0
