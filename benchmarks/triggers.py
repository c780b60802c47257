"""What triggers cost, as ratios against the same table without: `python benchmarks/triggers.py`.

The two take turns, statement by statement, so that what the machine does meanwhile weighs on both. Median of the turns.
The rows are written through SQLAlchemy's ORM, one or a hundred a commit, and 10,000 by one statement of its own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from os import environ
from typing import Any

from sqlalchemy import BigInteger, DateTime, Numeric, String, create_engine, delete, func, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker


class Base(DeclarativeBase):
    pass


class Columns:
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    number: Mapped[str] = mapped_column(String(40))
    customer: Mapped[str] = mapped_column(String(80))
    total: Mapped[Any] = mapped_column(Numeric(12, 2))
    paid: Mapped[bool]
    made: Mapped[Any] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Plain(Columns, Base):
    __tablename__ = "plain"


class Told(Columns, Base):
    __tablename__ = "told"


Work = Callable[[sessionmaker[Session], type[Any], int], None]


def values(number: int) -> dict[str, Any]:
    return {"id": number, "number": f"2026-{number}", "customer": "Ann Smith", "total": number, "paid": False}


def create(sessions: sessionmaker[Session], model: type[Any], start: int, rows: int) -> None:
    with sessions.begin() as session:
        session.add_all([model(**values(start + i)) for i in range(rows)])


def change(sessions: sessionmaker[Session], model: type[Any], start: int, rows: int) -> None:
    with sessions.begin() as session:
        for one in session.scalars(select(model).where(model.id.between(start, start + rows - 1))):
            one.paid = True


def remove(sessions: sessionmaker[Session], model: type[Any], start: int, rows: int) -> None:
    with sessions.begin() as session:
        for one in session.scalars(select(model).where(model.id.between(start, start + rows - 1))):
            session.delete(one)


def bulk_create(sessions: sessionmaker[Session], model: type[Any], start: int, rows: int) -> None:
    with sessions.begin() as session:
        session.execute(insert(model), [values(start + i) for i in range(rows)])


def bulk_change(sessions: sessionmaker[Session], model: type[Any], start: int, rows: int) -> None:
    with sessions.begin() as session:
        session.execute(update(model).where(model.id >= start).values(paid=True))


def bulk_remove(sessions: sessionmaker[Session], model: type[Any], start: int, rows: int) -> None:
    with sessions.begin() as session:
        session.execute(delete(model).where(model.id >= start))


def measure(
    sessions: sessionmaker[Session], work: Any, rows: int, turns: int, before_turn: Callable[[], None]
) -> float:
    taken: dict[type[Any], list[float]] = {Plain: [], Told: []}
    for turn in range(turns):
        for model in (Plain, Told) if turn % 2 else (Told, Plain):
            began = time.perf_counter()
            work(sessions, model, 1 + turn * rows, rows)
            taken[model].append(time.perf_counter() - began)
        before_turn()
    return statistics.median(taken[Told]) / statistics.median(taken[Plain])


def cases() -> Iterator[tuple[str, list[Any], int, int]]:
    yield "one row a commit", [create, change, remove], 1, 400
    yield "a hundred rows a commit", [create, change, remove], 100, 40


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--limit", type=int, default=100_000, help="rows of one statement that are told")
    limit = arguments.parse_args().limit
    environ["AUDIT_STATE_DIR"] = tempfile.mkdtemp()
    from audit_core import AuditTrail
    from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
    from audit_core.triggers import install
    from tests.postgres.server import Server, new_database

    server = Server(18)
    url = new_database(url=server.url)
    trail = AuditTrail(url, lifecycle=False)
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        install(connection, ["told"], limit=limit)
    sessions = sessionmaker(engine)
    SQLAlchemyAuditor(trail, exclude=[Plain], triggers=True).attach(sessions)

    def empty_outbox() -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM audit.audit_outbox")

    for name, works, rows, turns in cases():
        ratios = []
        for work in works:
            ratios.append(measure(sessions, work, rows, turns, lambda: None))
            empty_outbox()
        print(f"{name:<32}" + " / ".join(f"{ratio:.2f}" for ratio in ratios))
    ratios = [[], [], []]
    for turn in range(7):
        for place, work in enumerate((bulk_create, bulk_change, bulk_remove)):
            times = {}
            for model in (Plain, Told) if turn % 2 else (Told, Plain):
                began = time.perf_counter()
                work(sessions, model, 1, 10_000)
                times[model] = time.perf_counter() - began
            ratios[place].append(times[Told] / times[Plain])
            empty_outbox()
    print(f"{'10,000 rows by one statement':<32}" + " / ".join(f"{statistics.median(r):.2f}" for r in ratios))


if __name__ == "__main__":
    main()
