"""What an audited change costs in Django's ORM, interleaved, as shares of the same change without audit.

    python -m benchmarks.django_changes [postgresql] [sqlite] [--rounds 7] [--number 300] [--rows 10000] [--peers]

``--peers`` also measures django-auditlog and django-simple-history, which are to be installed for it; of the bulk
operations they capture deletions at most. Every variant is a process with a database of its own on one server, and each
round asks them in turn. Sealing is left out, except where it belongs to the transaction (SQLite) and in "sealing". The
limit of bulk operations is raised, so that each row is told. In "triggers" those of PostgreSQL tell, with an actor.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from decimal import Decimal
from pathlib import Path
from typing import Any

OURS, PEERS = ("plain", "ours", "triggers", "sealing"), ("auditlog", "simple_history")
APPS = {
    "ours": ["audit_django"],
    "triggers": ["audit_django"],
    "sealing": ["audit_django"],
    "auditlog": ["django.contrib.auth", "django.contrib.contenttypes", "auditlog"],
    "simple_history": ["django.contrib.auth", "django.contrib.contenttypes", "simple_history"],
}
WITHOUT_SEALING = ("ours", "triggers")
SINGLE, BULK = ("create", "update", "delete"), ("bulk_create", "bulk_update", "bulk_delete")


def start_django(variant: str, database: dict[str, Any]) -> None:
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=["benchmarks.clinic", *APPS.get(variant, [])],
        DATABASES={"default": database},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        AUDIT={"BULK_LIMIT": 1_000_000, "TRIGGERS": variant == "triggers"},
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)  # the users first, whom a peer's tables refer to
    call_command("migrate", "--run-syncdb", verbosity=0)
    if variant == "auditlog":
        from auditlog.registry import auditlog

        from benchmarks.clinic.models import Visit

        auditlog.register(Visit)
    if variant == "triggers":
        with redirect_stdout(sys.stderr):
            call_command("audit", "triggers", "install", "--tables", "clinic.Visit")
    if variant in WITHOUT_SEALING:
        from audit_core.writing.follower import Follower

        Follower.start = lambda _: None  # type: ignore[method-assign]


class Work:
    """What is measured; each answers in seconds."""

    def __init__(self, number: int, rows: int) -> None:
        self.number, self.rows = number, rows

    def one(self, number: int) -> Any:
        from benchmarks.clinic.models import Visit

        return Visit(
            patient=f"patient {number}", number=number, reason="pain in the left knee", paid=Decimal("19.90"),
            on=dt.date(2026, 5, 4), notes={"allergies": ["nuts"], "weight": 71},
        )  # fmt: skip

    def single(self) -> Iterator[float]:
        """Create, update and delete, one by one, in autocommit."""
        visits = [self.one(number) for number in range(self.number)]
        yield timed(lambda: [visit.save() for visit in visits])
        for visit in visits:
            visit.number, visit.reason = visit.number + 1, "none"
        yield timed(lambda: [visit.save() for visit in visits])
        yield timed(lambda: [visit.delete() for visit in visits])

    def bulk(self) -> Iterator[float]:
        """Many rows in one statement each."""
        from django.db.models import F

        from benchmarks.clinic.models import Visit

        visits = [self.one(number) for number in range(self.rows)]
        yield timed(lambda: Visit.objects.bulk_create(visits))
        yield timed(lambda: Visit.objects.update(number=F("number") + 1, reason="none"))
        yield timed(lambda: Visit.objects.all().delete())


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def serve(variant: str, engine: str, place: str, number: int, rows: int) -> None:
    """A variant's process: one line in, one round, one line out."""
    if engine == "sqlite":
        init = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"
        start_django(
            variant, {"ENGINE": "django.db.backends.sqlite3", "NAME": place, "OPTIONS": {"init_command": init}}
        )
    else:
        folder, name = place.split("|")
        options = {"HOST": folder, "USER": "postgres", "NAME": name}
        start_django(variant, {"ENGINE": "django.db.backends.postgresql", **options})
    work = Work(number, rows)
    print("ready", flush=True)
    for kind in sys.stdin:
        with acting(variant):
            print(*getattr(work, kind.strip())(), flush=True)
        if variant in WITHOUT_SEALING and engine == "postgresql":
            from django.db import connection

            connection.cursor().execute("TRUNCATE audit.audit_outbox")


@contextmanager
def acting(variant: str) -> Iterator[None]:
    """As in a request: triggers are told who acts."""
    if variant not in WITHOUT_SEALING:
        yield
        return
    from audit_django import get_trail

    with get_trail().actor("ann"):
        yield


@contextmanager
def places(engine: str, variants: list[str]) -> Iterator[dict[str, str]]:
    """A database for each variant."""
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield {variant: str(Path(folder) / f"{variant}.db") for variant in variants}
        return
    import psycopg

    from tests.postgres.server import Server

    server = Server(18)
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for variant in variants:
                connection.execute(f"CREATE DATABASE {variant}")
        yield {variant: f"{server.folder}|{variant}" for variant in variants}
    finally:
        server.stop()


def measure(engine: str, variants: list[str], options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        databases = stack.enter_context(places(engine, variants))
        processes = {}
        for variant in variants:
            command = [
                sys.executable,
                "-m",
                "benchmarks.django_changes",
                "--serve",
                variant,
                engine,
                databases[variant],
            ]
            command += ["--number", str(options.number), "--rows", str(options.rows)]
            environment = {**os.environ, "AUDIT_STATE_DIR": tempfile.mkdtemp()}
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            stack.callback(process.kill)
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"{variant} did not start")
            processes[variant] = process
        for kind, names in (("single", SINGLE), ("bulk", BULK)):
            shares: dict[tuple[str, str], list[float]] = {}
            plain: dict[str, list[float]] = {}
            for turn in range(options.rounds + 1):
                found = {variant: ask(process, kind) for variant, process in processes.items()}
                for place, name in enumerate(names):
                    if turn:  # the first round warms up
                        plain.setdefault(name, []).append(found["plain"][place])
                        for variant in variants[1:]:
                            shares.setdefault((name, variant), []).append(found[variant][place] / found["plain"][place])
            for name in names:
                figures = "  ".join(f"{v} {statistics.median(shares[name, v]):.2f}" for v in variants[1:])
                print(
                    f"{engine:10} {name:12} {statistics.median(plain[name]) * 1000:7.0f} ms plain;  {figures}",
                    flush=True,
                )


def ask(process: Any, kind: str) -> list[float]:
    process.stdin.write(f"{kind}\n")
    process.stdin.flush()
    return [float(text) for text in process.stdout.readline().split()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engines", nargs="*", default=["postgresql", "sqlite"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        variant, engine, place = options.engines
        serve(variant, engine, place, options.number, options.rows)
        return
    variants = [*OURS, *(PEERS if options.peers else ())]
    for engine in options.engines:
        measure(engine, [v for v in variants if engine == "postgresql" or v not in {"triggers", "sealing"}], options)


if __name__ == "__main__":
    main()
