"""SQLAlchemy's changes on PostgreSQL, whichever driver carries them."""

import asyncio

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.postgres.apps import Base, Patient
from tests.postgres.server import as_role, new_database


@pytest.fixture
def trail(state):
    with AuditTrail(new_database(), lifecycle=False) as trail:
        yield trail


def engine_of(url, driver):
    return create_engine(url.replace("postgresql:", f"postgresql+{driver}:"), poolclass=NullPool)


@pytest.fixture(params=["psycopg", "psycopg2"])
def sessions(trail, request):
    engine = engine_of(trail.url, request.param)
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    SQLAlchemyAuditor(trail).attach(factory)
    return factory


def changes(trail):
    trail.flush()
    found = [event for event in trail.events(newest_first=False) if event.action != "log.created"]
    return [(event.action, event.details["changes"].get("name")) for event in found]


def test_a_change_and_its_event_commit_together(trail, sessions):
    with sessions.begin() as session:
        session.add(Patient(id=1, name="Zoë"))
    with sessions.begin() as session:
        session.get(Patient, 1).name = "Łukasz"
    with sessions() as session:
        session.get(Patient, 1).name = "never"
        session.flush()
        session.rollback()
    with sessions.begin() as session:
        session.delete(session.get(Patient, 1))
    assert changes(trail) == [
        ("create", {"old": None, "new": "Zoë"}),
        ("update", {"old": "Zoë", "new": "Łukasz"}),
        ("delete", {"old": "Łukasz", "new": None}),
    ]


def test_a_savepoint_takes_its_events_with_it_and_no_others(trail, sessions):
    with sessions.begin() as session:
        session.add(Patient(id=1, name="kept"))
        session.flush()
        with session.begin_nested() as savepoint:
            session.add(Patient(id=2, name="undone"))
            session.flush()
            savepoint.rollback()
    assert changes(trail) == [("create", {"old": None, "new": "kept"})]


def test_an_error_of_the_application_stays_its_own(trail, sessions):
    with sessions.begin() as session:
        session.add(Patient(id=1, name="first"))
    with pytest.raises(DBAPIError, match="duplicate key"), sessions.begin() as session:
        session.add(Patient(id=1, name="second"))
    assert len(changes(trail)) == 1


def test_a_change_whose_event_cannot_be_written_does_not_commit(trail, sessions):
    with sessions.begin() as session:
        session.execute(text("ALTER TABLE audit.audit_outbox RENAME TO elsewhere"))
    with pytest.raises(ConfigurationError, match="audit_outbox"), sessions.begin() as session:
        session.add(Patient(id=1, name="lost"))
    with sessions.begin() as session:
        session.execute(text("ALTER TABLE audit.elsewhere RENAME TO audit_outbox"))
        assert session.query(Patient).all() == []


def test_a_database_that_the_trail_does_not_drain_says_so_before_an_event_is_lost(trail):
    other = new_database()
    engine = engine_of(other, "psycopg")
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    SQLAlchemyAuditor(trail).attach(factory)
    named = rf"in postgresql://\S*/{engine.url.database}, which .* outbox=\["
    with pytest.raises(ConfigurationError, match=named), factory.begin() as session:
        session.add(Patient(id=1, name="Ann"))


def test_changes_in_a_further_database_come_into_the_trail(state):
    other = new_database()
    with AuditTrail(new_database(), outbox=other, lifecycle=False) as trail:
        engine = engine_of(other, "psycopg")
        Base.metadata.create_all(engine)
        factory = sessionmaker(engine)
        SQLAlchemyAuditor(trail).attach(factory)
        with factory.begin() as session:
            session.add(Patient(id=1, name="Ann"))
        assert changes(trail) == [("create", {"old": None, "new": "Ann"})]
        assert trail.chain.verify().findings == ()


def test_the_application_needs_no_more_than_insert(trail):
    trail.store.database.run("postgres_roles.sql")
    engine = engine_of(trail.url, "psycopg")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("GRANT INSERT, SELECT ON patient TO audit_application"))
    url = as_role(trail.url, "audit_application")
    with AuditTrail(url, lifecycle=False) as limited:
        factory = sessionmaker(engine_of(url, "psycopg"))
        SQLAlchemyAuditor(limited).attach(factory)
        with factory.begin() as session:
            session.add(Patient(id=1, name="Ann"))
    assert changes(trail) == [("create", {"old": None, "new": "Ann"})]


def test_an_async_session_carries_its_events_on_asyncpg(trail):
    asyncio.run(_work_async(trail))
    assert changes(trail) == [
        ("create", {"old": None, "new": "Zoë"}),
        ("update", {"old": "Zoë", "new": "Łukasz"}),
    ]


async def _work_async(trail):
    host = trail.url.partition("?host=")
    engine = create_async_engine(f"{host[0]}?host={host[2]}".replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    factory = async_sessionmaker(engine, class_=AsyncSession)
    SQLAlchemyAuditor(trail).attach(factory)
    async with factory.begin() as session:
        session.add(Patient(id=1, name="Zoë"))
    async with factory.begin() as session:
        (await session.get(Patient, 1)).name = "Łukasz"
        await session.flush()
        savepoint = await session.begin_nested()
        session.add(Patient(id=2, name="undone"))
        await session.flush()
        await savepoint.rollback()
    await engine.dispose()
