"""What the demonstration says: in colour and with a progress bar in a terminal, in plain lines elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

WIDTH = 100


class Show:
    """Speaks to a person, and remembers which checks did not hold."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = WIDTH
        can_draw = self.console.encoding.lower().startswith("utf")
        self._yes, self._no = ("✓", "✗") if can_draw else ("ok", "NO")
        self.failed: list[str] = []

    def title(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(text, style="bold cyan"))

    def say(self, text: str, indent: int = 0) -> None:
        self.console.print(Padding.indent(Text(text), indent) if indent else Text(text))

    def command(self, words: Sequence[str]) -> None:
        """A command as somebody would type it."""
        self.console.print(Text(f"$ {shlex.join(words)}", style="dim"), soft_wrap=True)

    def check(self, name: str, holds: object, why_not: str = "") -> None:
        """Something that must be so."""
        if holds:
            self.console.print(Text.assemble((f"  {self._yes} ", "bold green"), name))
            return
        self.failed.append(name)
        self.console.print(Text.assemble((f"  {self._no} {name}", "bold red"), f": {why_not}" if why_not else ""))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Columns whose name begins with ``#`` hold numbers."""
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            right = column.startswith("#")
            table.add_column(column.lstrip("#"), justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text("" if value is None else str(value)) for value in row))
        self.console.print(table)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar that moves with each call; only the last line of it where there is no terminal."""
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(what, total=total)
            yield lambda: progress.advance(task)

    def break_off(self, why: str) -> int:
        """Say why there is nothing more to see; the exit status."""
        self.console.print()
        self.console.print(Text(why, style="bold red"), soft_wrap=True)
        return 1

    def verdict(self) -> int:
        """Say how it ended; the exit status."""
        self.console.print()
        if self.failed:
            self.console.print(Text("What did not come out as it must:", style="bold red"))
            for name in self.failed:
                self.console.print(Text(f"  {self._no} {name}", style="red"))
            return 1
        self.console.print(Text("Everything came out as it must.", style="bold green"))
        return 0
