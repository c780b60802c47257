"""Mappings that are seldom, and databases that are more than one."""

import uuid

import psycopg
import pytest
from sqlalchemy import ARRAY, Column, ForeignKey, Integer, String, create_engine, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    WriteOnlyMapped,
    column_property,
    composite,
    mapped_column,
    relationship,
    sessionmaker,
)

from audit_core import AuditTrail
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.orm.models import Group, Patient, User, membership, told
from tests.postgres.server import Server, new_database


class Base(DeclarativeBase):
    pass


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __composite_values__(self):
        return self.x, self.y

    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)

    def __hash__(self):
        return hash((self.x, self.y))


class Place(Base):
    __tablename__ = "place"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    first: Mapped[str] = mapped_column("first_name")
    last: Mapped[str | None] = mapped_column("last_name")
    x: Mapped[int] = mapped_column(default=0)
    y: Mapped[int] = mapped_column(default=0)
    point: Mapped[Point] = composite(Point, "x", "y")
    shown = column_property(first + "!")

    @hybrid_property
    def name(self):
        return self.first

    @name.inplace.setter
    def _set_name(self, value):
        self.first = value

    @name.inplace.update_expression
    @classmethod
    def _update_name(cls, value):
        return [(cls.first, value)]


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    loose: DynamicMapped["Book"] = relationship(foreign_keys="Book.loose_id")
    written: WriteOnlyMapped["Book"] = relationship(
        foreign_keys="Book.written_id", cascade="all, delete-orphan", passive_deletes=True
    )
    quiet: Mapped[list["Book"]] = relationship(foreign_keys="Book.quiet_id", passive_deletes="all")
    marks: Mapped[list["Mark"]] = relationship(back_populates="shelf", cascade="all, delete-orphan")
    labels = association_proxy("marks", "label", creator=lambda label: Mark(label=label))


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    loose_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
    written_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
    quiet_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id", ondelete="SET NULL"))


class Mark(Base):
    """A many-to-many through a table that is made by hand."""

    __tablename__ = "mark"
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"), primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    shelf: Mapped[Shelf] = relationship(back_populates="marks")


@pytest.fixture
def session(factory, engine):
    Base.metadata.create_all(engine)
    with factory() as session:
        yield session


def actions(trail, since=0):
    return [(action, resource) for action, resource, _ in told(trail, since)]


def test_fields_have_the_attributes_names_however_they_are_written(session, trail):
    place = Place(id=uuid.UUID(int=7), first="a", point=Point(1, 2))
    session.add(place)
    session.commit()
    place.name, place.point = "b", Point(1, 3)
    session.commit()
    session.execute(update(Place).values({Place.name: "c", Place.point: Point(4, 3)}))
    session.execute(update(Place.__table__).values(first_name="d"))
    session.execute(update(Place), [{"id": place.id, "first": "e", "point": Point(5, 5)}])
    session.commit()
    assert told(trail)[0][1] == "place:00000000-0000-0000-0000-000000000007"
    assert [changes for _, _, changes in told(trail, 1)] == [
        {"first": ("a", "b"), "y": (2, 3)},
        {"first": ("b", "c"), "x": (1, 4)},
        {"first": ("c", "d")},
        {"first": ("d", "e"), "x": (4, 5), "y": (3, 5)},
    ]


def test_dynamic_and_write_only_relationships_to_many_set_a_foreign_key(session, trail):
    shelf, books = Shelf(id=1), [Book(id=number) for number in (1, 2)]
    session.add_all([shelf, *books])
    session.commit()
    shelf.loose.append(books[0])
    shelf.written.add(books[1])
    session.commit()
    shelf.loose.remove(books[0])
    session.execute(shelf.written.insert(), [{"id": 3}])
    session.execute(shelf.written.update().values(loose_id=1))
    shelf.written.remove(books[1])
    session.commit()
    assert told(trail, 3) == [
        ("update", "book:1", {"loose_id": (None, 1)}),
        ("update", "book:2", {"written_id": (None, 1)}),
        *told(trail, 5),
    ]
    assert set(actions(trail, 5)) == {
        ("update", "book:1"),
        ("create", "book:3"),
        ("update", "book:2"),
        ("update", "book:3"),
        ("delete", "book:2"),
    }


def test_what_a_relationship_leaves_to_the_database_is_not_told(session, trail):
    shelf = Shelf(id=1, quiet=[Book(id=1)])
    session.add(shelf)
    session.commit()
    session.delete(shelf)
    session.commit()
    assert actions(trail, 2) == [("delete", "shelf:1")]


def test_a_many_to_many_through_a_hand_made_table_is_its_rows(session, trail):
    shelf = Shelf(id=1, labels=["a", "b"])
    session.add(shelf)
    session.commit()
    shelf.labels.remove("a")
    session.commit()
    shelf.labels.clear()
    session.commit()
    assert actions(trail) == [
        ("create", "shelf:1"),
        ("create", "mark:1,a"),
        ("create", "mark:1,b"),
        ("delete", "mark:1,a"),
        ("delete", "mark:1,b"),
    ]


def test_an_array_and_a_document_of_postgresql(session, engine, trail):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has neither")

    class Own(DeclarativeBase):
        pass

    class Box(Own):
        __tablename__ = "box"
        id: Mapped[int] = mapped_column(primary_key=True)
        numbers = Column(ARRAY(Integer))
        words = Column(ARRAY(String))
        data = Column(JSONB)

    Own.metadata.create_all(engine)
    session.add(Box(id=1, numbers=[1, 2], words=["a"], data={"a": [1]}))
    session.commit()
    session.get(Box, 1).numbers = [2]
    session.commit()
    session.execute(update(Box).values(words=func.array_append(Box.words, "b"), data=Box.data.concat({"b": 2})))
    session.commit()
    assert [changes for _, _, changes in told(trail)] == [
        {"id": (None, 1), "numbers": (None, [1, 2]), "words": (None, ["a"]), "data": (None, {"a": [1]})},
        {"numbers": ([1, 2], [2])},
        {"words": (["a"], ["a", "b"]), "data": ({"a": [1]}, {"a": [1], "b": 2})},
    ]
    Own.registry.dispose()


def test_rows_of_an_association_table_are_links(session, trail):
    session.add_all([User(id=1), User(id=2), Group(id=1), Group(id=2)])
    session.commit()
    session.execute(insert(membership), [{"user_id": 1, "group_id": 1}, {"user_id": 1, "group_id": 2}])
    session.execute(membership.update().where(membership.c.group_id == 2).values(user_id=2))
    session.execute(delete(membership).where(membership.c.user_id == 1))
    session.commit()
    assert told(trail, 4) == [
        ("link", "user:1", {"groups": (None, ["1"])}),
        ("link", "user:1", {"groups": (None, ["2"])}),
        ("unlink", "user:1", {"groups": (["2"], None)}),
        ("link", "user:2", {"groups": (None, ["2"])}),
        ("unlink", "user:1", {"groups": (["1"], None)}),
    ]


def test_a_schema_that_the_engine_translates(engine, trail):
    class Own(DeclarativeBase):
        pass

    class Far(Own):
        __tablename__ = "far"
        __table_args__ = {"schema": "there"}  # noqa: RUF012 - the form of a mapping is SQLAlchemy's
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    here = "main" if engine.dialect.name == "sqlite" else "public"
    translated = engine.execution_options(schema_translate_map={"there": here})
    Own.metadata.create_all(translated)
    factory = sessionmaker(translated)
    SQLAlchemyAuditor(trail).attach(factory)
    with factory() as session:
        session.add(Far(id=1, name="a"))
        session.commit()
        session.execute(update(Far).values(name="b"))
        session.commit()
        session.delete(session.get(Far, 1))
        session.get(Far, 1)
        session.commit()
    assert actions(trail) == [("create", "far:1"), ("update", "far:1"), ("delete", "far:1")]
    Own.registry.dispose()


def test_one_session_on_sqlite_and_on_postgresql(tmp_path):
    lite, url = f"sqlite:///{tmp_path / 'app.db'}", new_database()
    engines = [create_engine(lite), create_engine(url.replace("postgresql:", "postgresql+psycopg:"))]
    for engine in engines:
        Base.metadata.create_all(engine)
        Patient.metadata.create_all(engine)
    factory = sessionmaker(binds={Patient: engines[0], Shelf: engines[1]})
    with AuditTrail(lite, outbox=url, lifecycle=False) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            session.add_all([Patient(name="a"), Shelf()])
            session.flush()
            session.execute(update(Patient).values(name="b"))
            session.execute(insert(Shelf), [{"id": 5}])
            session.commit()
        assert sorted(actions(trail)) == [
            ("create", "patient:1"),
            ("create", "shelf:1"),
            ("create", "shelf:5"),
            ("update", "patient:1"),
        ]
    for engine in engines:
        engine.dispose()


@pytest.fixture(scope="module")
def two_phase_server():
    server = Server(18)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_prepared_transactions = 5")
    server.restart()
    yield server
    server.stop()


def test_a_two_phase_session_commits_its_events_in_the_second_phase(two_phase_server):
    urls = [new_database(url=two_phase_server.url) for _ in range(2)]
    engines = [create_engine(url.replace("postgresql:", "postgresql+psycopg:")) for url in urls]
    for engine in engines:
        Base.metadata.create_all(engine)
        Patient.metadata.create_all(engine)
    factory = sessionmaker(binds={Patient: engines[0], Shelf: engines[1]}, twophase=True)
    with AuditTrail(urls[0], outbox=urls[1], lifecycle=False) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            session.add_all([Patient(name="a"), Shelf()])
            session.flush()
            session.execute(update(Patient).values(name="b"))
            session.prepare()
            assert told(trail) == []
            session.commit()
        with factory() as session:
            session.add_all([Patient(name="undone"), Shelf()])
            session.flush()
            session.prepare()
            session.rollback()
        assert sorted(actions(trail)) == [("create", "patient:1"), ("create", "shelf:1"), ("update", "patient:1")]
        with factory() as session:
            assert session.scalars(select(Patient.name)).all() == ["b"]
    for engine in engines:
        engine.dispose()
