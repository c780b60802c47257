"""Variants of the same work, each in a process of its own, asked in turn: what the machine does weighs on all of them.

A process does each work it is asked for by name, and answers with what each part of it took.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple


class Took(NamedTuple):
    """A part of it."""

    seconds: float
    told: int  # rows that were written of the changes


Rounds = Sequence[Mapping[str, Sequence[Took]]]


def answer(do: Callable[[str], Iterable[Took]]) -> None:
    """A variant's process: one line in, one round, one line out."""
    print("ready", flush=True)
    for name in sys.stdin:
        print(*(f"{took.seconds} {took.told}" for took in list(do(name.strip()))), flush=True)


@contextmanager
def asking(python: str, *command: str) -> Iterator[Any]:
    """The process of a variant."""
    environment = {**os.environ, "AUDIT_STATE_DIR": tempfile.mkdtemp()}
    process = subprocess.Popen(
        [python, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise SystemExit(f"{' '.join(command)} did not start")
        yield process
    finally:
        process.kill()
        process.wait()


def in_turn(processes: Mapping[str, Any], work: str, rounds: int) -> Rounds:
    """What they took in each round. The first one warms up."""
    names, found = list(processes), []
    for turn in range(rounds + 1):
        first = turn % len(names)
        found.append({name: _ask(processes[name], work) for name in [*names[first:], *names[:first]]})
    return found[1:]


def tell(title: str, parts: Sequence[str], rounds: Rounds, rows: int) -> None:
    """Print medians of the rounds' ratios to the variant that is called plain."""
    for place, part in enumerate(parts):
        plain = [found["plain"][place].seconds for found in rounds]
        figures = []
        for name in rounds[0]:
            if name != "plain":
                ratios = [found[name][place].seconds / took for found, took in zip(rounds, plain, strict=True)]
                of_each = rounds[-1][name][place].told / rows
                note = "" if of_each == 1 else f" ({of_each:.3g} told of each)"
                figures.append(f"{name} {statistics.median(ratios):.2f}{note}")
        alone = f"{statistics.median(plain) * 1000:6.0f} ms plain"
        print(f"{title} {part:11} {alone};  {'  '.join(figures)}", flush=True)


def _ask(process: Any, work: str) -> list[Took]:
    process.stdin.write(f"{work}\n")
    process.stdin.flush()
    words = process.stdout.readline().split()
    return [Took(float(seconds), int(told)) for seconds, told in zip(words[::2], words[1::2], strict=True)]
