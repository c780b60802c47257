"""What must be captured of SQLAlchemy, line by line, on SQLite and on PostgreSQL: each is missed by a known library.

Captured means: one event for each object, the right action, old and new, the right actor, if and only if it commits.
"""

import asyncio
import threading
import uuid

import psycopg
import pytest
from sqlalchemy import Table, create_engine, delete, event, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    Session,
    joinedload,
    make_transient_to_detached,
    registry,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.orm.attributes import flag_modified

from audit_core import AuditTrail, Redactor
from audit_core.errors import BulkForbiddenError
from audit_core.orm.bulk import Bulk
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from audit_core.testing import Recorded, recording
from audit_core.triggers import install
from tests.orm.models import (
    Base,
    Colour,
    Composite,
    Doctor,
    Group,
    Lazy,
    Note,
    Nurse,
    Patient,
    Person,
    Post,
    Stock,
    Tag,
    Token,
    User,
    events,
    membership,
    statements,
    told,
)

pytestmark = pytest.mark.parametrize("place", ["file", "postgres"], indirect=True)


def lines(trail, since=0):
    return [(action, resource) for action, resource, _ in told(trail, since)]


def attached(engine, trail, **options):
    factory = sessionmaker(engine)
    SQLAlchemyAuditor(trail, **options).attach(factory)
    return factory()


# --- Both ORMs


def test_create_update_and_delete_have_their_resource_and_old_and_new_values(session, trail):
    patient = Patient(name="Ann")
    session.add(patient)
    session.commit()
    patient.name = "Beth"
    session.commit()
    session.delete(patient)
    session.commit()
    assert told(trail) == [
        ("create", "patient:1", {"id": (None, 1), "name": (None, "Ann")}),
        ("update", "patient:1", {"name": ("Ann", "Beth")}),
        ("delete", "patient:1", {"id": (1, None), "name": ("Beth", None)}),
    ]


def test_an_update_that_sets_a_field_and_sets_it_back_is_no_event(session, trail):
    session.add(Patient(name="Ann"))
    session.commit()
    patient = session.get(Patient, 1)
    patient.name = "Beth"
    patient.name = "Ann"
    session.commit()
    patient.name = "Ann"  # expired by the commit, and overwritten with what it was
    session.commit()
    assert lines(trail) == [("create", "patient:1")]


@pytest.mark.filterwarnings("ignore:The `objects` parameter")
def test_where_only_some_are_written_only_what_was_really_written_is_told(session, trail):
    one, two = Patient(name="Ann"), Patient(name="Beth")
    session.add_all([one, two])
    session.commit()
    one.name, one.ward, two.name = "Ann", "A", "never written"
    session.flush([one])
    session.expire(two)
    session.commit()
    assert told(trail, 2) == [("update", "patient:1", {"ward": (None, "A")})]


@pytest.mark.parametrize("model", [Stock, Lazy])
def test_a_value_computed_by_the_database_is_the_resolved_one(session, trail, model):
    row = model(state=func.upper("fresh"))
    session.add_all([row, model()])
    session.commit()
    row.state = func.lower("OLD")
    session.flush()
    row.state = model.state + "er"
    session.commit()
    created, defaulted, *updates = told(trail)
    assert created[1:] == (f"{created[1].split(':')[0]}:1", created[2] | {"id": (None, 1), "state": (None, "FRESH")})
    assert defaulted[2] | {"id": (None, 2), "state": (None, "new")} == defaulted[2]
    assert [changes["state"] for _, _, changes in updates] == [("FRESH", "old"), ("old", "older")]
    assert model is Lazy or created[2]["double"] == (None, 2)


def test_an_expired_or_deferred_attribute_that_is_overwritten_has_its_old_value(session, trail):
    session.add(Stock(state="a", image=b"old"))
    session.commit()
    session.expunge_all()
    stock = session.get(Stock, 1)
    session.expire(stock, ["state"])
    stock.state, stock.image = "b", b"new"
    session.commit()
    assert told(trail, 1)[0][2] | {"state": ("a", "b"), "image": ("old", "new")} == told(trail, 1)[0][2]


def test_a_json_value_changed_in_place_has_old_and_new(session, trail):
    session.add(Stock(data={"a": [1]}, plain={"a": [1]}))
    session.commit()
    stock = session.get(Stock, 1)
    stock.data["b"] = 2
    stock.plain["a"].append(2)
    flag_modified(stock, "plain")
    session.commit()
    changes = told(trail, 1)[0][2]
    assert changes["data"] == ({"a": [1]}, {"a": [1], "b": 2})
    assert changes["plain"] == ({"a": [1]}, {"a": [1, 2]})


def test_of_a_row_that_another_transaction_changed_the_old_value_is_what_the_session_loaded(factory, engine, trail):
    with factory(expire_on_commit=False) as session:
        patient = Patient(name="Ann", ward="A")
        session.add(patient)
        session.commit()
        with engine.begin() as other:
            other.execute(text("UPDATE patient SET name = 'Carl', ward = 'C'"))
        session.expire(patient, ["ward"])  # not known to the session: then it is what the row holds
        patient.name, patient.ward = "Beth", "B"
        session.commit()
    assert told(trail, 1) == [("update", "patient:1", {"name": ("Ann", "Beth"), "ward": ("C", "B")})]


def test_an_object_saved_without_having_been_read_has_the_rows_old_values(session, trail):
    session.add_all([Patient(name="Ann", ward="A"), Doctor(name="Who", field="time")])
    session.commit()
    session.expunge_all()
    patient = Patient(id=1)
    make_transient_to_detached(patient)
    session.add(patient)
    patient.name = "Beth"
    session.merge(Doctor(id=1, name="Strange", field="space"))
    session.commit()
    assert sorted(told(trail, 2)) == [
        ("update", "doctor:1", {"name": ("Who", "Strange"), "field": ("time", "space")}),
        ("update", "patient:1", {"name": ("Ann", "Beth")}),
    ]


def test_several_flushes_in_one_transaction_are_one_event_each_in_order(session, trail):
    patient = Patient(name="a")
    session.add(patient)
    session.flush()
    for name in "bc":
        patient.name = name
        session.flush()
    session.delete(patient)
    session.commit()
    assert [(action, changes["name"]) for action, _, changes in told(trail)] == [
        ("create", (None, "a")), ("update", ("a", "b")), ("update", ("b", "c")), ("delete", ("c", None))
    ]  # fmt: skip


def test_nothing_of_what_was_undone_and_all_of_the_rest(session, trail):
    """A savepoint rolled back, an integrity error in a savepoint and outside of one, an outer rollback."""
    session.add(Patient(id=1, name="kept"))
    session.flush()
    savepoint = session.begin_nested()
    session.add(Patient(id=2, name="undone"))
    session.flush()
    savepoint.rollback()
    with pytest.raises(IntegrityError), session.begin_nested():  # noqa: PT012 - the savepoint ends with the error
        session.add(Patient(id=3, name="undone"))
        session.flush()
        session.execute(insert(Patient).values(id=1, name="clash"))
    with session.begin_nested():
        session.add(Patient(id=4, name="released"))
    session.commit()
    session.add(Patient(id=5, name="gone"))
    session.flush()
    session.expunge_all()
    session.add(Patient(id=1, name="clash"))
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()
    session.execute(insert(Patient).values(id=6, name="gone"))
    with pytest.raises(IntegrityError):
        session.execute(insert(Patient).values(id=1, name="clash"))
    session.rollback()
    session.add(Patient(id=7, name="last"))
    session.commit()
    assert [changes["name"] for *_, changes in told(trail)] == [(None, "kept"), (None, "released"), (None, "last")]
    assert set(session.scalars(select(Patient.name))) == {"kept", "released", "last"}


def test_two_sessions_and_threads_at_once_one_rolled_back_do_not_mix(factory, trail):
    start = threading.Barrier(2)

    def work(name, keep):
        start.wait()
        for number in range(10):
            with factory() as session, trail.actor(name):
                session.add(Patient(name=f"{name}{number}"))
                session.flush()
                if keep:
                    session.commit()

    threads = [threading.Thread(target=work, args=arguments) for arguments in (("kept", True), ("undone", False))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [changes["name"][1] for *_, changes in told(trail)] == [f"kept{number}" for number in range(10)]
    assert {event.actor_id for event in events(trail)} == {"kept"}


def test_composite_text_and_uuid_keys_and_a_changed_key_have_a_stable_id(session, trail):
    row = Composite(a="x,y", b=1, v="old")
    session.add_all([row, Token(name="t")])
    session.commit()
    row.v = "new"
    session.commit()
    row.b, row.v = 2, "newer"
    session.commit()
    session.delete(row)
    session.delete(session.get(Token, uuid.UUID(int=5)))
    session.commit()
    key, token = "composite:x\\,y", "token:00000000-0000-0000-0000-000000000005"
    assert sorted(lines(trail)[:2]) == [("create", f"{key},1"), ("create", token)]
    assert told(trail)[2:4] == [
        ("update", f"{key},1", {"v": ("old", "new")}),
        ("update", f"{key},2", {"b": (1, 2), "v": ("new", "newer")}),
    ]
    assert sorted(lines(trail, 4)) == [("delete", f"{key},2"), ("delete", token)]


def test_an_inherited_object_is_one_event_with_the_fields_of_all_its_tables(session, trail):
    session.add_all([Doctor(name="Who", field="time"), Nurse(name="Joy", shift="night")])
    session.commit()
    session.expunge_all()
    doctor, nurse = session.scalars(select(Person).order_by(Person.id))
    doctor.name, doctor.field, nurse.shift = "Strange", "space", "day"
    session.commit()
    doctor.field = "none"
    session.commit()
    session.expunge_all()
    for person in session.scalars(select(Person).order_by(Person.id)):
        session.delete(person)
    session.commit()
    made = {
        "doctor:1": {"id": 1, "kind": "doctor", "name": "Who", "field": "time"},
        "nurse:2": {"id": 2, "kind": "nurse", "name": "Joy", "shift": "night"},
    }
    left = {
        "doctor:1": made["doctor:1"] | {"name": "Strange", "field": "none"},
        "nurse:2": made["nurse:2"] | {"shift": "day"},
    }
    found = sorted(told(trail), key=lambda line: (["create", "update", "delete"].index(line[0]), line[1]))
    assert found == [
        *(("create", resource, {name: (None, v) for name, v in fields.items()}) for resource, fields in made.items()),
        ("update", "doctor:1", {"name": ("Who", "Strange"), "field": ("time", "space")}),
        ("update", "doctor:1", {"field": ("space", "none")}),
        ("update", "nurse:2", {"shift": ("night", "day")}),
        *(("delete", resource, {name: (v, None) for name, v in fields.items()}) for resource, fields in left.items()),
    ]


def test_many_to_many_links_from_either_side_and_through_the_table_are_the_keys_that_changed(session, trail):
    user, groups = User(id=1), [Group(id=number) for number in (1, 2, 3)]
    session.add_all([user, *groups])
    session.commit()
    user.groups.append(groups[0])
    session.commit()
    groups[1].users.append(user)
    session.commit()
    user.groups = groups[1:]
    session.commit()
    session.execute(insert(membership).values(user_id=1, group_id=1))
    session.execute(delete(membership).where(membership.c.group_id == 3))
    session.commit()
    user.groups.clear()
    session.commit()
    assert told(trail, 4) == [
        ("link", "user:1", {"groups": (None, ["1"])}),
        ("link", "user:1", {"groups": (None, ["2"])}),
        ("unlink", "user:1", {"groups": (["1"], None)}),
        ("link", "user:1", {"groups": (None, ["3"])}),
        ("link", "user:1", {"groups": (None, ["1"])}),
        ("unlink", "user:1", {"groups": (["3"], None)}),
        ("unlink", "user:1", {"groups": (["1", "2"], None)}),
    ]


def test_cascades_done_by_the_orm_are_one_event_each(session, trail):
    session.add(Patient(name="Ann", notes=[Note(text="a"), Note(text="b"), Note(text="orphan")]))
    session.commit()
    patient = session.get(Patient, 1)
    patient.notes.pop()
    session.commit()
    session.delete(patient)
    session.commit()
    gone = ("note:3", "note:1", "note:2", "patient:1")
    assert lines(trail, 4) == [("delete", resource) for resource in gone]
    assert told(trail)[5][2] == {"id": (1, None), "patient_id": (1, None), "text": ("a", None)}


def upsert(session, rows):
    kind = {"sqlite": sqlite, "postgresql": postgresql}[session.get_bind().dialect.name]
    statement = kind.insert(Patient).values(rows)
    changes = {"name": statement.excluded.name}
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changes))


NEW = [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]
CREATED = [("create", f"patient:{n}", {"id": (None, n), "name": (None, "x")}) for n in (1, 2)]
UPDATED = [("update", f"patient:{n}", {"name": (name, "x")}) for n, name in ((1, "a"), (2, "b"))]
DELETED = [("delete", f"patient:{n}", {"id": (n, None), "name": (name, None)}) for n, name in ((1, "a"), (2, "b"))]
BULK = {
    "insert": (lambda session: session.execute(insert(Patient), NEW), CREATED),
    "insert values": (lambda session: session.execute(insert(Patient).values(NEW)), CREATED),
    "bulk_save_objects": (lambda session: session.bulk_save_objects([Patient(**row) for row in NEW]), CREATED),
    "bulk_insert_mappings": (lambda session: session.bulk_insert_mappings(Patient, NEW), CREATED),
    "upsert that creates": (lambda session: upsert(session, NEW), CREATED),
    "update": (lambda session: session.execute(update(Patient).values(name="x")), UPDATED),
    "update by key": (lambda session: session.execute(update(Patient), NEW), UPDATED),
    "bulk_update_mappings": (lambda session: session.bulk_update_mappings(Patient, NEW), UPDATED),
    "Query.update": (lambda session: session.query(Patient).update({"name": "x"}), UPDATED),
    "upsert that updates": (lambda session: upsert(session, NEW), UPDATED),
    "delete": (lambda session: session.execute(delete(Patient)), DELETED),
    "Query.delete": (lambda session: session.query(Patient).delete(), DELETED),
}


@pytest.mark.parametrize("operation", BULK)
def test_bulk_operations_are_told_per_row_with_old_and_new_up_to_a_limit_and_can_be_forbidden(engine, trail, operation):
    run, expected = BULK[operation]
    before = [] if expected is CREATED else [Patient(id=1, name="a"), Patient(id=2, name="b")]
    with attached(engine, trail) as session:
        session.add_all(before)
        session.commit()
    with attached(engine, trail, bulk=Bulk(forbid=True)) as session, pytest.raises(BulkForbiddenError):
        run(session)
    with attached(engine, trail) as session, trail.actor("importer"):
        run(session)
        session.rollback()
        run(session)
        session.commit()
    assert sorted(told(trail, len(before))) == expected
    assert {event.actor_id for event in events(trail)[len(before) :]} == {"importer"}


def test_above_the_limit_a_bulk_operation_is_one_summary_with_criteria_count_and_actor(engine, trail):
    with attached(engine, trail, bulk=Bulk(limit=2)) as session, trail.actor("importer"):
        session.execute(insert(Patient), [{"name": name} for name in "abc"])
        session.execute(update(Patient).where(Patient.name != "z").values(ward="B"))
        session.execute(delete(Patient).where(Patient.ward == "B"))
        session.commit()
    assert [(event.action, event.resource_type, event.resource_id, event.actor_id) for event in events(trail)] == [
        (action, "patient", None, "importer") for action in ("create", "update", "delete")
    ]
    created, updated, deleted = (event.details["bulk"] for event in events(trail))
    assert created == {"rows": 3}
    assert updated == {
        "rows": 3, "criteria": "patient.name != :name", "parameters": {"name": "z"}, "values": {"ward": "B"}
    }  # fmt: skip
    assert deleted == {"rows": 3, "criteria": "patient.ward = :ward", "parameters": {"ward": "B"}}


def test_what_the_database_core_raw_sql_and_psql_do_is_told_by_triggers_with_the_applications_actor(
    engine, trail, place
):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no such triggers: what is not covered there stands in the documentation")
    with psycopg.connect(place[1]) as owner:
        owner.execute("ALTER TABLE note DROP CONSTRAINT note_patient_id_fkey")
        owner.execute("ALTER TABLE note ADD FOREIGN KEY (patient_id) REFERENCES patient ON DELETE CASCADE")
        install(owner, ["patient", "note"])
    seen = statements(engine)
    with attached(engine, trail, triggers=True) as session, trail.actor("dr-'ada'", on_behalf_of="9"):
        session.add(Patient(id=1, name="a", notes=[Note(id=1, text="t")]))
        session.flush()
        session.execute(text("UPDATE patient SET name = 'raw'"))
        session.connection().execute(update(Patient.__table__).values(ward="core"))
        session.connection().execute(text("DELETE FROM patient"))
        session.commit()
    with psycopg.connect(place[1]) as psql:
        psql.execute("INSERT INTO patient (id, name) VALUES (2, 'psql')")
    trail.flush()
    expected = [
        ("create", "patient:1"), ("create", "note:1"), ("update", "patient:1"), ("update", "patient:1"),
        ("delete", "note:1"), ("delete", "patient:1"), ("create", "patient:2"),
    ]  # fmt: skip
    assert sorted(lines(trail)) == sorted(expected)
    *ours, theirs = events(trail)
    assert {(event.actor_id, event.on_behalf_of) for event in ours} == {("dr-'ada'", "9")}
    assert (theirs.actor_type, theirs.actor_id is None) == ("admin", False)
    assert not [statement for statement in seen if "ada" in statement]


def test_the_actor_is_who_acts_when_the_event_is_recorded_in_tasks_and_threads_and_none_is_left_over(
    factory, engine, trail, place
):
    with factory() as session:
        with trail.actor("early"):
            session.add(Patient(name="flushed later"))
        with trail.actor("7", type="admin", on_behalf_of="9"):
            session.commit()
        session.add(Patient(name="nobody"))
        session.commit()
    asynchronous = create_async_engine(place[0].replace("sqlite:", "sqlite+aiosqlite:"))
    tasks = async_sessionmaker(asynchronous)
    SQLAlchemyAuditor(trail).attach(tasks)

    async def work(name):
        with trail.actor(name):
            async with tasks() as session:
                session.add(Patient(name=name))
                await asyncio.sleep(0)
                await session.commit()

    async def all_of_them():
        await asyncio.gather(*(work(f"task{number}") for number in range(3)))
        await asynchronous.dispose()

    def in_thread():
        with factory() as session:
            session.add(Patient(name="thread"))
            session.commit()

    asyncio.run(all_of_them())
    with trail.actor("not the thread's"):
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
    who = {e.details["changes"]["name"]["new"]: (e.actor_id, e.actor_type, e.on_behalf_of) for e in events(trail)}
    assert who == {
        "flushed later": ("7", "admin", "9"),
        "nobody": (None, "system", None),
        **{f"task{number}": (f"task{number}", "user", None) for number in range(3)},
        "thread": (None, "system", None),
    }


def test_models_are_included_and_excluded_and_fields_redacted_hashed_and_masked(engine, place):
    rules = {"patient.ward": "mask", "note.text": "hash", "person.name": "replace"}
    with AuditTrail(place[1], lifecycle=False, redactor=Redactor(rules, hash_key=b"k" * 32)) as trail:
        with attached(engine, trail, exclude=[Nurse], include=[Patient, Note, Person, Stock]) as session:
            session.add_all([Nurse(name="left out"), User(), Person(name="Joy")])
            session.add(Patient(name="Ann", password="hunter2", ward="isolation ward 12", notes=[Note(text="secret")]))
            session.add(Stock(plain={"deep": {"er": [{"api_key": "hunter2"}]}}))
            session.commit()
        changes = {resource.split(":")[0]: fields for _, resource, fields in told(trail)}
        assert changes.keys() == {"patient", "note", "person", "stock"}
        assert changes["patient"]["ward"] == (None, "••••d 12")
        assert changes["patient"]["password"] == changes["person"]["name"] == (None, "[redacted]")
        assert changes["note"]["text"] == (None, trail.redactor.keyed_hash("secret"))
        assert "hunter2" not in str(events(trail))


def test_another_database_than_the_trails_has_the_outbox_itself(tmp_path, engine, place):
    """Of two databases the one that changes holds the event, until it is sealed."""
    other = f"sqlite:///{tmp_path}/other.db"
    elsewhere = create_engine(other)
    Base.metadata.create_all(elsewhere)
    with AuditTrail(place[1], outbox=other, lifecycle=False) as trail:
        factory = sessionmaker(binds={Patient: elsewhere, Group: engine})
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            session.add_all([Patient(id=1, name="there"), Group(id=1)])
            session.flush()
            waits = session.connection(bind_arguments={"bind": elsewhere}).execute(
                text("SELECT event FROM audit_outbox")
            )
            assert [("patient" in event) for (event,) in waits] == [True]
            session.rollback()
            assert lines(trail) == []
            session.add_all([Patient(id=1, name="there"), Group(id=1)])
            session.commit()
        trail.flush()
        assert sorted(lines(trail)) == [("create", "group:1"), ("create", "patient:1")]
        assert all(event.sealed for event in events(trail))
    elsewhere.dispose()


def test_deleting_who_acted_or_the_models_table_changes_no_event(session, engine, trail):
    session.add(Patient(id=1, name="the actor himself"))
    with trail.actor(1):
        session.commit()
        before = events(trail)
        session.delete(session.get(Patient, 1))
        session.commit()
    session.close()
    Note.__table__.drop(engine)
    Patient.__table__.drop(engine)
    assert [event.event_id for event in before] == [event.event_id for event in events(trail)[:1]]
    assert {(event.actor_id, event.resource_id) for event in events(trail)} == {("1", "1")}
    trail.flush()
    assert trail.chain.verify().findings == ()


def test_no_query_of_ours_where_nothing_is_written_and_one_insert_for_a_flush(factory, engine, monkeypatch):
    with factory() as session:
        session.add(Patient(name="the chain begins"))
        session.commit()
    seen, carried = statements(engine), []
    monkeypatch.setattr(Recorded, "carried", lambda self, events, connection: carried.append(len(events)))
    with factory() as session, recording():
        session.scalars(select(Patient)).all()
        session.commit()
    assert [statement.split()[0] for statement in seen] == ["SELECT"]
    assert carried == []
    with factory() as session, recording():
        session.add_all([Patient(name=str(number)) for number in range(20)])
        session.commit()
    assert carried == [20]


# --- SQLAlchemy besides


def test_session_scoped_session_and_async_session(engine, trail, place):
    registered = scoped_session(sessionmaker(engine))
    asynchronous = create_async_engine(place[0].replace("sqlite:", "sqlite+aiosqlite:"))
    factory = async_sessionmaker(asynchronous)
    auditor = SQLAlchemyAuditor(trail)

    async def work():
        async with factory() as session:
            session.add(Patient(id=3, name="async"))
            await session.commit()
            await session.execute(update(Patient).where(Patient.id == 3).values(name="undone"))
            await session.rollback()
        await asynchronous.dispose()

    with Session(engine) as alone:
        for target in (alone, registered, factory):
            auditor.attach(target)
        alone.add(Patient(id=1, name="session"))
        alone.commit()
    registered.add(Patient(id=2, name="scoped"))
    registered.commit()
    registered.remove()
    asyncio.run(work())
    assert [changes["name"] for *_, changes in told(trail)] == [(None, "session"), (None, "scoped"), (None, "async")]


def test_joined_and_dynamic_relationships(session, trail):
    session.add_all([Patient(id=1, name="Ann", notes=[Note(id=1, text="a")]), Post(id=1), Tag(id=1), Tag(id=2)])
    session.commit()
    session.expunge_all()
    patient = session.scalars(select(Patient).options(joinedload(Patient.notes))).unique().one()
    patient.notes[0].text = "b"
    session.commit()
    post, tags = session.get(Post, 1), session.scalars(select(Tag).order_by(Tag.id)).all()
    post.dynamic.append(tags[0])
    post.written.add(tags[1])
    session.commit()
    post.dynamic.remove(tags[0])
    session.commit()
    post.written.remove(tags[1])
    session.commit()
    session.delete(post)
    session.commit()
    assert told(trail, 5) == [
        ("update", "note:1", {"text": ("a", "b")}),
        ("link", "post:1", {"dynamic": (None, ["1"])}),
        ("link", "post:1", {"written": (None, ["2"])}),
        ("unlink", "post:1", {"dynamic": (["1"], None)}),
        ("unlink", "post:1", {"written": (["2"], None)}),
        ("delete", "post:1", {"id": (1, None)}),
    ]


def test_reflected_and_imperative_mappings(factory, engine, trail):
    class Thing:
        pass

    reflected = Table("composite", registry().metadata, autoload_with=engine)
    mappings = registry()
    mappings.map_imperatively(Thing, reflected, properties={"value": reflected.c.v})
    with factory() as session:
        thing = Thing()
        thing.a, thing.b, thing.value = "x", 1, "v"
        session.add(thing)
        session.commit()
        thing.value = "w"
        session.commit()
    assert told(trail) == [
        ("create", "thing:x,1", {"a": (None, "x"), "b": (None, 1), "value": (None, "v")}),
        ("update", "thing:x,1", {"value": ("v", "w")}),
    ]
    mappings.dispose()


# --- In the user's own tests and tools


def test_a_suite_that_rolls_back_each_test_works_as_before_and_its_database_can_be_dropped(engine, place):
    if engine.dialect.name == "sqlite":  # what SQLAlchemy's documentation says of savepoints there
        event.listen(engine, "connect", lambda raw, record: setattr(raw, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        engine.dispose()
    before = set(threading.enumerate())
    with AuditTrail(place[1]) as trail, recording() as recorded:
        factory = sessionmaker()
        SQLAlchemyAuditor(trail).attach(factory)
        for _ in range(2):
            with engine.connect() as connection:
                transaction = connection.begin()
                with factory(bind=connection, join_transaction_mode="create_savepoint") as session:
                    session.add(Stock(id=1, colour=Colour.RED))
                    session.commit()
                    recorded.assert_recorded("create", "stock:1", changes={"colour": (None, "red")})
                transaction.rollback()
            assert not recorded
        assert lines(trail) == []
    engine.dispose()
    assert set(threading.enumerate()) == before
    if engine.dialect.name == "postgresql":
        name = engine.url.database
        with psycopg.connect(place[1].replace(f"/{name}", "/postgres"), autocommit=True) as server:
            server.execute(f"DROP DATABASE {name}")  # refused while anybody is connected
