"""What is said, and where: results on stdout, everything else on stderr. Colour only on a terminal that wants it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from audit_core.reports.text import safe_json, visible

PIPE_WIDTH = 160  # columns of a table that no terminal shows, unless COLUMNS says otherwise


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process with 1 where nobody reads on, which says FAILED."""
        raise BrokenPipeError


def console(stream: TextIO) -> Console:
    """Styles nothing in a pipe, nor under NO_COLOR (no-color.org)."""
    if not stream.isatty():
        width = None if os.environ.get("COLUMNS") else PIPE_WIDTH
        return _Console(file=stream, color_system=None, force_terminal=False, width=width)
    return _Console(file=stream, color_system=None if os.environ.get("NO_COLOR") else "auto")


def say(text: str, style: str = "") -> None:
    """One line of the result, never wrapped: it may be copied."""
    console(sys.stdout).print(Text(visible(text), style), soft_wrap=True)


def note(text: str, style: str = "") -> None:
    """One line beside the result."""
    console(sys.stderr).print(Text(visible(text), style), soft_wrap=True)


def say_json(value: Any) -> None:
    """The result as JSON."""
    sys.stdout.write(safe_json(json.dumps(value, ensure_ascii=False, indent=2)) + "\n")


def say_exactly(text: str) -> None:
    """What has to come out byte by byte: a key, a signed note."""
    sys.stdout.write(text)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A function to call with how much is done, and of how much; None where nobody would see the bar."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(sys.stderr), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _Notes(logging.Handler):
    """Says what the core logs in one line: an exception's traceback helps no user of a command."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        note(record.getMessage() + (f" ({error})" if error else ""), "yellow")


@contextmanager
def logged_notes() -> Iterator[None]:
    """What the core logs while a command runs, as notes."""
    logger, handler = logging.getLogger("audit_core"), _Notes(logging.WARNING)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


def use_utf8() -> None:
    """Keys, notes and rows are UTF-8 wherever they are redirected to."""
    for stream in (sys.stdout, sys.stderr):
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(encoding="utf-8", errors="backslashreplace")


def have_streams() -> None:
    """A process that was begun with a stream closed (``2>&-``) has None for it: what is said there goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open until the end


def abandon_stdout() -> None:
    """Whoever read it has gone (``| head``): let nothing complain about it when the process ends."""
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
