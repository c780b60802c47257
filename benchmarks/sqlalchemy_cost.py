"""What audited SQLAlchemy sessions cost, as ratios to the same work without audit.

    python -m benchmarks.sqlalchemy_cost [--rounds 7] [sqlite postgresql]

Each kind of work is done with and without an auditor in turn, in every round, on two databases of one server; what is
printed is the median of the rounds' ratios. The sealer does not run meanwhile: its cost is ``benchmarks.postgres``'s.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import create_engine, delete, insert, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from audit_core import AuditTrail
from audit_core.orm.bulk import Bulk
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.postgres.server import Server, new_database

ONE_BY_ONE, BY_THE_HUNDRED, STATEMENT = 300, 2_000, 10_000


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patient"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    ward: Mapped[str | None]
    diagnosis: Mapped[str | None]
    visits: Mapped[int] = mapped_column(default=0)
    seen: Mapped[datetime]


def values(number: int) -> dict[str, object]:
    return {
        "name": f"patient {number}",
        "ward": "B2",
        "diagnosis": "J45.0",
        "visits": number,
        "seen": datetime(2024, 2, 29, tzinfo=UTC).replace(tzinfo=None),
    }


def in_commits(size: int, count: int) -> dict[str, Callable[[sessionmaker[Session]], None]]:
    """Create, update and delete ``count`` rows, ``size`` with each commit."""

    def create(factory: sessionmaker[Session]) -> None:
        for start in range(0, count, size):
            with factory.begin() as session:
                session.add_all([Patient(id=number + 1, **values(number)) for number in range(start, start + size)])

    def change(factory: sessionmaker[Session]) -> None:
        for start in range(0, count, size):
            with factory.begin() as session:
                for patient in session.query(Patient).where(Patient.id.between(start + 1, start + size)):
                    patient.diagnosis, patient.visits = "J45.1", patient.visits + 1

    def remove(factory: sessionmaker[Session]) -> None:
        for start in range(0, count, size):
            with factory.begin() as session:
                for patient in session.query(Patient).where(Patient.id.between(start + 1, start + size)):
                    session.delete(patient)

    return {"create": create, "update": change, "delete": remove}


def in_statements() -> dict[str, Callable[[sessionmaker[Session]], None]]:
    def execute(statement: object, rows: object = None) -> Callable[[sessionmaker[Session]], None]:
        def work(factory: sessionmaker[Session]) -> None:
            with factory.begin() as session:
                session.execute(statement, rows)  # type: ignore[call-overload]

        return work

    return {
        "insert": execute(insert(Patient), [values(number) for number in range(STATEMENT)]),
        "update": execute(update(Patient).values(diagnosis="J45.1", visits=Patient.visits + 1)),
        "delete": execute(delete(Patient)),
    }


@contextmanager
def databases(kind: str) -> Iterator[list[sessionmaker[Session]]]:
    """Sessions without audit, and sessions with it."""
    server = Server(18) if kind == "postgresql" else None
    urls = [new_database(url=server.url) if server else f"sqlite:///{tempfile.mkdtemp()}/app.db" for _ in range(2)]
    factories = []
    for url in urls:
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        Base.metadata.create_all(engine)
        factories.append(sessionmaker(engine))
    with AuditTrail(urls[1], lifecycle=False) as trail:
        if follower := trail._writer.follower:  # noqa: SLF001 - the sealer works for all, and is measured elsewhere
            follower.start = lambda: None  # type: ignore[method-assign]
        SQLAlchemyAuditor(trail, bulk=Bulk(limit=STATEMENT)).attach(factories[1])
        yield factories
    for factory in factories:
        factory.kw["bind"].dispose()


def seconds(work: Callable[[sessionmaker[Session]], None], factory: sessionmaker[Session]) -> float:
    began = time.perf_counter()
    work(factory)
    return time.perf_counter() - began


def empty(factory: sessionmaker[Session], kind: str) -> None:
    with factory.kw["bind"].begin() as connection:
        if kind == "postgresql":
            connection.execute(text("TRUNCATE patient RESTART IDENTITY"))
            if connection.scalar(text("SELECT to_regclass('audit.audit_outbox')")):
                connection.execute(text("TRUNCATE audit.audit_outbox"))
        else:
            connection.execute(text("DELETE FROM patient"))


def measure(kind: str, rounds: int) -> None:
    sets = {
        "one row a commit": in_commits(1, ONE_BY_ONE),
        "a hundred rows a commit": in_commits(100, BY_THE_HUNDRED),
        f"a statement of {STATEMENT:,} rows": in_statements(),
    }
    with databases(kind) as factories:
        for name, works in sets.items():
            ratios: dict[str, list[float]] = {word: [] for word in works}
            for turn in range(rounds):
                order = factories if turn % 2 else factories[::-1]
                for word, work in works.items():
                    took = {id(factory): seconds(work, factory) for factory in order}
                    ratios[word].append(took[id(factories[1])] / took[id(factories[0])])
                for factory in factories:
                    empty(factory, kind)
            told = "  ".join(f"{word} {statistics.median(found):.2f}" for word, found in ratios.items())
            print(f"{kind:11} {name:28} {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["postgresql", "sqlite"])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        measure(kind, arguments.rounds)


if __name__ == "__main__":
    main()
