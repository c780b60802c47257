"""What audited SQLAlchemy sessions cost, as ratios to the same work without audit.

    python -m benchmarks.sqlalchemy_cost [postgresql] [sqlite] [--rounds 7] [--peers]

``--peers`` also measures other libraries, which are installed into an environment of their own for it: see
``benchmarks.sqlalchemy_peers``. Behind a ratio stands how many changes were told of each row, where it is not one.
Every variant is a process with a database of its own on one server, and each round asks them in turn. Our sealer does
not run meanwhile, but on SQLite, where it is part of the transaction: its cost is ``benchmarks.postgres``'s. In
"triggers" those of PostgreSQL tell. With peers it takes about five minutes; ``--scale 0.1`` does a tenth of the work.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import create_engine, delete, insert, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column, sessionmaker

from benchmarks.databases import databases
from benchmarks.peers import python_with, sqlalchemy_url
from benchmarks.rounds import Took, answer, asking, in_turn, tell, took
from benchmarks.sqlalchemy_peers import (
    ONLY_POSTGRESQL,
    REQUIREMENTS,
    TABLES,
    after_tables,
    before_classes,
    before_tables,
)

OURS, PEERS = ("plain", "ours", "triggers"), tuple(REQUIREMENTS)
ONLY_THERE = ("triggers", *ONLY_POSTGRESQL)
KINDS = {
    "single": ("one row a commit", ("create", "update", "delete"), 150),
    "hundred": ("a hundred rows a commit", ("create", "update", "delete"), 500),
    "statement": ("a statement of many rows", ("insert", "update", "SQL UPDATE", "delete"), 10_000),
}
Sessions = sessionmaker[Session]


class Base(DeclarativeBase):
    pass


def make_class(variant: str) -> type[Any]:
    class Patient(Base, *before_classes(variant, Base)):
        __tablename__ = "patient"
        __versioned__: ClassVar[dict[str, object]] = {}
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        ward: Mapped[str | None]
        diagnosis: Mapped[str | None]
        visits: Mapped[int] = mapped_column(default=0)
        seen: Mapped[datetime]

    configure_mappers()
    return Patient


def values(number: int) -> dict[str, object]:
    return {
        "id": number,
        "name": f"patient {number}",
        "ward": "B2",
        "diagnosis": "J45.0",
        "visits": number,
        "seen": datetime(2024, 2, 29, tzinfo=UTC).replace(tzinfo=None),
    }


class Work:
    """What is measured."""

    def __init__(self, patient: type[Any], sessions: Sessions, told: Callable[[], int]) -> None:
        self.patient, self.sessions, self.told = patient, sessions, told

    def do(self, kind: str, rows: int) -> Iterator[Took]:
        if kind == "statement":
            yield from self.statements(rows)
        else:
            yield from self.in_commits(1 if kind == "single" else 100, rows)

    def in_commits(self, size: int, rows: int) -> Iterator[Took]:
        """Create, update and delete, some rows with each commit."""

        def create(session: Session, start: int) -> None:
            session.add_all([self.patient(**values(number)) for number in range(start, start + size)])

        def found(session: Session, start: int) -> Any:
            return session.query(self.patient).where(self.patient.id.between(start, start + size - 1))

        def change(session: Session, start: int) -> None:
            for patient in found(session, start):
                patient.diagnosis, patient.visits = "J45.1", patient.visits + 1

        def remove(session: Session, start: int) -> None:
            for patient in found(session, start):
                session.delete(patient)

        for work in (create, change, remove):
            yield self.did([(work, start) for start in range(1, rows + 1, size)])

    def statements(self, rows: int) -> Iterator[Took]:
        """Insert, update and delete all rows with one statement; the second update in SQL that no ORM reads."""
        new = [values(number) for number in range(1, rows + 1)]
        changed = update(self.patient).values(diagnosis="J45.1", visits=self.patient.visits + 1)
        written = text("UPDATE patient SET visits = visits + 1")
        for statement, parameters in (
            (insert(self.patient), new),
            (changed, None),
            (written, None),
            (delete(self.patient), None),
        ):

            def execute(session: Session, _: int, statement: Any = statement, parameters: Any = parameters) -> None:
                session.execute(statement, parameters)

            yield self.did([(execute, 0)])

    def did(self, commits: list[tuple[Callable[[Session, int], None], int]]) -> Took:
        def run() -> None:
            for work, start in commits:
                with self.sessions.begin() as session:
                    work(session, start)

        return took(run, self.told)


def audit(variant: str, url: str, engine: Any, sessions: Sessions) -> None:
    """Attach a trail of ours. The sealer works for all, and is measured elsewhere."""
    from audit_core import AuditTrail
    from audit_core.orm.bulk import Bulk
    from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
    from audit_core.triggers import install

    limit = KINDS["statement"][2]
    trail = AuditTrail(url, lifecycle=False)
    if follower := trail._writer.follower:  # noqa: SLF001
        follower.start = lambda: None  # type: ignore[method-assign]
    if variant == "triggers":
        with engine.begin() as connection:
            install(connection, ["patient"], limit=limit)
    SQLAlchemyAuditor(trail, bulk=Bulk(limit=limit), triggers=variant == "triggers").attach(sessions)


def serve(variant: str, url: str) -> None:
    """A variant's process."""
    patient = make_class(variant)
    engine = create_engine(sqlalchemy_url(url))
    before_tables(variant, engine)
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    if variant in PEERS:
        after_tables(variant, engine, sessions)
    elif variant != "plain":
        audit(variant, url, engine, sessions)
    schema = "audit." if url.startswith("postgresql") else ""
    tables = [TABLES[variant]] if variant in PEERS else [f"{schema}audit_outbox", f"{schema}audit_events"]
    counted = " + ".join(f"(SELECT count(*) FROM {table})" for table in tables)

    def told() -> int:
        if variant == "plain":
            return 0
        with engine.connect() as connection:
            return int(connection.scalar(text(f"SELECT {counted}")))

    def do(work: str) -> Iterator[Took]:
        kind, rows = work.split()
        yield from Work(patient, sessions, told).do(kind, int(rows))
        if variant in OURS[1:] and schema:
            with engine.begin() as connection:
                connection.execute(text("TRUNCATE audit.audit_outbox"))

    answer(do)


def measure(engine: str, variants: list[str], options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        places = stack.enter_context(databases(engine, variants))
        processes = {}
        for variant in variants:
            python = python_with(*REQUIREMENTS.values()) if variant in PEERS else sys.executable
            command = ["-m", "benchmarks.sqlalchemy_cost", "--serve", variant, places.urls[variant]]
            processes[variant] = stack.enter_context(asking(python, *command))
        for kind, (title, parts, most) in KINDS.items():
            rows = max(100, int(most * options.scale) // 100 * 100)  # whole commits
            tell(f"{engine:10} {title:24}", parts, in_turn(processes, f"{kind} {rows}", options.rounds), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["postgresql", "sqlite"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.engines)
        return
    variants = [*OURS, *(PEERS if options.peers else ())]
    for engine in options.engines:
        measure(engine, [v for v in variants if engine == "postgresql" or v not in ONLY_THERE], options)


if __name__ == "__main__":
    main()
