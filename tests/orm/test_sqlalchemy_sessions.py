"""Transactions, sessions and databases: where events go, and when they are there."""

import asyncio
import gc
import re
import threading
import warnings
from datetime import UTC, datetime

import pytest
from sqlalchemy import Column, Numeric, Table, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, make_transient_to_detached, registry, scoped_session, sessionmaker

from audit_core import AuditTrail, Redactor
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.integrity.verify import Result
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.orm.models import (
    Base,
    Composite,
    Doctor,
    Group,
    Lazy,
    Note,
    Nurse,
    Patient,
    Person,
    User,
    events,
    statements,
    told,
)

# --- Flushes and transactions


def test_nothing_of_what_was_rolled_back(session, trail, place):
    if place[1] == "memory:":
        pytest.skip("a memory trail has no transaction to join")
    session.add(Patient(name="kept"))
    session.flush()
    with session.begin_nested() as savepoint:
        session.add(Patient(name="undone"))
        session.flush()
        savepoint.rollback()
    with session.begin_nested():
        session.add(Patient(name="released"))
    session.commit()
    session.add(Patient(name="gone"))
    session.flush()
    session.rollback()
    assert [changes["name"][1] for _, _, changes in told(trail)] == ["kept", "released"]
    trail.flush()
    assert trail.verify().result is Result.UNANCHORED


def test_after_an_integrity_error_the_session_is_used_again(session, trail, place):
    if place[1] == "memory:":
        pytest.skip("a memory trail has no transaction to join")
    session.add(Patient(id=1, name="first"))
    session.commit()
    session.add(Patient(id=2, name="undone"))
    session.flush()
    session.execute(text("INSERT INTO patient (id, name) VALUES (3, 'raw')"))
    session.add(Patient(id=3, name="clash"))
    with pytest.raises(IntegrityError):
        session.flush()
    with pytest.raises(PendingRollbackError):
        session.scalars(select(Patient)).all()
    session.rollback()
    session.add(Patient(id=1, name="clash"))
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()
    session.add(Patient(id=4, name="last"))
    session.commit()
    assert [changes["name"][1] for _, _, changes in told(trail)] == ["first", "last"]


def test_two_sessions_interleaved_do_not_mix(factory, trail):
    with factory() as one, factory() as other:
        one.add(Patient(name="one"))
        other.add(Note(text="never flushed", patient_id=9))
        one.commit()
        other.rollback()
    assert [resource for _, resource, _ in told(trail)] == ["patient:1"]


def test_a_new_object_in_the_place_of_a_deleted_one_is_an_update(session, trail):
    session.add(Patient(id=1, name="Ann", ward="A"))
    session.commit()
    session.delete(session.get(Patient, 1))
    session.add(Patient(id=1, name="Beth"))
    session.commit()
    assert told(trail, 1) == [("update", "patient:1", {"name": ("Ann", "Beth")})]
    assert session.get(Patient, 1).ward == "A"  # that is what SQLAlchemy does: one UPDATE of what was set


def test_an_event_that_cannot_be_written_undoes_the_change(session, trail, engine, monkeypatch):
    def refuse(*arguments):
        raise StoreUnavailableError("full")

    monkeypatch.setattr(trail, "tell", refuse)
    session.add(Patient(name="Ann"))
    with pytest.raises(StoreUnavailableError):
        session.commit()
    session.rollback()
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Patient)).scalar() == 0


def test_the_objects_of_a_failed_flush_are_not_kept_alive(session, trail):
    session.add(Patient(id=1, name="Ann"))
    session.commit()
    session.expunge_all()
    session.add(Patient(id=1, name="clash"))
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Patient)]


# --- Who, and which


def test_sensitive_fields_are_redacted_on_both_sides(engine, place):
    redactor = Redactor({"patient.ward": "mask"})
    with AuditTrail(place[1], lifecycle=False, redactor=redactor) as trail:
        factory = sessionmaker(engine)
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            session.add(Patient(name="Ann", password="hunter2", ward="isolation ward 12"))
            session.commit()
        assert told(trail)[0][2] == {
            "id": (None, 1),
            "name": (None, "Ann"),
            "password": (None, "[redacted]"),
            "ward": (None, "••••d 12"),
        }


def test_include_and_exclude(engine, trail):
    chosen, others = sessionmaker(engine), sessionmaker(engine)
    SQLAlchemyAuditor(trail, include=[Person], exclude=[Nurse]).attach(chosen)
    with chosen() as session:
        session.add_all([Doctor(name="d"), Nurse(name="n"), User()])
        session.commit()
    with others() as session:
        session.add(Doctor(name="not attached"))
        session.commit()
    assert [resource for _, resource, _ in told(trail)] == ["doctor:1"]


def test_the_trails_own_tables_are_never_audited(factory, engine, trail):
    mappings = registry()

    class Waiting:
        pass

    table = Table("audit_outbox", mappings.metadata, Column("id", primary_key=True, type_=Numeric), Column("event"))
    mappings.map_imperatively(Waiting, table)
    assert not SQLAlchemyAuditor(trail).audits(inspect(Waiting))
    mappings.dispose()


# --- What sessions come from


def test_a_session_class_a_session_and_a_scoped_session(engine, trail):
    class Own(Session):
        pass

    registered = scoped_session(sessionmaker(engine))
    auditor = SQLAlchemyAuditor(trail)
    with Session(engine) as alone, Own(engine) as classed:
        for target in (alone, Own, registered):
            auditor.attach(target)
            auditor.attach(target)  # twice is once
        for number, session in enumerate((alone, classed, registered)):
            session.add(Patient(name=str(number)))
            session.commit()
        registered.remove()
        with Session(engine) as other:
            other.add(Patient(name="not attached"))
            other.commit()
    assert [changes["name"][1] for _, _, changes in told(trail)] == ["0", "1", "2"]


def test_a_session_that_is_attached_in_two_ways_is_audited_once(engine, trail):
    class Own(Session):
        pass

    factory = sessionmaker(engine, class_=Own)
    auditor = SQLAlchemyAuditor(trail)
    auditor.attach(Own)
    auditor.attach(factory)
    with factory() as session:
        auditor.attach(session)
        session.add(Patient(name="once"))
        session.commit()
    assert len(told(trail)) == 1


def test_two_auditors_of_one_trail_record_a_change_once_and_what_either_of_them_chose(engine, trail):
    factory = sessionmaker(engine)
    for chosen in (Patient, Person, Patient):
        SQLAlchemyAuditor(trail, include=[chosen]).attach(factory)
    with factory() as session:
        session.add_all([Patient(name="once"), Doctor(name="too")])
        session.commit()
        session.add(User())
        session.commit()
    assert sorted(changes["name"][1] for _, _, changes in told(trail)) == ["once", "too"]


def test_detach_undoes_attach(engine, trail):
    factory = sessionmaker(engine)
    auditor = SQLAlchemyAuditor(trail)
    auditor.attach(factory)
    auditor.detach(factory)
    auditor.detach(factory)
    with factory() as session:
        session.add(Patient(name="unseen"))
        session.commit()
    assert told(trail) == []


def test_what_has_no_sessions_is_refused(trail):
    with pytest.raises(ConfigurationError, match="sessionmaker"):
        SQLAlchemyAuditor(trail).attach(object())
    with pytest.raises(ConfigurationError, match="sessionmaker"):
        SQLAlchemyAuditor(trail).attach(scoped_session(lambda: None))


@pytest.fixture
def asynchronous(engine, place):
    return create_async_engine(place[0].replace("sqlite:", "sqlite+aiosqlite:"))


def run(coroutine):
    return asyncio.run(coroutine)


async def play(factory, engine):
    async with factory() as session:
        patient = Patient(name="Ann")
        session.add(patient)
        await session.commit()
        patient.name = "Beth"  # expired: its old value is read inside the flush
        await session.flush()
        await session.rollback()
        async with session.begin_nested():
            session.add(Lazy(name="x"))
        await session.commit()
    await engine.dispose()


def from_maker(engine):
    factory = async_sessionmaker(engine)
    return factory, factory


def from_scoped(engine):
    factory = async_sessionmaker(engine)
    return factory, async_scoped_session(factory, scopefunc=lambda: 1)


def from_class(engine):
    class Own(AsyncSession):
        pass

    return (lambda: Own(engine)), Own


def from_session(engine):
    session = AsyncSession(engine)
    return (lambda: session), session


def from_sync_class(engine):
    class Own(Session):
        pass

    factory = async_sessionmaker(engine, sync_session_class=Own)
    return factory, factory


@pytest.mark.parametrize("make", [from_maker, from_scoped, from_class, from_session, from_sync_class])
def test_asynchronous_sessions_are_audited_as_others_are(asynchronous, trail, place, make):
    factory, target = make(asynchronous)
    auditor = SQLAlchemyAuditor(trail)
    auditor.attach(target)
    auditor.attach(target)
    run(play(factory, asynchronous))
    undone = [("update", "patient:1", {"name": ("Ann", "Beth")})] if place[1] == "memory:" else []
    assert told(trail) == [
        ("create", "patient:1", {"id": (None, 1), "name": (None, "Ann")}),
        *undone,
        ("create", "lazy:1", {"id": (None, 1), "name": (None, "x"), "state": (None, "new")}),
    ]


def test_other_sessions_are_not_attached_with_an_asynchronous_factory(asynchronous, engine, trail):
    SQLAlchemyAuditor(trail).attach(async_sessionmaker(asynchronous))
    with Session(engine) as session:
        session.add(Patient(name="unseen"))
        session.commit()
    run(asynchronous.dispose())
    assert told(trail) == []


# --- Databases


def test_another_database_than_the_trails_is_refused_with_the_cure_and_nothing_commits(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    with AuditTrail(f"sqlite:///{tmp_path / 'trail.db'}", lifecycle=False) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            session.add(Patient(name="Ann"))
            with pytest.raises(ConfigurationError, match="outbox="):
                session.commit()
            session.rollback()
            assert session.scalars(select(Patient)).all() == []
    engine.dispose()


def test_a_change_in_another_database_is_named_by_its_file_on_an_asynchronous_driver_too(tmp_path):
    async def change(trail):
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'elsewhere.db'}")
        factory = async_sessionmaker(engine)
        SQLAlchemyAuditor(trail).attach(factory)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        try:
            async with factory.begin() as session:
                session.add(Patient(name="Ann"))
        finally:
            await engine.dispose()

    named = re.escape(f'outbox=["sqlite:///{tmp_path}/elsewhere.db"]')
    with (
        AuditTrail(f"sqlite:///{tmp_path / 'trail.db'}", lifecycle=False) as trail,
        pytest.raises(ConfigurationError, match=named),
    ):
        asyncio.run(change(trail))


def test_sessions_on_several_databases_carry_each_change_in_its_own(tmp_path):
    urls = [f"sqlite:///{tmp_path / name}" for name in ("one.db", "two.db")]
    engines = [create_engine(url) for url in urls]
    for engine in engines:
        Base.metadata.create_all(engine)
    factory = sessionmaker(binds={Patient: engines[0], Group: engines[1]})
    with AuditTrail(urls[0], outbox=urls[1], lifecycle=False) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            session.add_all([Patient(name="Ann"), Group()])
            session.flush()
            session.rollback()
            session.add_all([Patient(name="Beth"), Group()])
            session.commit()
        trail.flush()
        assert sorted((e.resource_type, e.sealed) for e in events(trail)) == [("group", True), ("patient", True)]
        assert trail.verify().result is Result.UNANCHORED
    for engine in engines:
        engine.dispose()


# --- What it costs, and what it leaves


def test_a_session_that_writes_nothing_has_no_query_of_ours(factory, engine, trail):
    on_sqlite = engine.dialect.name == "sqlite"
    with factory() as session:
        session.add(Patient(name="Ann"))
        session.commit()
    seen, raw = statements(engine), []
    if on_sqlite:
        event.listen(engine, "checkout", lambda connection, *rest: connection.set_trace_callback(raw.append))
    with factory() as session:
        patient = session.scalars(select(Patient)).one()
        session.flush()
        patient.name = "Ann"
        session.flush()
        session.commit()
    with factory() as session:
        session.execute(text("SELECT 1"))
    assert [s.split()[0] for s in seen] == ["SELECT", "SELECT"]
    assert not [s for s in raw if "audit" in s]


def test_a_flush_is_one_insert_of_ours(factory, engine, trail, place, monkeypatch):
    if place[1] == "memory:":
        pytest.skip("a memory trail writes nowhere")
    with factory() as session:
        session.add(Patient(name="the chain begins"))
        session.commit()
    calls = []
    tell = trail.tell
    monkeypatch.setattr(trail, "tell", lambda changes, *rest: (calls.append(told := list(changes)), tell(told, *rest)))
    seen = statements(engine)
    with factory() as session:
        session.add_all([Patient(name=str(number)) for number in range(20)])
        session.commit()
    assert [len(told) for told in calls] == [20]
    assert {statement.split("(")[0] for statement in seen} == {"INSERT INTO patient "}  # the application's own


def gate(trail):
    while trail._places.gate._ended:  # counted by whoever is in the gate just now
        pass
    return trail._places.gate._open


def test_the_trail_writes_nothing_of_its_own_while_a_session_has_a_transaction(factory, trail, place):
    if trail._places.gate is None:
        pytest.skip("only the trail in a file has a gate")
    with factory() as session, factory() as other:
        assert gate(trail) == 0
        session.scalars(select(Patient)).all()
        assert gate(trail) == 1
        with session.begin_nested():
            session.add(Patient(name="Ann"))
        other.connection()
        assert gate(trail) == 2
        session.commit()
        assert gate(trail) == 1
        other.rollback()
        assert gate(trail) == 0
        session.add(Patient(name="Beth"))
        session.flush()
    assert gate(trail) == 0


def test_a_failed_flush_and_a_failed_commit_leave_the_gate_open(factory, trail, place, monkeypatch):
    if trail._places.gate is None:
        pytest.skip("only the trail in a file has a gate")
    with pytest.raises(IntegrityError), factory.begin() as session:
        session.add(Patient(id=1, name=None))
    assert gate(trail) == 0
    session = factory()
    session.add(Patient(name="Ann"))
    session.flush()
    session.invalidate()
    assert gate(trail) == 0


def test_a_session_that_is_dropped_without_close_lets_the_trail_write(factory, trail, place):
    if trail._places.gate is None:
        pytest.skip("only the trail in a file has a gate")
    session = factory()
    session.add(Patient(name="Ann"))
    session.flush()
    assert gate(trail) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del session
        gc.collect()
    for _ in range(200):
        if not gate(trail):
            break
        threading.Event().wait(0.01)
    assert gate(trail) == 0


def test_reading_and_then_writing_is_not_refused_because_of_us(tmp_path):
    """Two sessions; each overwrites an expired attribute, so that we read before the application writes."""
    url = f"sqlite:///{tmp_path / 'app.db'}"
    engine = create_engine(url, connect_args={"timeout": 10})

    @event.listens_for(engine, "connect")
    def manual(connection, record):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")

    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    failed = []
    with AuditTrail(url, lifecycle=False) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            session.add_all([Composite(a="x", b=number) for number in range(4)])
            session.commit()

        def work(number):
            for turn in range(15):
                try:
                    with factory() as session:
                        row = Composite(a="x", b=number)
                        make_transient_to_detached(row)
                        session.add(row)
                        row.v = f"{turn}"
                        session.commit()
                except Exception as error:
                    failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        changes = [(r, c["v"]) for action, r, c in told(trail) if action == "update"]
        for number in range(4):
            values = [value for resource, value in changes if resource == f"composite:x,{number}"]
            assert values == [(None if turn == 0 else str(turn - 1), str(turn)) for turn in range(15)]
        assert trail.verify().result is Result.UNANCHORED
    engine.dispose()


def test_times_are_those_of_the_flush_and_in_order(session, trail):
    before = datetime.now(UTC)
    session.add_all([Patient(name="a"), Patient(name="b")])
    session.commit()
    times = [event.timestamp for event in events(trail)]
    assert before <= times[0] <= times[1] <= datetime.now(UTC)
