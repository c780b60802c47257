"""wrk on loopback: how many requests a second, how long they took, and what CPU they took."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_LOOK_SECONDS, _IDLE_SECONDS, _PATIENCE_SECONDS = 0.1, 0.02, 5.0


class Measured(NamedTuple):
    """One load."""

    number: int  # requests that were answered
    rate: float  # requests a second
    p99: float  # milliseconds
    app: float  # microseconds of CPU for a request, user and system: the application's process with all its threads
    database: float  # the same of the database's server


class Processes(NamedTuple):
    """Who does the work."""

    app: int
    database: int | None


def load(url: str, method: str, *, connections: int, seconds: int, processes: Processes) -> Measured:
    """Load ``url``, and wait until the application has come to rest: what is done later belongs to these requests."""
    app, database = processes
    before = _cpu(app), _cpu(database)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", _script(method), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"{url} fails under load:\n{text}")
    _rest(app)
    number = max(1, int(_found(r"(\d+) requests in", text)[0]))  # a server may not answer in time at all
    latency, unit = _found(r"99%\s+([\d.]+)(us|ms|s)", text)
    return Measured(
        number,
        float(_found(r"Requests/sec:\s+([\d.]+)", text)[0]),
        float(latency) * _UNITS[unit],
        (_cpu(app) - before[0]) / number * 1e6,
        (_cpu(database) - before[1]) / number * 1e6,
    )


@cache
def _script(method: str) -> str:
    path = Path(tempfile.mkdtemp()) / "method.lua"
    path.write_text(f"wrk.method = '{method}'\n")
    return str(path)


def _found(pattern: str, text: str) -> tuple[str, ...]:
    if not (match := re.search(pattern, text)):
        raise SystemExit(f"wrk says something else than usual:\n{text}")
    return match.groups()


def _cpu(pid: int | None) -> float:
    """Seconds of CPU, user and system, of a process and all its children, whether they live or not."""
    if pid is None:
        return 0.0
    process = psutil.Process(pid)
    seconds = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            seconds += sum(child.cpu_times()[:2])
    return seconds


def _rest(pid: int) -> None:
    deadline, last = time.monotonic() + _PATIENCE_SECONDS, _cpu(pid)
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        now = _cpu(pid)
        if now - last < _IDLE_SECONDS:
            return
        last = now
