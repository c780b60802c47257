"""Any program at all: what was recorded, replayed from nothing, gives the tables."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, inspect, select
from sqlalchemy.orm import Session, sessionmaker

from audit_core import AuditTrail
from audit_core.integrity.verify import Result
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.orm.models import Base, Doctor, Group, Note, Nurse, Patient, Person, User, membership, told

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.integers(0, 3), st.sampled_from(["a", "b", None])),
        st.tuples(st.just("update"), st.integers(0, 9), st.sampled_from(["a", "b", "c", None])),
        st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.just("link"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("expire_and_update"), st.integers(0, 9), st.sampled_from(["a", "b", None])),
        *[st.tuples(st.just(word)) for word in ("flush", "begin", "release", "undo", "commit", "rollback")],
    ),
    max_size=25,
)


class Player:
    """Carries out one step after the other; a step that finds nothing to work on does nothing."""

    def __init__(self, session):
        self.session = session
        self.savepoints = []

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


def replay(trail):
    rows, links = {}, set()
    for action, resource, changes in told(trail):
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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        with factory() as session:
            player = Player(session)
            for word, *rest in steps:
                getattr(player, word)(*rest)
            session.commit()
        assert replay(trail) == tables(engine)
        assert not told(trail) or trail.verify().result is Result.UNANCHORED
    engine.dispose()
