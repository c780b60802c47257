"""Statements that a session executes: each row they write is told, and their caller sees nothing of it."""

import asyncio
import itertools

import pytest
from sqlalchemy import (
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    column,
    create_engine,
    delete,
    event,
    func,
    insert,
    lambda_stmt,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, PendingRollbackError, ResourceClosedError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    registry,
    sessionmaker,
    with_loader_criteria,
)

from audit_core import AuditTrail
from audit_core.errors import BulkForbiddenError, ConfigurationError, StoreUnavailableError
from audit_core.orm.bulk import Bulk
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor, written
from tests.orm.models import (
    Base,
    Composite,
    Doctor,
    Lazy,
    Note,
    Nurse,
    Patient,
    Person,
    Stock,
    Token,
    Versioned,
    events,
    statements,
    told,
)


@pytest.fixture
def patients(session):
    session.add_all([Patient(id=number, name=name, ward="w") for number, name in enumerate("abc", start=1)])
    session.commit()
    return session


def upsert(session, model):
    kind = {"sqlite": sqlite, "postgresql": postgresql}[session.get_bind().dialect.name]
    return kind.insert(model)


def new(trail, count):
    """What was told after the first ``count`` events, in the order of the resources."""
    return sorted(told(trail, count), key=lambda change: change[1])


def wards(*changes):
    return [("update", f"patient:{number}", {"ward": change}) for number, change in changes]


# --- INSERT


def test_an_insert_of_one_row_tells_it_and_its_generated_key(session, trail):
    result = session.execute(insert(Patient).values(name="Ann"))
    assert result.inserted_primary_key == (1,)
    assert result.rowcount == 1
    session.commit()
    assert told(trail) == [("create", "patient:1", {"id": (None, 1), "name": (None, "Ann")})]


ROWS = [{"name": "a"}, {"name": "b", "ward": "x"}]


@pytest.mark.parametrize(
    "run",
    [
        lambda session: session.execute(insert(Patient), ROWS),
        lambda session: session.execute(insert(Patient).values([{"ward": None, **row} for row in ROWS])),
        lambda session: session.execute(Patient.__table__.insert(), [{"ward": None, **row} for row in ROWS]),
        lambda session: session.bulk_insert_mappings(Patient, ROWS),
        lambda session: session.bulk_save_objects([Patient(**row) for row in ROWS]),
        lambda session: session.bulk_save_objects([Patient(**row) for row in ROWS], return_defaults=True),
    ],
)
def test_an_insert_of_many_rows_is_one_event_each(session, trail, run):
    run(session)
    session.commit()
    assert told(trail) == [
        ("create", "patient:1", {"id": (None, 1), "name": (None, "a")}),
        ("create", "patient:2", {"id": (None, 2), "name": (None, "b"), "ward": (None, "x")}),
    ]


def test_a_bulk_insert_leaves_the_callers_objects_as_they_were(session, trail):
    rows, objects = [dict(row) for row in ROWS], [Patient(name="c")]
    session.bulk_insert_mappings(Patient, rows)
    session.bulk_save_objects(objects)
    assert rows == ROWS
    assert objects[0].id is None
    assert objects[0] not in session
    session.bulk_insert_mappings(Patient, rows, return_defaults=True)
    assert [row["id"] for row in rows] == [4, 5]


def test_an_insert_resolves_what_the_database_computes(session, trail):
    session.execute(insert(Stock).values(size=3, state=func.lower("OLD")))
    session.execute(insert(Lazy), [{"name": "x"}])
    session.execute(insert(Token).values(name="t"))
    session.commit()
    changes = {resource: change for _, resource, change in told(trail)}
    assert (changes["stock:1"]["double"], changes["stock:1"]["state"]) == ((None, 6), (None, "old"))
    assert changes["lazy:1"]["state"] == (None, "new")
    assert "token:00000000-0000-0000-0000-000000000005" in changes


def test_an_insert_from_a_select_tells_each_row(patients, trail):
    source = select(Patient.id + 10, Patient.name + "!", Patient.ward).where(Patient.id > 1)
    patients.execute(insert(Patient).from_select(["id", "name", "ward"], source))
    patients.commit()
    assert sorted(change["name"] for _, _, change in told(trail, 3)) == [(None, "b!"), (None, "c!")]


def test_returning_gives_the_caller_what_he_asked_for_and_no_more(session, trail):
    both = session.scalars(insert(Patient).returning(Patient, sort_by_parameter_order=True), ROWS).all()
    assert [(type(one), one.name, one in session) for one in both] == [(Patient, "a", True), (Patient, "b", True)]
    row = session.execute(insert(Patient).values(name="c").returning(Patient.id, Patient.name)).one()
    assert (tuple(row), row.name, row._mapping[Patient.id]) == ((3, "c"), "c", 3)
    table = Patient.__table__
    row = session.execute(table.insert().values(name="d").returning(table.c.id)).one()
    assert (tuple(row), row._mapping[table.c.id]) == ((4,), 4)
    assert session.scalar(update(Patient).where(Patient.id == 4).values(name="e").returning(Patient.name)) == "e"
    one = session.scalars(update(Patient).where(Patient.id == 4).values(name="f").returning(Patient)).one()
    assert one is session.get(Patient, 4)
    assert session.execute(delete(Patient).where(Patient.id == 4).returning(Patient.name)).all() == [("f",)]
    star = session.execute(update(table).where(table.c.id == 3).values(ward="x").returning(text("*"))).one()
    assert (star.id, star.ward, len(star)) == (3, "x", 4)
    session.commit()
    assert [(action, resource) for action, resource, _ in told(trail)] == [
        *[("create", f"patient:{number}") for number in (1, 2, 3, 4)],
        *[("update", "patient:4")] * 2,
        ("delete", "patient:4"),
        ("update", "patient:3"),
    ]


def test_a_statement_without_returning_has_a_result_without_rows(patients):
    for statement in (insert(Patient).values(id=7, name="d"), update(Patient).values(ward="x"), delete(Patient)):
        result = patients.execute(statement)
        assert not result.returns_rows
        assert not result.closed
        with pytest.raises(ResourceClosedError, match="does not return rows"):
            result.all()


def test_rows_that_are_given_by_position(session, trail):
    session.execute(Composite.__table__.insert().values([("x", 1, "v"), ("y", 2, None)]))
    session.execute(upsert(session, Composite).values(("z", 1, "w")))
    session.commit()
    assert [resource for _, resource, _ in told(trail)] == ["composite:x,1", "composite:y,2", "composite:z,1"]


def test_entities_from_an_insert_statement(session, trail):
    inserted = insert(Patient).values(name="a").returning(Patient)
    assert session.scalars(select(Patient).from_statement(inserted)).one() is session.get(Patient, 1)
    updated = update(Patient).values(name="b").returning(Patient)
    assert session.scalars(select(Patient).from_statement(updated)).one() is session.get(Patient, 1)
    session.commit()
    assert told(trail) == [
        ("create", "patient:1", {"id": (None, 1), "name": (None, "a")}),
        ("update", "patient:1", {"name": ("a", "b")}),
    ]


# --- UPDATE and DELETE by a condition


def test_an_update_has_old_and_new_values_of_each_row_that_it_changes(patients, trail):
    result = patients.execute(update(Patient).where(Patient.id <= 2).values(ward=func.upper(Patient.name)))
    assert result.rowcount == 2
    patients.commit()
    assert new(trail, 3) == wards((1, ("w", "A")), (2, ("w", "B")))


def test_a_delete_has_the_old_values_of_each_row(patients, trail):
    assert patients.execute(delete(Patient).where(Patient.id > 1)).rowcount == 2
    patients.commit()
    assert new(trail, 3) == [
        ("delete", "patient:2", {"id": (2, None), "name": ("b", None), "ward": ("w", None)}),
        ("delete", "patient:3", {"id": (3, None), "name": ("c", None), "ward": ("w", None)}),
    ]


def test_a_statement_that_matches_or_changes_nothing_leaves_no_event(patients, trail):
    patients.execute(update(Patient).where(Patient.id == 9).values(ward="x"))
    patients.execute(update(Patient).values(ward="w"))
    patients.execute(delete(Patient).where(Patient.id == 9))
    patients.commit()
    assert len(told(trail)) == 3


def test_the_legacy_query_is_told_too(patients, trail):
    assert patients.query(Patient).filter(Patient.id == 1).update({Patient.ward: "x"}) == 1
    assert patients.query(Patient).filter_by(id=2).delete() == 1
    patients.commit()
    assert [(action, resource) for action, resource, _ in told(trail, 3)] == [
        ("update", "patient:1"),
        ("delete", "patient:2"),
    ]


def test_core_statements_on_a_mapped_table_are_told_too(patients, trail):
    table = Patient.__table__
    patients.execute(table.update().where(table.c.id == bindparam("which")), {"which": 1, "ward": "x"})
    many = [{"which": 2, "ward": "y"}, {"which": 3, "ward": "z"}]
    patients.execute(table.update().where(table.c.id == bindparam("which")), many)
    patients.commit()
    assert new(trail, 3) == wards((1, ("w", "x")), (2, ("w", "y")), (3, ("w", "z")))
    patients.execute(table.delete().where(table.c.id == bindparam("which")), [{"which": 2}, {"which": 3}])
    patients.commit()
    assert [(action, resource) for action, resource, _ in new(trail, 6)] == [
        ("delete", "patient:2"),
        ("delete", "patient:3"),
    ]


def test_columns_that_an_update_changes_by_itself_are_told(session, trail):
    session.add(Stock())
    session.commit()
    session.execute(update(Stock).values(size=Stock.size + 1))
    session.commit()
    assert told(trail, 1)[0][2] == {
        "size": (1, 2),
        "double": (2, 4),
        "touched": (None, 7),
        "stamped": (None, "stamp"),
    }


def test_a_key_that_a_statement_changes(patients, trail):
    patients.execute(update(Patient).values(id=Patient.id + 100, ward=Patient.name))
    patients.commit()
    assert new(trail, 3) == [
        ("update", f"patient:{number + 100}", {"id": (number, number + 100), "ward": ("w", name)})
        for number, name in enumerate("abc", start=1)
    ]


@pytest.mark.parametrize(
    ("values", "sets"),
    [
        ({"id": bindparam("new")}, [{"old": 1, "new": 11}, {"old": 2, "new": 12}]),
        ({}, [{"old": 1, "id": 11}, {"old": 2, "id": 12}]),
    ],
)
def test_keys_that_a_statement_with_several_sets_of_parameters_changes_are_summed_up(patients, trail, values, sets):
    table = Patient.__table__
    statement = table.update().where(table.c.id == bindparam("old"))
    patients.execute(statement.values(values) if values else statement, sets)
    patients.commit()
    assert set(patients.scalars(select(Patient.id))) == {11, 12, 3}
    (event,) = events(trail)[3:]
    assert (event.action, event.resource_type, event.details["bulk"]["rows"]) == ("update", "patient", 2)


def test_objects_of_the_session_are_synchronised_as_without_us(patients, trail):
    for how in ("evaluate", "fetch", "auto"):
        patient = patients.get(Patient, 1)
        patients.execute(
            update(Patient).where(Patient.id == 1).values(ward=how), execution_options={"synchronize_session": how}
        )
        assert patient.__dict__["ward"] == how
    stock = Stock()
    patients.add(stock)
    patients.flush()
    assert stock.stamped is None
    patients.execute(update(Stock).values(size=5))
    assert (stock.size, stock.stamped, stock.double) == (5, "stamp", 10)
    patients.execute(delete(Patient).where(Patient.id == 1))
    assert patient not in patients


def test_a_pending_change_is_flushed_before_the_statement_reads_old_values(patients, trail):
    patients.get(Patient, 1).ward = "pending"
    patients.execute(update(Patient).where(Patient.id == 1).values(ward="x"))
    patients.commit()
    assert told(trail, 3) == wards((1, ("w", "pending")), (1, ("pending", "x")))


def test_a_statement_flushes_once_as_it_does_without_capture(factory, patients):
    ids, flushes = itertools.count(10), []

    @event.listens_for(factory, "after_flush")
    def leave_work_for_the_next_flush(session, _):
        flushes.append(session)
        session.add(Patient(id=next(ids), name="later", ward="w"))

    for statement in (update(Patient).values(ward="x"), delete(Note), insert(Patient).values(id=99, name="i")):
        flushes.clear()
        patients.add(Patient(id=next(ids), name="now", ward="w"))
        patients.execute(statement)
        assert len(flushes) == 1


def test_a_listener_may_keep_pending_changes_from_being_flushed(factory, patients, trail):
    event.listen(factory, "do_orm_execute", lambda state: state.update_execution_options(autoflush=False))
    patient = patients.get(Patient, 1)
    patient.name = "pending"
    patients.execute(update(Patient).where(Patient.id == 2).values(ward="x"))
    assert patient in patients.dirty


def test_a_condition_on_other_tables_tells_each_row_once(patients, trail):
    patients.add_all([Note(patient_id=1, text="n"), Note(patient_id=1, text="n"), Note(patient_id=2, text="m")])
    patients.commit()
    patients.execute(update(Patient).where(Patient.id == Note.patient_id, Note.text == "n").values(ward="x"))
    patients.execute(delete(Note).where(Note.patient_id.in_(select(Patient.id).where(Patient.ward == "w"))))
    patients.commit()
    assert [(action, resource) for action, resource, _ in told(trail, 6)] == [
        ("update", "patient:1"),
        ("delete", "note:3"),
    ]


def test_delete_using_another_table(patients, trail):
    if patients.get_bind().dialect.name == "sqlite":
        pytest.skip("SQLite has no DELETE ... USING")
    patients.add_all([Note(patient_id=1, text="n"), Note(patient_id=2, text="m")])
    patients.commit()
    patients.execute(delete(Note).where(Note.patient_id == Patient.id, Patient.name == "b"))
    patients.commit()
    assert [(action, resource) for action, resource, _ in told(trail, 5)] == [("delete", "note:2")]


def test_an_alias_is_the_class_that_it_stands_for(patients, trail):
    other = aliased(Patient)
    patients.execute(update(other).where(other.id == 1).values(ward="x"))
    patients.commit()
    assert told(trail, 3) == wards((1, ("w", "x")))


def test_criteria_that_are_added_to_a_class_hold_for_what_is_told(patients, trail):
    only = with_loader_criteria(Patient, Patient.id == 2)
    patients.execute(update(Patient).values(ward="x").options(only))
    patients.commit()
    assert told(trail, 3) == wards((2, ("w", "x")))


def test_criteria_that_a_listener_adds_later_hold_too(factory, patients, trail):
    @event.listens_for(factory, "do_orm_execute")
    def limit_all(state):
        if state.is_update:
            state.statement = state.statement.options(with_loader_criteria(Patient, Patient.id == 3))

    patients.execute(update(Patient).values(ward="x"))
    patients.commit()
    assert told(trail, 3) == wards((3, ("w", "x")))


def test_a_condition_that_writes_is_not_carried_out_twice(patients, trail):
    if patients.get_bind().dialect.name == "sqlite":
        pytest.skip("SQLite has no such condition")
    moved = insert(Composite).values(a="x", b=1).returning(Composite.b).cte()
    patients.execute(update(Patient).where(Patient.id.in_(select(moved.c.b))).values(ward="x"))
    patients.commit()
    assert patients.scalars(select(Composite.a)).all() == ["x"]
    assert events(trail)[3].details["bulk"]["rows"] == 1


def test_a_statement_in_a_lambda_is_told(patients, trail):
    patients.execute(lambda_stmt(lambda: update(Patient).where(Patient.id == 1).values(ward="x")))
    patients.commit()
    assert told(trail, 3) == wards((1, ("w", "x")))


def test_a_row_that_somebody_adds_meanwhile_is_told_with_what_was_written(patients, trail, engine):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite lets nobody write meanwhile")
    added = []

    @event.listens_for(engine, "before_cursor_execute")
    def add(connection, cursor, statement, *rest):
        if statement.startswith("UPDATE patient") and not added:
            added.append(9)
            with Session(engine) as other:
                other.execute(text("INSERT INTO patient (id, name, ward) VALUES (9, 'z', 'w')"))
                other.commit()

    patients.execute(update(Patient).where(Patient.id > 2).values(ward="x"))
    patients.commit()
    assert new(trail, 3) == wards((3, ("w", "x")), (9, (None, "x")))


def test_another_schema_is_read_where_the_statement_writes(patients, trail):
    if patients.get_bind().dialect.name == "sqlite":
        pytest.skip("SQLite has one schema for each file")
    there = {"execution_options": {"schema_translate_map": {None: "tenant"}}}
    patients.execute(text("CREATE SCHEMA tenant"))
    patients.execute(text("CREATE TABLE tenant.patient (LIKE patient INCLUDING ALL)"))
    patients.execute(insert(Patient), [{"id": 1, "name": "other", "ward": "v"}], **there)
    patients.execute(update(Patient).values(ward="x"), **there)
    patients.execute(update(Patient), [{"id": 1, "ward": "y"}], **there)
    patients.execute(delete(Patient), **there)
    patients.execute(update(Patient).where(Patient.id == 1).values(ward="z"))
    patients.commit()
    assert told(trail, 4)[:2] == wards((1, ("v", "x")), (1, ("x", "y")))
    assert told(trail, 7) == wards((1, ("w", "z")))


def test_a_secret_in_a_condition_that_is_text_is_not_told(engine, trail):
    with limited(engine, trail, limit=0) as session:
        session.execute(insert(Patient), [{"name": "a"}])
        session.execute(update(Patient).where(text("password IS NULL OR password = 'hunter2'")).values(ward="x"))
        session.commit()
    assert "hunter2" not in str([one.details for one in events(trail)])
    assert [one.action for one in events(trail)] == ["create", "update"]


def test_a_database_without_returning_is_read_before_and_after(patients, trail, engine, monkeypatch):
    for kind in ("insert_returning", "insert_executemany_returning", "update_returning", "delete_returning"):
        monkeypatch.setattr(engine.dialect, kind, False)
    patients.execute(update(Patient).where(Patient.id > 1).values(ward=func.upper(Patient.name)))
    patients.execute(delete(Patient).where(Patient.id == 3))
    patients.execute(insert(Patient).values(id=9, name="z"))
    patients.commit()
    assert [(one.action, one.details.get("bulk")) for one in events(trail)[3:]] == [
        ("update", None),
        ("update", None),
        ("delete", None),
        ("create", {"rows": 1}),
    ]


def test_a_table_that_forbids_implicit_returning_is_told_too(session, engine, trail):
    table = Table(
        "quiet",
        mappings := MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String(9)),
        implicit_returning=False,
    )
    quiet = registry()
    mapper = quiet.map_imperatively(type("Quiet", (), {}), table)  # which nothing else keeps
    mappings.create_all(engine)
    session.execute(insert(table), [{"id": 1, "name": "a"}])
    assert session.execute(update(table).values(name="b")).rowcount == 1
    assert session.execute(delete(table)).rowcount == 1
    session.commit()
    assert told(trail) == [
        ("create", "quiet:1", {"id": (None, 1), "name": (None, "a")}),
        ("update", "quiet:1", {"name": ("a", "b")}),
        ("delete", "quiet:1", {"id": (1, None), "name": ("b", None)}),
    ]
    assert mapper.local_table is table
    quiet.dispose()


def test_a_result_that_a_listener_gives_is_the_callers(factory, patients, trail):
    event.listen(factory, "do_orm_execute", lambda state: state.is_delete and patients.execute(text("SELECT 42")))
    assert patients.execute(delete(Patient)).scalar() == 42
    patients.commit()
    assert len(told(trail)) == 3


# --- Inheritance


def test_rows_are_told_as_the_class_that_they_are(session, trail):
    session.add_all([Doctor(name="d", field="f"), Nurse(name="n", shift="s")])
    session.commit()
    session.execute(update(Person).values(name="x"))
    session.execute(update(Nurse).values(shift="t"))
    session.execute(update(Doctor).where(Doctor.id == 1).values(field="g"))
    session.execute(delete(Nurse))
    session.commit()
    assert sorted(told(trail, 2)[:2]) == [
        ("update", "doctor:1", {"name": ("d", "x")}),
        ("update", "nurse:2", {"name": ("n", "x")}),
    ]
    assert told(trail, 4) == [
        ("update", "nurse:2", {"shift": ("s", "t")}),
        ("update", "doctor:1", {"field": ("f", "g")}),
        ("delete", "nurse:2", {"id": (2, None), "kind": ("nurse", None), "name": ("x", None), "shift": ("t", None)}),
    ]


@pytest.mark.parametrize(
    "run",
    [
        lambda session, rows: session.execute(insert(Doctor), rows),
        lambda session, rows: session.scalars(insert(Doctor).returning(Doctor), rows).all(),
        lambda session, rows: session.bulk_insert_mappings(Doctor, rows),
        lambda session, rows: session.bulk_save_objects([Doctor(**row) for row in rows]),
    ],
)
def test_a_bulk_insert_into_several_tables_is_one_event_for_each_object(session, trail, run):
    run(session, [{"name": "a", "field": "f"}, {"name": "b", "field": "g"}])
    session.commit()
    assert [(resource, change["name"], change["field"]) for _, resource, change in told(trail)] == [
        ("doctor:1", (None, "a"), (None, "f")),
        ("doctor:2", (None, "b"), (None, "g")),
    ]


# --- By primary key


@pytest.mark.parametrize(
    "run",
    [
        lambda session, rows: session.execute(update(Patient), rows),
        lambda session, rows: session.bulk_update_mappings(Patient, rows),
    ],
)
def test_a_bulk_update_by_key_has_old_and_new_values(patients, trail, engine, run):
    seen = statements(engine)
    run(patients, [{"id": 1, "ward": "x"}, {"id": 3, "ward": "y"}])
    assert len([statement for statement in seen if statement.startswith("SELECT")]) == 2  # before and after
    patients.commit()
    assert told(trail, 3) == wards((1, ("w", "x")), (3, ("w", "y")))


def test_a_bulk_update_of_several_tables_is_one_event_for_each_object(session, trail):
    session.add(Doctor(name="d", field="f"))
    session.commit()
    session.execute(update(Doctor), [{"id": 1, "name": "e", "field": "g"}])
    session.bulk_update_mappings(Person, [{"id": 1, "name": "h"}])
    session.commit()
    assert told(trail, 1) == [
        ("update", "doctor:1", {"name": ("d", "e"), "field": ("f", "g")}),
        ("update", "doctor:1", {"name": ("e", "h")}),
    ]


def test_a_version_that_a_bulk_update_counts_up_is_told(session, trail):
    session.execute(insert(Versioned), [{"name": "v", "version": 1}])
    session.bulk_update_mappings(Versioned, [{"id": 1, "name": "w", "version": 1}])
    session.commit()
    assert told(trail, 1) == [("update", "versioned:1", {"name": ("v", "w"), "version": (1, 2)})]


# --- Upserts


def test_an_upsert_tells_what_it_creates_and_what_it_updates(session, trail):
    session.execute(insert(Composite).values(a="x", b=1, v="old"))
    session.commit()
    rows = [{"a": "x", "b": 1, "v": "new"}, {"a": "y", "b": 1, "v": "new"}]
    statement = upsert(session, Composite)
    statement = statement.on_conflict_do_update(index_elements=["a", "b"], set_={"v": statement.excluded.v})
    session.execute(statement, rows)
    session.execute(statement.values([{"a": "x", "b": 1, "v": "newer"}]))
    source = select(Composite.a, Composite.b, Composite.v + "!").where(Composite.a == "x")
    session.execute(statement.from_select(["a", "b", "v"], source))
    session.commit()
    assert told(trail, 1) == [
        ("update", "composite:x,1", {"v": ("old", "new")}),
        ("create", "composite:y,1", {"a": (None, "y"), "b": (None, 1), "v": (None, "new")}),
        ("update", "composite:x,1", {"v": ("new", "newer")}),
        ("update", "composite:x,1", {"v": ("newer", "newer!")}),
    ]


@pytest.mark.parametrize(
    ("values", "parameters"),
    [
        ({"id": 1, "name": "new"}, {}),
        ({Patient.id: literal(1), "name": func.lower("NEW")}, {}),
        ({"id": 1, "name": select(literal("new")).scalar_subquery()}, {}),
        ({"id": bindparam("key"), "name": bindparam("text")}, {"key": 1, "text": "new"}),
        ({"id": bindparam("key", 1), "name": "new"}, {}),
        ({"id": bindparam("key", callable_=lambda: 1), "name": "new"}, {}),
    ],
)
def test_an_upsert_of_one_row_however_its_values_are_given(session, trail, values, parameters):
    session.add(Patient(id=1, name="old"))
    session.commit()
    statement = upsert(session, Patient).values(values)
    session.execute(
        statement.on_conflict_do_update(index_elements=[Patient.id], set_={"name": statement.excluded.name}), parameters
    )
    session.commit()
    assert told(trail, 1) == [("update", "patient:1", {"name": ("old", "new")})]


@pytest.fixture
def account(engine):
    class Own(DeclarativeBase):
        pass

    class Account(Own):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None]
        email: Mapped[str | None]
        code: Mapped[str | None]
        nick: Mapped[str | None]
        badge: Mapped[str | None]
        visits: Mapped[int] = mapped_column(default=0)
        tenant: Mapped[str] = mapped_column(default="main")
        zone: Mapped[int] = mapped_column(server_default="7")
        __table_args__ = (UniqueConstraint("tenant", "code"), UniqueConstraint("zone", "name"))

    Index("account_email", func.lower(Account.__table__.c.email), unique=True)
    Index("account_badge", Account.__table__.c.badge.desc(), unique=True)
    Own.metadata.create_all(engine)
    with engine.begin() as connection:
        if engine.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE account ADD CONSTRAINT account_nick UNIQUE (nick)")
    yield Account
    Own.registry.dispose()


@pytest.mark.parametrize(
    ("given", "conflict"),
    [
        ({"code": "c"}, {"index_elements": ["tenant", "code"]}),
        ({"name": "n"}, {"index_elements": ["zone", "name"]}),
        ({"email": "ADA"}, {"index_elements": [func.lower(column("email"))]}),
        ({"email": "ADA"}, {"index_elements": [text("lower(email)")]}),
        ({"nick": "k"}, {"constraint": "account_nick"}),
        ({"badge": "b"}, {"index_elements": ["badge"]}),
    ],
    ids=["default", "server default", "expression", "text", "constraint", "descending"],
)
def test_an_upsert_finds_what_is_in_its_way_by_what_it_does_not_say(session, trail, account, given, conflict):
    if "constraint" in conflict and session.get_bind().dialect.name == "sqlite":
        pytest.skip("SQLite names none here")
    session.add(account(id=1, name="n", email="Ada", code="c", nick="k", badge="b"))
    session.commit()
    more = {"visits": account.visits + 1}
    statement = upsert(session, account).on_conflict_do_update(set_=more, **conflict)
    session.execute(statement, [given, {name: f"another {value}" for name, value in given.items()}])
    session.execute(statement.values(**given))
    source = select(*(getattr(account, name) for name in given)).where(account.id == 1)
    session.execute(statement.from_select(list(given), source))
    session.commit()
    changes = told(trail, 1)
    assert [(action, resource) for action, resource, _ in changes if action == "create"] == [("create", "account:2")]
    assert [change for action, _, change in changes if action == "update"] == [
        {"visits": (0, 1)},
        {"visits": (1, 2)},
        {"visits": (2, 3)},
    ]


@pytest.fixture
def rows_read(monkeypatch):
    """The keys of the rows that an upsert reads and locks."""
    found, look = [], written.rows_in_the_way

    def looking(*arguments):
        rows = look(*arguments)
        found.append(sorted(rows))
        return rows

    monkeypatch.setattr(written, "rows_in_the_way", looking)
    return found


@pytest.fixture
def address(engine):
    class Own(DeclarativeBase):
        pass

    class Address(Own):
        __table__ = Table(
            "address",
            Own.metadata,
            Column("id", Integer, primary_key=True),
            Column("postal_code", String, key="code", unique=True),
            Column("email", String),
            Column("gone", Integer),
            Column("first", Integer, default=0),
            Column("hidden", String, unique=True),
            Column("n", Integer, default=0),
        )
        __mapper_args__ = {"exclude_properties": ["hidden"]}  # noqa: RUF012 - as mappings are written

    columns = Address.__table__.c
    some = {f"{kind}_where": text("gone IS NULL") for kind in ("sqlite", "postgresql")}
    Index("address_email", columns.email, unique=True, **some)
    some = {f"{kind}_where": columns["first"] == 1 for kind in ("sqlite", "postgresql")}
    Index("address_first", columns["first"], unique=True, **some)
    Own.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": number, "code": f"c{number}", "email": "a", "gone": number} for number in range(1, 9)]
        connection.execute(insert(Address.__table__), rows)
        connection.execute(insert(Address.__table__).values(id=9, code="c9", email="a", first=1, hidden="h"))
    yield Address
    Own.registry.dispose()


def test_an_upsert_names_a_column_as_the_database_does(session, trail, address):
    statement = upsert(session, address.__table__).values(code="c3")
    for elements in (["postal_code"], [column("postal_code")]):
        session.execute(statement.on_conflict_do_update(index_elements=elements, set_={"n": address.n + 1}))
    session.commit()
    assert told(trail) == [("update", "address:3", {"n": change}) for change in ((0, 1), (1, 2))]


def test_an_upsert_by_a_column_that_the_mapping_leaves_out_is_carried_out(session, trail, address):
    statement = upsert(session, address.__table__).values(id=9, hidden="h")
    session.execute(statement.on_conflict_do_update(index_elements=["hidden"], set_={"n": 1}))
    session.commit()
    assert told(trail) == [("update", "address:9", {"n": (0, 1)})]


def test_an_upsert_reads_and_locks_no_row_but_the_one_in_its_way(session, trail, address, rows_read):
    statement = upsert(session, address).values(code="c1", email="b")
    session.execute(statement.on_conflict_do_update(index_elements=[address.code], set_={"n": 1}))
    assert rows_read == [[(1,)]]


def test_an_upsert_by_a_partial_index_finds_the_row_that_it_is_about(session, trail, address, rows_read):
    table, where = address.__table__.c, address.gone.is_(None)
    change = {"n": address.n + 1}
    for index_where in (where, text("gone IS NULL")):
        statement = upsert(session, address).values(code="new", email="a")
        session.execute(statement.on_conflict_do_update(index_elements=["email"], index_where=index_where, set_=change))
    source = select(table.email, literal("new")).where(table.id == 9)
    statement = upsert(session, address).from_select(["email", "code"], source)
    session.execute(statement.on_conflict_do_update(index_elements=["email"], index_where=where, set_=change))
    session.commit()
    assert rows_read == [[(9,)]] * 3
    assert told(trail) == [("update", "address:9", {"n": (number, number + 1)}) for number in range(3)]


def test_an_upsert_that_names_no_place_of_the_conflict_finds_the_row(session, trail, address):
    if session.get_bind().dialect.name != "sqlite":
        pytest.skip("PostgreSQL wants one")
    session.execute(upsert(session, address).values(code="c1", email="b").on_conflict_do_update(set_={"n": 1}))
    session.commit()
    assert told(trail) == [("update", "address:1", {"n": (0, 1)})]


def test_an_index_of_all_rows_is_found_where_an_upsert_names_one_of_some(session, trail, address):
    statement = upsert(session, address).values(code="c1")
    where = address.gone.is_(None)
    if session.get_bind().dialect.name == "sqlite":
        pytest.skip("SQLite wants an index of these rows")
    session.execute(statement.on_conflict_do_update(index_elements=["postal_code"], index_where=where, set_={"n": 1}))
    session.commit()
    assert told(trail) == [("update", "address:1", {"n": (0, 1)})]


@pytest.mark.parametrize(("gone", "deleted"), [(1, []), (None, ["address:9"])])
def test_insert_or_replace_tells_of_a_partial_index_what_it_is_about(session, trail, address, gone, deleted):
    if session.get_bind().dialect.name != "sqlite":
        pytest.skip("only SQLite has it")
    session.execute(insert(address).prefix_with("OR REPLACE"), [{"code": "new", "email": "a", "gone": gone}])
    session.commit()
    assert [resource for action, resource, _ in told(trail) if action == "delete"] == deleted
    assert len(told(trail)) == 1 + len(deleted)


def test_the_catalog_is_asked_once_for_each_upsert(session, engine, account):
    if engine.name != "postgresql":
        pytest.skip("SQLite names none here")
    statement = upsert(session, account).on_conflict_do_update(constraint="account_nick", set_={"visits": 1})
    counts = []
    for rows in (1, 401):
        seen = statements(engine)
        session.execute(statement, [{"nick": str(number)} for number in range(rows)])
        counts.append(sum("pg_catalog" in one for one in seen))
    assert counts[0] == counts[1] > 0


def test_the_primary_key_is_found_by_the_name_that_the_database_gave_it(session, trail, address):
    if session.get_bind().dialect.name != "postgresql":
        pytest.skip("SQLite names none here")
    statement = upsert(session, address).values(id=3, code="x")
    session.execute(statement.on_conflict_do_update(constraint="address_pkey", set_={"n": 1}))
    session.commit()
    assert told(trail) == [("update", "address:3", {"n": (0, 1)})]


def test_no_default_of_the_database_is_computed_to_look_what_is_in_the_way(session, engine, trail):
    class Own(DeclarativeBase):
        pass

    class Bill(Own):
        __tablename__ = "bill"
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[str] = mapped_column(server_default=text("(lower('N'))"), unique=True)
        kind: Mapped[str] = mapped_column(server_default=text("'k'"), unique=True)

    Own.metadata.create_all(engine)
    session.add(Bill(id=1, number="x"))
    session.commit()
    seen = statements(engine)
    statement = upsert(session, Bill).values(id=2).on_conflict_do_update(index_elements=["kind"], set_={"number": "y"})
    session.execute(statement)
    session.commit()
    assert not any("lower" in one for one in seen if one.startswith("SELECT"))
    assert told(trail, 1) == [("update", "bill:1", {"number": ("x", "y")})]
    Own.registry.dispose()


def test_no_expression_of_an_upsert_is_computed_to_look_what_is_in_its_way(session, engine, trail, address):
    seen = statements(engine)
    for given in ({"code": func.lower("C1")}, {"id": 2, "email": func.lower("B"), "code": "new"}):
        statement = upsert(session, address).values(given)
        met = getattr(address, next(iter(given)))
        session.execute(statement.on_conflict_do_update(index_elements=[met], set_={"n": 1}))
    assert not any("lower" in one for one in seen if one.startswith("SELECT"))
    session.commit()
    assert [(action, resource) for action, resource, _ in told(trail)] == [
        ("create", "address:1"),  # nothing said before what it would meet
        ("update", "address:2"),
    ]


def test_the_select_of_an_upsert_is_counted_and_looked_up_before(session, engine, trail, address):
    seen = statements(engine)
    source = select(address.id, address.code).where(text("address.n + 77 > 0"), address.id < 3)
    statement = upsert(session, address).from_select(["id", "code"], source)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"n": 1}))
    session.commit()
    assert ["INSERT" in one for one in seen if "+ 77" in one] == [False, False, True]
    assert sorted(resource for _, resource, _ in told(trail)) == ["address:1", "address:2"]


def test_an_upsert_that_has_a_key_twice_updates_what_it_has_created(session, trail):
    if session.get_bind().dialect.name != "sqlite":
        pytest.skip("PostgreSQL refuses it")
    statement = upsert(session, Patient)
    statement = statement.on_conflict_do_update(index_elements=["id"], set_={"ward": statement.excluded.ward})
    session.execute(statement, [{"id": 7, "name": "n", "ward": ward} for ward in ("a", "b")])
    session.commit()
    created, changed = told(trail)
    assert (created[:2], changed[:2]) == (("create", "patient:7"), ("update", "patient:7"))
    assert changed[2] == {"ward": ("a", "b")}


def test_an_upsert_that_leaves_what_is_there_tells_only_what_is_new(session, trail):
    session.execute(insert(Composite).values(a="x", b=1, v="old"))
    statement = upsert(session, Composite).on_conflict_do_nothing()
    session.execute(statement, [{"a": "x", "b": 1, "v": "new"}, {"a": "y", "b": 1, "v": "new"}])
    session.commit()
    assert [resource for _, resource, _ in told(trail)] == ["composite:x,1", "composite:y,1"]


def test_insert_or_replace_tells_what_it_replaces(patients, trail):
    if patients.get_bind().dialect.name != "sqlite":
        pytest.skip("only SQLite has it")
    patients.execute(insert(Patient).prefix_with("OR REPLACE"), [{"id": 1, "name": "new"}, {"id": 9, "name": "more"}])
    patients.commit()
    assert told(trail, 3) == [
        ("update", "patient:1", {"name": ("a", "new"), "ward": ("w", None)}),
        ("create", "patient:9", {"id": (None, 9), "name": (None, "more")}),
    ]


# --- The limit, and none at all


def limited(engine, trail, **bulk):
    factory = sessionmaker(engine)
    SQLAlchemyAuditor(trail, bulk=Bulk(**bulk)).attach(factory)
    return factory()


def test_above_the_limit_one_summary_tells_how_many_rows_by_which_condition_and_who(engine, trail):
    with limited(engine, trail, limit=2) as session, trail.actor("import", type="service"):
        session.execute(insert(Patient), [{"name": name, "password": "hunter2"} for name in "abc"])
        session.execute(update(Patient).where(Patient.password == "hunter2", Patient.id < 9).values(ward="x"))
        session.execute(delete(Patient).where(Patient.name.in_(["a", "b", "c"])))
        session.commit()
    summaries = events(trail)
    assert [(one.action, one.resource_type, one.resource_id, one.actor_id) for one in summaries] == [
        (action, "patient", None, "import") for action in ("create", "update", "delete")
    ]
    created, updated, deleted = (one.details["bulk"] for one in summaries)
    assert created == {"rows": 3}
    assert updated["rows"] == deleted["rows"] == 3
    assert updated["parameters"] == {"password": "[redacted]", "id": 9}
    assert updated["values"] == {"ward": "x"}
    assert deleted["parameters"] == {"name": ["a", "b", "c"]}
    assert "patient.id < :id" in updated["criteria"]
    assert "hunter2" not in str([one.details for one in summaries])


def test_at_the_limit_each_row_is_told(engine, trail):
    with limited(engine, trail, limit=3) as session:
        session.execute(insert(Patient), [{"name": name} for name in "abc"])
        session.execute(update(Patient).values(ward="x"))
        session.execute(delete(Patient))
        session.commit()
    assert [action for action, _, _ in told(trail)] == ["create"] * 3 + ["update"] * 3 + ["delete"] * 3


@pytest.mark.parametrize(
    "run",
    [
        lambda session: session.bulk_insert_mappings(Patient, [{"name": name} for name in "abc"]),
        lambda session: session.bulk_save_objects([Patient(name=name) for name in "abc"]),
        lambda session: session.execute(insert(Patient).values([{"name": name} for name in "abc"])),
        lambda session: session.execute(insert(Patient).from_select(["name"], select(Composite.a))),
    ],
)
def test_each_way_to_insert_many_rows_has_its_summary(engine, trail, run):
    with limited(engine, trail, limit=2) as session:
        with trail.actor("x"):
            session.add_all([Composite(a=name, b=1) for name in "abc"])
            session.flush()
        run(session)
        session.commit()
    assert [one.details["bulk"]["rows"] for one in events(trail) if "bulk" in one.details] == [3]


def test_the_summary_of_an_upsert_says_that_rows_may_have_been_there(engine, trail):
    rows = [{"a": name, "b": 1, "v": "secret"} for name in "abc"]
    with limited(engine, trail, limit=2) as session:
        statement = upsert(session, Composite)
        more = {"v": statement.excluded.v, Composite.b: 2}
        session.execute(statement.on_conflict_do_update(index_elements=["a", Composite.b], set_=more), rows)
        session.execute(statement.values(rows).on_conflict_do_nothing())
        if engine.name == "sqlite":
            session.execute(insert(Composite).prefix_with("OR REPLACE"), rows)
        session.commit()
    said = [one.details["bulk"].get("criteria") for one in events(trail)]
    assert said == ["on conflict (a, b) update (v, b)", "on conflict replace"][: len(said)]
    assert len(said) == (2 if engine.name == "sqlite" else 1)


@pytest.mark.parametrize(
    "run",
    [
        lambda session: session.execute(insert(Patient), [{"name": "x"}]),
        lambda session: session.execute(Patient.__table__.insert().values(name="x")),
        lambda session: session.execute(update(Patient).values(name="x")),
        lambda session: session.execute(delete(Patient)),
        lambda session: session.query(Patient).delete(),
        lambda session: session.bulk_save_objects([Patient(name="x")]),
        lambda session: session.bulk_update_mappings(Patient, [{"id": 1, "name": "x"}]),
    ],
)
def test_where_bulk_operations_are_forbidden_nothing_is_written(engine, trail, run):
    with limited(engine, trail, forbid=True) as session:
        session.add(Patient(name="a"))
        session.commit()
        with pytest.raises(BulkForbiddenError, match="'patient'"):
            run(session)
        assert session.execute(select(Patient.name)).all() == [("a",)]
        session.commit()
    assert len(told(trail)) == 1


def test_what_is_excluded_is_neither_told_nor_forbidden(engine, trail):
    factory = sessionmaker(engine)
    SQLAlchemyAuditor(trail, exclude=[Patient], bulk=Bulk(forbid=True)).attach(factory)
    with factory() as session:
        session.execute(insert(Patient), [{"name": "x"}])
        session.bulk_save_objects([Patient(name="x")])
        session.commit()
    assert told(trail) == []


# --- Transactions, sessions, databases


def test_several_statements_in_one_transaction_and_a_savepoint_that_is_undone(patients, trail, place):
    if place[1] == "memory:":
        pytest.skip("a memory trail has no transaction to join")
    patients.execute(update(Patient).where(Patient.id == 1).values(ward="x"))
    with patients.begin_nested() as savepoint:
        patients.execute(update(Patient).where(Patient.id == 1).values(ward="undone"))
        savepoint.rollback()
    patients.execute(update(Patient).where(Patient.id == 1).values(ward="y"))
    patients.commit()
    patients.execute(delete(Patient))
    patients.rollback()
    assert told(trail, 3) == wards((1, ("w", "x")), (1, ("x", "y")))


def test_a_statement_that_fails_is_the_callers_to_handle(patients, trail):
    with pytest.raises(IntegrityError), patients.begin_nested():
        patients.execute(insert(Patient), [{"id": 1, "name": "again"}])
    patients.execute(update(Patient).where(Patient.id == 1).values(ward="x"))
    patients.commit()
    assert told(trail, 3) == wards((1, ("w", "x")))


def test_a_statement_whose_event_cannot_be_written_does_not_commit(patients, trail, monkeypatch):
    def fail(*_):
        raise StoreUnavailableError("the disk is full")

    monkeypatch.setattr(trail, "tell", fail)
    for run in (
        lambda: patients.execute(update(Patient).values(ward="x")),
        lambda: patients.bulk_update_mappings(Patient, [{"id": 1, "ward": "x"}]),
    ):
        with pytest.raises(StoreUnavailableError):
            run()
        with pytest.raises(PendingRollbackError):
            patients.commit()
        patients.rollback()
    assert patients.scalars(select(Patient.ward)).all() == ["w"] * 3


def test_a_database_that_the_trail_does_not_drain_is_refused_before_the_statement(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    Base.metadata.create_all(engine)
    with AuditTrail(f"sqlite:///{tmp_path / 'trail.db'}", lifecycle=False) as trail, Session(engine) as session:
        SQLAlchemyAuditor(trail).attach(session)
        seen = statements(engine)
        for run in (
            lambda: session.execute(insert(Patient).values(name="x")),
            lambda: session.bulk_save_objects([Patient(name="x")]),
        ):
            with pytest.raises(ConfigurationError, match=r"outbox=\["):
                run()
        assert not [statement for statement in seen if "patient" in statement]
    engine.dispose()


def test_one_statement_is_one_insert_of_ours(patients, trail, place, monkeypatch):
    calls = []
    outbox = type(trail.outboxes[0])
    put = outbox.put_json
    monkeypatch.setattr(outbox, "put_json", lambda self, events, *rest: put(self, counted(events, calls), *rest))
    patients.execute(update(Patient).values(ward="x"))
    patients.execute(delete(Patient))
    patients.commit()
    assert calls == [3, 3]


def counted(events, calls):
    found = list(events)
    calls.append(len(found))
    return found


def test_two_auditors_of_one_trail_tell_a_statement_once(engine, trail):
    factory = sessionmaker(engine)
    SQLAlchemyAuditor(trail, include=[Patient]).attach(factory)
    SQLAlchemyAuditor(trail).attach(factory)
    with factory() as session:
        session.execute(insert(Patient), ROWS)
        session.bulk_insert_mappings(Patient, ROWS)
        session.execute(insert(Lazy), [{"name": "x"}])
        session.commit()
    assert [resource for _, resource, _ in told(trail)] == [
        "patient:1",
        "patient:2",
        "patient:3",
        "patient:4",
        "lazy:1",
    ]


def test_what_is_not_attached_is_as_before(engine, trail):
    with Session(engine) as session:
        session.execute(insert(Patient), ROWS)
        session.bulk_insert_mappings(Patient, ROWS)
        session.commit()
    assert told(trail) == []


def test_statements_of_a_sharded_session_are_told_where_their_rows_are(tmp_path):
    urls = {name: f"sqlite:///{tmp_path / name}.db" for name in ("one", "two")}
    engines = {name: create_engine(url) for name, url in urls.items()}
    for engine in engines.values():
        Base.metadata.create_all(engine)
        with Session(engine) as plain:
            plain.add(Patient(name="a"))
            plain.commit()
    factory = sessionmaker(
        class_=ShardedSession,
        shards=engines,
        shard_chooser=lambda mapper, row, clause=None: "one",
        identity_chooser=lambda *args, **kwargs: list(urls),
        execute_chooser=lambda context: list(urls),
    )
    with AuditTrail(f"sqlite:///{tmp_path / 'trail.db'}", outbox=urls.values(), lifecycle=False) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            session.execute(update(Patient).values(ward="x"))
            session.commit()
        assert told(trail) == wards((1, (None, "x")), (1, (None, "x")))
    for engine in engines.values():
        engine.dispose()


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "psycopg"])
def test_statements_of_an_asynchronous_session(trail, engine, place, driver):
    url = place[0].replace("+psycopg", "")
    if (driver == "aiosqlite") != url.startswith("sqlite"):
        pytest.skip("not this database's driver")
    asyncio.run(_work_async(trail, url.replace(":", f"+{driver}:", 1)))
    assert told(trail) == [
        ("create", "patient:1", {"id": (None, 1), "name": (None, "a")}),
        ("create", "patient:2", {"id": (None, 2), "name": (None, "b"), "ward": (None, "x")}),
        ("update", "patient:2", {"ward": ("x", "y")}),
        ("delete", "patient:2", {"id": (2, None), "name": ("b", None), "ward": ("y", None)}),
    ]


async def _work_async(trail, url):
    engine = create_async_engine(url)
    factory = async_sessionmaker(engine)
    SQLAlchemyAuditor(trail).attach(factory)
    async with factory() as session:
        assert len((await session.scalars(insert(Patient).returning(Patient), ROWS)).all()) == 2
        assert (await session.execute(update(Patient).where(Patient.id == 2).values(ward="y"))).rowcount == 1
        await session.execute(delete(Patient).where(Patient.id == 2))
        await session.commit()
    await engine.dispose()
