"""Any program at all: what was recorded, replayed from nothing, gives the tables."""

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, delete, event, func, insert, inspect, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from audit_core import AuditTrail
from audit_core.integrity.verify import Result
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.orm.models import Base, Doctor, Group, Note, Nurse, Patient, Person, User, membership, told
from tests.postgres.server import new_database

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.integers(0, 3), st.sampled_from(["a", "b", None])),
        st.tuples(st.just("update"), st.integers(0, 9), st.sampled_from(["a", "b", "c", None])),
        st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.just("link"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("expire_and_update"), st.integers(0, 9), st.sampled_from(["a", "b", None])),
        st.tuples(st.just("execute_insert"), st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=3)),
        st.tuples(st.just("execute_update"), st.integers(0, 4), st.integers(0, 9), st.sampled_from(["a", "b", None])),
        st.tuples(st.just("execute_delete"), st.integers(0, 1), st.integers(0, 9)),
        st.tuples(st.just("bulk_insert"), st.integers(0, 1), st.integers(1, 3)),
        st.tuples(st.just("bulk_update"), st.booleans(), st.sampled_from(["a", "b", None])),
        st.tuples(st.just("upsert"), st.integers(0, 9), st.sampled_from(["a", "b"])),
        *[st.tuples(st.just(word)) for word in ("flush", "begin", "release", "undo", "commit", "rollback")],
    ),
    max_size=25,
)


class Player:
    """Carries out one step after the other; a step that finds nothing to work on does nothing."""

    def __init__(self, session):
        self.session = session
        self.savepoints = []
        self.free = count(1_000_000)  # keys that nothing has

    def all_of(self, *models):
        return [row for model in models for row in self.session.scalars(select(model).order_by(model.id))]

    def create(self, kind, name):
        makers = [
            lambda: Doctor(name="d", field=name),
            lambda: Nurse(name="n", shift=name),
            lambda: Patient(name="p", ward=name),
            User,
        ]
        self.session.add(makers[kind]())

    def update(self, number, value):
        if rows := self.all_of(Person):
            row = rows[number % len(rows)]
            setattr(row, "field" if isinstance(row, Doctor) else "shift", value)

    def expire_and_update(self, number, value):
        if rows := self.all_of(Person):
            self.session.flush()
            self.session.expire(rows[number % len(rows)])
            rows[number % len(rows)].name = value or "nobody"

    def move(self, number, other):
        if patients := self.all_of(Patient):
            first, second = (patients[n % len(patients)] for n in (number, other))
            if first.notes:
                second.notes.append(first.notes[0])
            else:
                first.notes.append(Note(text="n"))

    def delete(self, number):
        if rows := self.all_of(Patient, Person, Group):
            self.session.delete(rows[number % len(rows)])

    def link(self, number, other):
        if users := self.all_of(User):
            groups = [*self.all_of(Group), Group()]
            user, group = users[number % len(users)], groups[other % len(groups)]
            (user.groups.remove if group in user.groups else user.groups.append)(group)

    def execute_insert(self, names):
        self.session.execute(insert(Patient), [{"name": "p", "ward": name} for name in names])

    def execute_update(self, kind, number, value):
        statement = [
            lambda: update(Patient).where(Patient.id % 3 == number % 3).values(ward=value),
            lambda: update(Person).where(Person.id > number).values(name=Person.name + (value or "!")),
            lambda: update(Nurse).where(Nurse.id > number).values(shift=value),
            lambda: update(Doctor).where(Doctor.id > number).values(field=func.upper(value)),
            lambda: (
                update(Note).where(Note.patient_id == Patient.id, Patient.ward == value).values(text=Note.text + ".")
            ),
        ][kind]()
        self.session.execute(statement)

    def execute_delete(self, kind, number):
        self.session.execute([delete(Note), delete(Nurse)][kind].where([Note.id, Nurse.id][kind] > number))

    def bulk_insert(self, kind, count):
        rows = [Doctor(name="d", field="x"), Nurse(name="n")][:count]
        if kind:
            self.session.bulk_save_objects(rows)
        else:
            self.session.bulk_insert_mappings(Patient, [{"name": "m"}] * count)

    def bulk_update(self, by_statement, value):
        rows = [{"id": patient.id, "ward": value} for patient in self.all_of(Patient)]
        if rows and by_statement:
            self.session.execute(update(Patient), rows)
        elif rows:
            self.session.bulk_update_mappings(Patient, rows)
            self.session.expire_all()

    def upsert(self, number, value):
        patients = [patient.id for patient in self.all_of(Patient)]
        taken = patients[number % len(patients)] if patients else None
        kind = {"sqlite": sqlite, "postgresql": postgresql}[self.session.get_bind().dialect.name]
        statement = kind.insert(Patient)
        statement = statement.on_conflict_do_update(index_elements=["id"], set_={"ward": statement.excluded.ward})
        rows = [{"id": one, "name": "u", "ward": value} for one in (taken, next(self.free))]
        self.session.execute(statement, [row for row in rows if row["id"]])
        self.session.expire_all()

    def flush(self):
        self.session.flush()

    def begin(self):
        self.savepoints.append(self.session.begin_nested())

    def release(self):
        if self.savepoints:
            self.savepoints.pop().commit()

    def undo(self):
        if self.savepoints:
            self.savepoints.pop().rollback()

    def commit(self):
        self.savepoints.clear()
        self.session.commit()

    def rollback(self):
        self.savepoints.clear()
        self.session.rollback()


def replay(trail, since=0):
    rows, links = {}, set()
    for action, resource, changes in told(trail, since):
        if action == "link":
            links |= {(resource, group) for group in changes["groups"][1]}
        elif action == "unlink":
            assert {(resource, group) for group in changes["groups"][0]} <= links
            links -= {(resource, group) for group in changes["groups"][0]}
        elif action == "delete":
            assert rows.pop(resource) == {name: old for name, (old, _) in changes.items()}
        else:
            assert (resource in rows) == (action == "update")
            row = rows.setdefault(resource, {})
            for name, (old, new) in changes.items():
                assert row.get(name) == old
                row[name] = new
            rows[resource] = {name: value for name, value in row.items() if value is not None}
    return rows, links


def tables(engine):
    rows = {}
    with Session(engine) as session:
        for model in (Person, Patient, Note, User, Group):
            for row in session.scalars(select(model)):
                names = [attribute.key for attribute in inspect(type(row)).column_attrs]
                values = {name: getattr(row, name) for name in names}
                kind = type(row).__name__.lower()
                rows[f"{kind}:{row.id}"] = {name: value for name, value in values.items() if value is not None}
        links = {(f"user:{user}", str(group)) for user, group in session.execute(select(membership))}
    return rows, links


def play(factory, steps):
    with factory() as session:
        player = Player(session)
        for word, *rest in steps:
            getattr(player, word)(*rest)
        session.commit()


TRIALS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@TRIALS
@given(steps=STEPS)
def test_the_recorded_changes_of_any_program_give_the_tables(tmp_path_factory, steps):
    url = f"sqlite:///{tmp_path_factory.mktemp('program') / 'app.db'}"
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def fast(connection, record):
        connection.execute("PRAGMA synchronous = OFF")

    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    with AuditTrail(url, lifecycle=False) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        play(factory, steps)
        assert replay(trail) == tables(engine)
        assert not told(trail) or trail.verify().result is Result.UNANCHORED
    engine.dispose()


@pytest.fixture(scope="module")
def postgres():
    """One database for all programs: each begins with empty tables."""
    url = new_database()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    with AuditTrail(url, lifecycle=False) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        yield trail, engine, factory
    engine.dispose()


@TRIALS
@given(steps=STEPS)
def test_the_recorded_changes_of_any_program_give_the_tables_on_postgresql(postgres, steps):
    trail, engine, factory = postgres
    since = len(told(trail))
    with engine.begin() as connection:
        names = ", ".join(f'"{model.__tablename__}"' for model in (Person, Patient, Note, User, Group))
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    play(factory, steps)
    assert replay(trail, since) == tables(engine)
