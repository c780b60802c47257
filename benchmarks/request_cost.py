"""What one request costs: each framework's application with and without a trail, interleaved, on SQLite.

    python benchmarks/request_cost.py [--rounds 5] [--seconds 3] [fastapi flask django]

Needs wrk on the PATH. Three servers of the same application run at once, without a trail, with a durable one and with
a buffered one; each round loads them in turn, one at a time. The figures are medians over the rounds of the ratio
to the application without a trail in the same round.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODES = ("plain", "durable", "buffered")
HERE = Path(__file__).parent
POST = "wrk.method = 'POST'\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(framework: str, mode: str) -> tuple[subprocess.Popen[bytes], int]:
    port, folder = free_port(), tempfile.mkdtemp()
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "AUDIT_STATE_DIR": folder}
    command = [sys.executable, str(HERE / "apps.py"), framework, mode, str(port), folder]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{framework} {mode} did not start")


def load(port: int, path: str, connections: int, seconds: int, script: str) -> tuple[float, float]:
    """Requests a second, and the 99th percentile of the latency in milliseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}/{path}"]
    if path != "read":
        command[1:1] = ["-s", script]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        raise SystemExit(text)
    latency, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    return rate, float(latency) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def summary(ratios: list[tuple[float, float]]) -> str:
    rates, latencies = zip(*ratios, strict=True)
    return f"{statistics.median(rates):.2f} (p99 x{statistics.median(latencies):.2f})"


def measure(framework: str, rounds: int, seconds: int, script: str) -> None:
    servers = {mode: start(framework, mode) for mode in MODES}
    try:
        for path in ("read", "empty", "work"):
            for connections in (1, 32):
                ratios: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
                plain = []
                for turn in range(rounds + 1):
                    got = {m: load(port, path, connections, seconds, script) for m, (_, port) in servers.items()}
                    if turn:  # the first round warms up
                        plain.append(got["plain"][0])
                        for mode in MODES:
                            ratios[mode].append(tuple(a / b for a, b in zip(got[mode], got["plain"], strict=True)))
                verb = "GET" if path == "read" else "POST"
                figures = "  ".join(f"{mode} {summary(ratios[mode])}" for mode in MODES[1:])
                rate = f"{statistics.median(plain):7.0f}/s plain"
                print(f"{framework:8} {verb} /{path:6} {connections:2} connections: {rate};  {figures}", flush=True)
    finally:
        for process, _ in servers.values():
            process.terminate()
        for process, _ in servers.values():
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("frameworks", nargs="*", default=["fastapi", "flask", "django"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    script = Path(tempfile.mkdtemp()) / "post.lua"
    script.write_text(POST)
    for framework in options.frameworks:
        measure(framework, options.rounds, options.seconds, str(script))


if __name__ == "__main__":
    main()
