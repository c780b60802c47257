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
from time import perf_counter, process_time
from typing import Any, NamedTuple


class Took(NamedTuple):
    """A part of it."""

    seconds: float  # by the clock
    cpu: float  # seconds of CPU in the variant's process, not in the database's server
    told: int  # rows that were written of the changes


def took(work: Callable[[], object], told: Callable[[], int]) -> Took:
    """Do it. ``told`` counts the rows that have been written of changes."""
    before, began, cpu = told(), perf_counter(), process_time()
    work()
    seconds, cpu = perf_counter() - began, process_time() - cpu
    return Took(seconds, cpu, told() - before)


Rounds = Sequence[Mapping[str, Sequence[Took]]]


def answer(do: Callable[[str], Iterable[Took]]) -> None:
    """A variant's process: one line in, one round, one line out."""
    print("ready", flush=True)
    for name in sys.stdin:
        print(*(f"{one.seconds} {one.cpu} {one.told}" for one in list(do(name.strip()))), flush=True)


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
    """Print medians of the rounds' ratios to the variant that is called plain, by the clock and of CPU."""
    for place, part in enumerate(parts):
        plain = [found["plain"][place] for found in rounds]
        clock, cpu = (statistics.median(one[field] for one in plain) * 1000 for field in (0, 1))
        print(f"{title} {part}: {clock:.0f} ms, {cpu:.0f} ms CPU without", flush=True)
        for name in sorted(rounds[0].keys() - {"plain"}):
            ones = [found[name][place] for found in rounds]
            shares = [
                statistics.median(one[field] / without[field] for one, without in zip(ones, plain, strict=True))
                for field in (0, 1)
            ]
            of_each = ones[-1].told / rows
            note = "" if of_each == 1 else f", {of_each:.3g} told of each"
            print(f"    {name:18} {shares[0]:6.2f}, CPU {shares[1]:6.2f}{note}", flush=True)


def _ask(process: Any, work: str) -> list[Took]:
    process.stdin.write(f"{work}\n")
    process.stdin.flush()
    words = iter(process.stdout.readline().split())
    return [Took(float(clock), float(cpu), int(told)) for clock, cpu, told in zip(words, words, words, strict=True)]
