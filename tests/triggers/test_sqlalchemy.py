"""SQLAlchemy's hooks beside the triggers: one change gives one event, with the application's actor."""

import asyncio
from typing import ClassVar

import pytest
from sqlalchemy import Column, ForeignKey, Table, create_engine, delete, event, insert, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker
from sqlalchemy.pool import NullPool

from audit_core.context import end, enter, of_command
from audit_core.errors import BulkForbiddenError
from audit_core.orm.bulk import Bulk
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from audit_core.triggers import Triggers, carry_context, install


class Base(DeclarativeBase):
    pass


links = Table(
    "patient_ward",
    Base.metadata,
    Column("patient_id", ForeignKey("patient.id"), primary_key=True),
    Column("ward_id", ForeignKey("ward.id"), primary_key=True),
)


class Ward(Base):
    __tablename__ = "ward"
    id: Mapped[int] = mapped_column(primary_key=True)


class Patient(Base):
    __tablename__ = "patient"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    wards: Mapped[list[Ward]] = relationship(secondary=links)


class Visit(Base):
    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "visit"}


class Surgery(Visit):
    __tablename__ = "surgery"
    id: Mapped[int] = mapped_column(ForeignKey("visit.id"), primary_key=True)
    room: Mapped[str]
    __mapper_args__: ClassVar = {"polymorphic_identity": "surgery"}


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def engine(db):
    engine = create_engine(db.url.replace("postgresql:", "postgresql+psycopg:"), pool_size=1, max_overflow=0)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        install(connection, ["patient", "ward"])
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(db, engine):
    made = sessionmaker(engine)
    SQLAlchemyAuditor(db.trail, triggers=True).attach(made)
    return made


def told(db):
    return [(e.resource_type, e.action, e.resource_id, e.actor_id) for e in db.events()]


def test_one_change_gives_one_event_whichever_way_it_comes(db, sessions):
    with db.trail.actor("ann"):
        with sessions.begin() as session:
            session.add(Patient(id=1, name="Zoë"))
            session.add(Plain(id=1))
        with sessions.begin() as session:
            session.get(Patient, 1).name = "Zoe"
        with sessions.begin() as session:
            session.execute(update(Patient).values(name="Eve"))
            session.execute(text("UPDATE patient SET name = 'Dan'"))
        with sessions.begin() as session:
            session.execute(insert(Patient), [{"id": 2, "name": "Bob"}])
            session.delete(session.get(Patient, 1))
    assert sorted(told(db)) == sorted(
        [("plain", "create", "1", "ann"), ("patient", "create", "1", "ann")]
        + [("patient", "update", "1", "ann")] * 3
        + [("patient", "create", "2", "ann"), ("patient", "delete", "1", "ann")]
    )


@pytest.mark.parametrize(
    ("work", "told_of"),
    [
        (lambda s: s.execute(insert(Patient), [{"id": 3, "name": "c"}, {"id": 4, "name": "d"}]), "create create"),
        (lambda s: s.execute(insert(Patient).values(id=3, name="c").returning(Patient)).all(), "create"),
        (lambda s: s.execute(upsert(Patient).values(id=1, name="c").on_conflict_do_update("patient_pkey",
         set_={"name": "c"})), "update"),
        (lambda s: s.execute(update(Patient).values(name="c")), "update update"),
        (lambda s: s.execute(update(Patient), [{"id": 1, "name": "c"}]), "update"),
        (lambda s: s.execute(update(Patient.__table__).values(name="c")), "update update"),
        (lambda s: s.execute(delete(Patient).where(Patient.id == 1)), "delete"),
        (lambda s: s.query(Patient).filter_by(id=1).delete(), "delete"),
        (lambda s: s.bulk_save_objects([Patient(id=3, name="c")]), "create"),
        (lambda s: s.bulk_insert_mappings(Patient, [{"id": 3, "name": "c"}]), "create"),
        (lambda s: s.bulk_update_mappings(Patient, [{"id": 1, "name": "c"}]), "update"),
    ],
)  # fmt: skip
def test_a_bulk_statement_is_told_once_by_the_triggers(db, sessions, work, told_of):
    db.run("INSERT INTO patient VALUES (1, 'a'), (2, 'b')")
    with db.trail.actor("ann"), sessions.begin() as session:
        work(session)
    assert [(type, action, actor) for type, action, _, actor in told(db)[2:]] == [
        ("patient", action, "ann") for action in told_of.split()
    ]


def test_a_bulk_statement_on_a_table_without_triggers_is_told_by_the_hooks(db, sessions):
    with db.trail.actor("ann"), sessions.begin() as session:
        session.execute(insert(Plain), [{"id": 1}])
        session.bulk_insert_mappings(Plain, [{"id": 2}])
        session.execute(insert(Patient).values(id=1, name="a"))
        session.execute(insert(Ward).values(id=2))
        session.execute(insert(links).values(patient_id=1, ward_id=2))
    assert sorted(told(db)) == [
        ("patient", "create", "1", "ann"),
        ("patient", "link", "1", "ann"),
        ("plain", "create", "1", "ann"),
        ("plain", "create", "2", "ann"),
        ("ward", "create", "2", "ann"),
    ]


def test_forbidden_bulk_statements_are_refused_on_tables_with_triggers_too(db, engine):
    made = sessionmaker(engine)
    SQLAlchemyAuditor(db.trail, triggers=True, bulk=Bulk(forbid=True)).attach(made)
    with made() as session, pytest.raises(BulkForbiddenError):
        session.execute(delete(Patient))
    with made() as session, pytest.raises(BulkForbiddenError):
        session.bulk_insert_mappings(Patient, [{"id": 3, "name": "c"}])


@pytest.mark.parametrize("chosen_by", ["engine", "search_path"])
def test_the_same_table_in_a_schema_without_triggers_is_told_by_the_hooks(db, sessions, engine, chosen_by):
    db.run("CREATE SCHEMA tenant; CREATE TABLE tenant.patient (LIKE patient INCLUDING ALL)")
    if chosen_by == "engine":
        sessions.configure(bind=engine.execution_options(schema_translate_map={None: "tenant"}))
    with db.trail.actor("ann"):
        with sessions.begin() as session:
            if chosen_by == "search_path":
                session.add(Plain(id=1))  # asks which tables have triggers
        with sessions.begin() as session:
            if chosen_by == "search_path":
                session.execute(text("SET LOCAL search_path = tenant"))
            session.add(Patient(id=1, name="a"))
            session.flush()
            session.execute(update(Patient).values(name="b"))
    assert db.run("SELECT count(*) FROM tenant.patient").fetchone() == (1,)
    assert [one for one in told(db) if one[0] == "patient"] == [
        ("patient", "create", "1", "ann"),
        ("patient", "update", "1", "ann"),
    ]


def test_links_are_told_by_the_hooks(db, sessions):
    with db.trail.actor("ann"), sessions.begin() as session:
        session.add(Patient(id=1, name="Zoë", wards=[Ward(id=2)]))
    assert sorted(told(db)) == [
        ("patient", "create", "1", "ann"),
        ("patient", "link", "1", "ann"),
        ("ward", "create", "2", "ann"),
    ]


def test_nothing_of_an_actor_is_left_on_the_pooled_connection(db, sessions, engine):
    with db.trail.actor("ann"), sessions.begin() as session:
        session.add(Patient(id=1, name="Zoë"))
    with db.trail.actor("eve"), sessions() as session:
        session.add(Patient(id=2, name="never"))
        session.flush()
        session.rollback()
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE patient SET name = 'x'")
    assert told(db) == [("patient", "create", "1", "ann"), ("patient", "update", "1", "postgres")]


def test_the_actor_is_whoever_acts_at_each_statement_of_a_transaction(db, sessions):
    with sessions.begin() as session:
        for name in ("ann", "bob"):
            with db.trail.actor(name):
                session.execute(insert(Ward).values(id=len(name) + ord(name[0])))
        session.execute(insert(Ward).values(id=1))
    assert [actor for _, _, _, actor in told(db)] == ["ann", "bob", "postgres"]


def test_the_command_in_which_it_happens_is_told_too(db, sessions):
    context = of_command("import_patients")
    enter(context)
    with sessions.begin() as session:
        session.add(Patient(id=1, name="Zoë"))
        session.flush()
        session.execute(text("UPDATE patient SET name = 'x'"))
    end(context)
    for one in db.events():
        assert (one.actor_id, one.details["command"]) == (context.actor.id, "import_patients")
        assert "changes" in one.details


@pytest.mark.parametrize("undone", [True, False])
def test_the_actor_is_right_after_a_savepoint(db, sessions, undone):
    with sessions.begin() as session:
        with db.trail.actor("ann"):
            session.execute(insert(Ward).values(id=1))
        savepoint = session.begin_nested()
        with db.trail.actor("bob"):
            session.execute(insert(Ward).values(id=2))
        if undone:
            savepoint.rollback()
        else:
            savepoint.commit()
        with db.trail.actor("ann"):
            session.execute(insert(Ward).values(id=3))
        session.execute(insert(Ward).values(id=4))
    wanted = [("1", "ann"), ("2", "bob"), ("3", "ann"), ("4", "postgres")]
    assert [(id, actor) for _, _, id, actor in told(db)] == [pair for pair in wanted if not (undone and pair[0] == "2")]


def test_a_transaction_that_only_reads_has_no_query_of_ours_and_one_that_writes_has_one(db, sessions, engine):
    seen = []
    with db.trail.actor("ann"):
        with sessions.begin() as session:
            session.add(Patient(id=1, name="first"))  # asks which tables have triggers
        event.listen(engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
        plain = []
        with sessions.begin() as session:
            connection = session.connection().connection.dbapi_connection
            make = connection.cursor_factory
            connection.cursor_factory = counting(make, plain)
            session.get(Patient, 1)
            session.execute(text("WITH a AS (SELECT 1) SELECT * FROM a"))
            assert not [query for query in plain if "set_config" in query]
            session.add(Patient(id=2, name="a"))
            session.flush()
            session.add(Patient(id=3, name="b"))
            session.flush()
            assert len([query for query in plain if "set_config" in query]) == 1
            connection.cursor_factory = make


def counting(cursors, seen):
    class Counting(cursors):
        def execute(self, query, *given, **options):
            seen.append(query)
            return super().execute(query, *given, **options)

    return Counting


def test_the_hooks_tell_again_where_the_triggers_are_gone(db, sessions, monkeypatch):
    monkeypatch.setattr("audit_core.orm.sqlalchemy.triggered.KNOWN_SECONDS", 0.0)
    with sessions.begin() as session:
        session.add(Ward(id=1))
    db.run("ALTER TABLE ward DISABLE TRIGGER audit_create")
    with sessions.begin() as session:
        session.add(Ward(id=2))
    triggers = Triggers(db.connection)
    triggers.run(triggers.drop_sql())
    with sessions.begin() as session:
        session.add(Ward(id=3))
    assert [id for _, _, id, _ in told(db)] == ["1", "2", "3"]


def test_an_async_session_tells_who_acts(db, engine):
    async def work():
        place, _, host = db.url.partition("?host=")
        url = f"{place}?host={host}".replace("postgresql:", "postgresql+asyncpg:")
        there = create_async_engine(url, poolclass=NullPool)
        made = async_sessionmaker(there)
        SQLAlchemyAuditor(db.trail, triggers=True).attach(made)
        with db.trail.actor("Zoë"):
            async with made.begin() as session:
                session.add(Patient(id=1, name="Ann"))
        await there.dispose()

    asyncio.run(work())
    assert told(db) == [("patient", "create", "1", "Zoë")]


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (["visit"], {("visit", "create"), ("surgery", "create")}),  # the trigger's row, and the hooks' object
        (["visit", "surgery"], {("visit", "create"), ("surgery", "create")}),  # a row of each table
        ([], {("surgery", "create")}),  # the object
    ],
)
def test_an_inherited_object_is_left_to_the_triggers_only_if_all_of_its_tables_have_them(
    db, engine, sessions, tables, expected
):
    if tables:
        with engine.begin() as connection:
            install(connection, tables)
    with sessions.begin() as session:
        session.add(Surgery(id=1, room="3"))
    events = [event for event in db.events() if event.resource_type in {"visit", "surgery"}]
    assert {(event.resource_type, event.action) for event in events} == expected
    assert len(events) == len(expected)
    of_surgery = next(event for event in events if event.resource_type == "surgery")
    by_hooks = "kind" in of_surgery.details["changes"]  # they know the fields of both tables
    assert by_hooks == (len(tables) < 2)


def test_who_acts_is_carried_on_a_connection_or_session_of_sqlalchemy_too(db, engine):
    def work(connection, key):
        with db.trail.actor("ann"):
            carry_context(connection)
        connection.execute(text(f"INSERT INTO patient VALUES ({key}, 'a')"))

    with engine.begin() as connection:
        work(connection, 1)
    with sessionmaker(engine).begin() as session:
        work(session, 2)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO patient VALUES (3, 'a')"))
    login = engine.url.username or "postgres"
    assert told(db) == [("patient", "create", "1", "ann"), ("patient", "create", "2", "ann"),
                        ("patient", "create", "3", login)]  # fmt: skip
