"""What an audited change costs in Django's ORM, interleaved, as shares of the same change without audit.

    python -m benchmarks.django_changes [postgresql] [sqlite] [--rounds 7] [--number 300] [--rows 10000] [--peers]

``--peers`` also measures other libraries, which are installed into an environment of their own for it: see
``benchmarks.django_peers``. Behind a ratio stands how many changes were told of each row, where it is not one; it is
also seen so what is not told. Every variant is a process with a database of its own on one server, and each round asks
them in turn. Sealing is left out, except where it belongs to the transaction (SQLite) and in "sealing". The limit of
bulk operations is raised, so that each row is told. In "triggers" those of PostgreSQL tell. In each operation somebody
acts, as in a request. With ``--peers --rows 1000`` it takes about five minutes: some of them take a minute for 10,000.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, redirect_stdout
from decimal import Decimal
from typing import Any

from benchmarks.databases import databases, django_database
from benchmarks.django_peers import APPS as PEER_APPS
from benchmarks.django_peers import ONLY_POSTGRESQL, REQUIREMENTS, SETTINGS, TABLES, one_request, register
from benchmarks.peers import python_with
from benchmarks.rounds import Took, answer, asking, in_turn, tell, took

OURS, PEERS = ("plain", "ours", "triggers", "sealing"), tuple(REQUIREMENTS)
APPS = {
    "plain": [],
    "ours": ["audit_django"],
    "triggers": ["audit_django"],
    "sealing": ["audit_django"],
    **PEER_APPS,
}
WITHOUT_SEALING = ("ours", "triggers")
ONLY_THERE = ("triggers", "sealing", *ONLY_POSTGRESQL)
SINGLE, BULK = ("create", "update", "delete"), ("bulk_create", "QuerySet.update", "SQL UPDATE", "QuerySet.delete")


def start_django(variant: str, url: str) -> None:
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=[*APPS[variant], "benchmarks.clinic"],
        DATABASES={"default": django_database(url)},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        **SETTINGS.get(variant, {}),
        AUDIT={"BULK_LIMIT": 1_000_000, "TRIGGERS": variant == "triggers"},
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)  # the users first, whom a peer's tables refer to
    call_command("migrate", "--run-syncdb", verbosity=0)
    register(variant)
    if variant == "triggers":
        with redirect_stdout(sys.stderr):
            call_command("audit", "triggers", "install", "--tables", "clinic.Visit")
    if variant in WITHOUT_SEALING:
        from audit_core.writing.follower import Follower

        Follower.start = lambda _: None  # type: ignore[method-assign]


class Work:
    """What is measured."""

    def __init__(self, variant: str, number: int, rows: int) -> None:
        self.variant, self.number, self.rows = variant, number, rows

    def one(self, number: int) -> Any:
        from benchmarks.clinic.models import Visit

        return Visit(
            patient=f"patient {number}", number=number, reason="pain in the left knee", paid=Decimal("19.90"),
            on=dt.date(2026, 5, 4), notes={"allergies": ["nuts"], "weight": 71},
        )  # fmt: skip

    def single(self) -> Iterator[Took]:
        """Create, update and delete, one by one, in autocommit, as by as many requests."""
        visits = [self.one(number) for number in range(self.number)]
        yield self.did(*[visit.save for visit in visits])
        for visit in visits:
            visit.number, visit.reason = visit.number + 1, "none"
        yield self.did(*[visit.save for visit in visits])
        yield self.did(*[visit.delete for visit in visits])

    def bulk(self) -> Iterator[Took]:
        """Many rows in one statement each."""
        from django.db.models import F

        from benchmarks.clinic.models import Visit

        visits = [self.one(number) for number in range(self.rows)]
        yield self.did(lambda: Visit.objects.bulk_create(visits))
        yield self.did(lambda: Visit.objects.update(number=F("number") + 1, reason="none"))
        yield self.did(lambda: sql("UPDATE clinic_visit SET number = number + 1"))
        yield self.did(Visit.objects.all().delete)

    def did(self, *operations: Callable[[], object]) -> Took:
        def work() -> None:
            for operation in operations:
                with request(self.variant):
                    operation()

        return took(work, lambda: told(self.variant))


def sql(statement: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement)


def request(variant: str) -> AbstractContextManager[object]:
    """What stands around an operation: who acts."""
    if variant in PEERS:
        return one_request(variant)
    if variant == "plain":
        return nullcontext()
    from audit_django import get_trail

    return get_trail().actor("ann")


def told(variant: str) -> int:
    """How many rows have been written of changes."""
    if variant == "plain":
        return 0
    from django.db import connection

    with connection.cursor() as cursor:
        schema = "audit." if connection.vendor == "postgresql" else ""
        tables = TABLES.get(variant) or (f"{schema}audit_outbox", f"{schema}audit_events")
        cursor.execute(f"SELECT {' + '.join(f'(SELECT count(*) FROM {table})' for table in tables)}")
        return int(cursor.fetchone()[0])


def serve(variant: str, url: str, number: int, rows: int) -> None:
    """A variant's process."""
    start_django(variant, url)
    work = Work(variant, number, rows)

    def do(kind: str) -> Iterator[Took]:
        yield from work.single() if kind == "single" else work.bulk()
        if variant in WITHOUT_SEALING and url.startswith("postgresql"):
            from django.db import connection

            connection.cursor().execute("TRUNCATE audit.audit_outbox")

    answer(do)


def measure(engine: str, variants: list[str], options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        places = stack.enter_context(databases(engine, variants))
        processes = {}
        for variant in variants:
            python = python_with(*REQUIREMENTS.values()) if variant in PEERS else sys.executable
            command = ["-m", "benchmarks.django_changes", "--serve", variant, places.urls[variant]]
            sizes = ["--number", str(options.number), "--rows", str(options.rows)]
            processes[variant] = stack.enter_context(asking(python, *command, *sizes))
        for kind, parts, rows in (("single", SINGLE, options.number), ("bulk", BULK, options.rows)):
            tell(engine, parts, in_turn(processes, kind, options.rounds), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["postgresql", "sqlite"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        variant, url = options.engines
        serve(variant, url, options.number, options.rows)
        return
    variants = [*OURS, *(PEERS if options.peers else ())]
    for engine in options.engines:
        measure(engine, [v for v in variants if engine == "postgresql" or v not in ONLY_THERE], options)


if __name__ == "__main__":
    main()
