"""What a flush wrote: SQLite with the trail in the same file, and a memory trail."""

import warnings
from decimal import Decimal

import pytest
from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import column_property, registry, relationship, sessionmaker
from sqlalchemy.orm.attributes import flag_modified

from audit_core import AuditTrail
from audit_core.integrity.verify import Result
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.orm.models import (
    ApiToken,
    Base,
    Colour,
    Composite,
    Doctor,
    Group,
    Lazy,
    Login,
    Member,
    Node,
    Note,
    Patient,
    Person,
    Post,
    Stock,
    Tag,
    Team,
    User,
    Versioned,
    events,
    statements,
    told,
)

# --- Create, update, delete


def test_create_update_delete_with_old_and_new_values(session, trail):
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
    trail.flush()
    assert trail.verify().result is Result.UNANCHORED


def test_only_what_was_written_is_in_the_event(session, trail):
    session.add(Stock(price=Decimal("10.00")))
    session.commit()
    stock = session.get(Stock, 1)
    stock.price = 10  # equal: not written
    stock.colour = Colour.BLUE
    session.commit()
    assert told(trail, 1) == [
        ("update", "stock:1", {"colour": (None, "blue"), "touched": (None, 7), "stamped": (None, "stamp")})
    ]


def test_what_a_listener_assigns_after_the_write_is_not_written(session, trail):
    @event.listens_for(Versioned, "after_update")
    def assign(mapper, connection, target):
        target.name = "never written"

    try:
        row = Versioned(name="a")
        session.add(row)
        session.commit()
        row.name = "b"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session.commit()
    finally:
        event.remove(Versioned, "after_update", assign)
    assert told(trail, 1) == [("update", "versioned:1", {"name": ("a", "b"), "version": (1, 2)})]


def test_what_a_listener_assigns_before_the_write_is_written(session, trail):
    @event.listens_for(Versioned, "before_update")
    def assign(mapper, connection, target):
        target.name = target.name.upper()

    try:
        row = Versioned(name="a")
        session.add(row)
        session.commit()
        row.name = "b"
        session.commit()
    finally:
        event.remove(Versioned, "before_update", assign)
    assert told(trail, 1) == [("update", "versioned:1", {"name": ("a", "B"), "version": (1, 2)})]


@pytest.mark.parametrize("made", [lambda: ApiToken(key="s3cr3t"), lambda: Login(session_key="s3cr3t")])
def test_a_key_that_is_a_secret_is_told_as_the_same_hash_in_every_event(session, trail, made):
    secret = made()
    session.add(secret)
    session.commit()
    secret.uses += 1
    session.commit()
    session.delete(secret)
    session.commit()
    assert {event.resource_id for event in events(trail)} == {trail.redactor.keyed_hash("s3cr3t")}
    assert len(events(trail)) == 3
    assert "s3cr3t" not in str(events(trail))


# --- Values that the database computes, and those that the session does not know


def test_server_default_generated_key_and_computed_column_are_resolved(session, trail):
    session.add(Stock(size=4))
    session.commit()
    assert told(trail) == [
        ("create", "stock:1", {"id": (None, 1), "size": (None, 4), "state": (None, "new"), "double": (None, 8)})
    ]


def test_without_returning_they_are_read_back_with_one_query_for_the_batch(session, trail, engine):
    session.add_all([Lazy(name=str(i)) for i in range(5)])
    seen = statements(engine)
    session.commit()
    assert sum(statement.startswith("SELECT") for statement in seen) == 1
    assert [changes["state"] for _, _, changes in told(trail)] == [(None, "new")] * 5


def test_an_update_computes_in_the_database_from_its_own_column(session, trail):
    row = Stock(size=1)
    session.add(row)
    session.commit()
    row.size = Stock.size + 1
    session.flush()
    row.size = Stock.size + 1
    session.commit()
    assert [changes["size"] for _, _, changes in told(trail)] == [(None, 1), (1, 2), (2, 3)]
    assert [changes["double"] for _, _, changes in told(trail)] == [(None, 2), (2, 4), (4, 6)]


def test_expired_attributes_that_are_overwritten_have_old_values_from_one_query(session, trail, engine):
    patients = [Patient(name=f"p{i}") for i in range(5)]
    session.add_all(patients)
    session.commit()
    for patient in patients:
        patient.name += "!"
    session.commit()
    ids = [patient.id for patient in patients]
    session.expire_all()
    for patient in patients:
        patient.ward = "W"  # its key is expired too: the unit of work loads each
    seen = statements(engine)
    session.commit()
    assert sum("ward" in s and s.startswith("SELECT") and " IN (" in s for s in seen) == 1
    assert told(trail, 10) == [("update", f"patient:{i}", {"ward": (None, "W")}) for i in ids]
    for patient in patients:
        patient.name = "x"
    session.commit()
    assert [changes for _, _, changes in told(trail, 15)] == [{"name": (f"p{i}!", "x")} for i in range(5)]


def test_a_delete_tells_deferred_and_expired_values_too(session, trail):
    session.add(Stock(image=b"png"))
    session.commit()
    session.delete(session.get(Stock, 1))
    session.commit()
    assert told(trail)[1][2]["image"] == ("png", None)
    assert told(trail)[1][2]["state"] == ("new", None)


def test_json_changed_in_place_and_then_replaced_has_what_the_row_held(session, trail):
    session.add(Stock(plain={"a": 1}))
    session.commit()
    stock = session.get(Stock, 1)
    stock.plain["b"] = 2
    stock.plain = {**stock.plain, "c": 3}
    session.commit()
    assert told(trail)[1][2]["plain"] == ({"a": 1}, {"a": 1, "b": 2, "c": 3})


def test_a_flag_without_a_change_is_no_event(session, trail):
    session.add(Patient(name="Ann"))
    session.commit()
    patient = session.get(Patient, 1)
    flag_modified(patient, "name")
    session.commit()
    assert len(told(trail)) == 1


def test_the_default_of_an_update_is_called_once(session, trail, engine):
    session.add(Stock(size=1))
    session.commit()
    seen = statements(engine)
    session.get(Stock, 1)
    session.expire_all()
    stock = session.get(Stock, 1)
    session.expire(stock, ["size"])
    stock.size = 2
    session.commit()
    assert sum("touched=" in statement for statement in seen) == 1
    assert told(trail, 1) == [
        ("update", "stock:1", {"size": (1, 2), "double": (2, 4), "touched": (None, 7), "stamped": (None, "stamp")})
    ]


def test_a_null_of_json_is_none(session, trail):
    stock = Stock(plain={"a": 1})
    session.add(stock)
    session.commit()
    stock.plain = JSON.NULL
    session.commit()
    session.delete(stock)
    session.commit()
    assert told(trail)[1][2]["plain"] == ({"a": 1}, None)
    assert "plain" not in told(trail)[2][2]


# --- Keys and mappings


def test_composite_keys_are_read_in_one_query(session, trail, engine):
    rows = [Composite(a=a, b=b, v="old") for a in "xy" for b in (1, 2)]
    session.add_all(rows)
    session.commit()
    for row in rows:
        session.expire(row, ["v"])
        row.v = "new"
    seen = statements(engine)
    session.flush()
    assert sum(" OR " in statement for statement in seen) == 1
    session.commit()
    assert [changes["v"] for _, _, changes in told(trail, 4)] == [("old", "new")] * 4


def test_joined_inheritance_is_one_event_with_the_fields_of_all_tables(session, trail):
    session.add(Doctor(name="Who", field="time"))
    session.commit()
    session.expunge_all()
    person = session.get(Person, 1)
    person.name, person.field = "Strange", "space"
    session.commit()
    session.expunge_all()
    session.delete(session.scalars(select(Person)).one())  # the doctor's own table is not loaded
    session.commit()
    assert told(trail) == [
        (
            "create",
            "doctor:1",
            {"id": (None, 1), "kind": (None, "doctor"), "name": (None, "Who"), "field": (None, "time")},
        ),
        ("update", "doctor:1", {"name": ("Who", "Strange"), "field": ("time", "space")}),
        (
            "delete",
            "doctor:1",
            {"id": (1, None), "kind": ("doctor", None), "name": ("Strange", None), "field": ("space", None)},
        ),
    ]


def test_a_key_that_a_cascade_changes_is_written_for_the_child_too(engine, factory, trail):
    base = registry()

    class Owner:
        pass

    class Owned:
        pass

    owners = Table("owners", base.metadata, Column("name", String, primary_key=True))
    owned = Table(
        "owned",
        base.metadata,
        Column("owner", String, primary_key=True),
        ForeignKeyConstraint(["owner"], ["owners.name"], deferrable=True, initially="DEFERRED"),
    )
    base.map_imperatively(Owned, owned)
    base.map_imperatively(Owner, owners, properties={"owned": relationship(Owned, passive_updates=False)})
    base.metadata.create_all(engine)
    with factory() as session:
        owner = Owner()
        owner.name, owner.owned = "a", [Owned()]
        session.add(owner)
        session.commit()
        owner.name = "b"
        session.commit()
    assert [(action, resource) for action, resource, _ in told(trail)] == [
        ("create", "owner:a"),
        ("create", "owned:a"),
        ("update", "owner:b"),
        ("update", "owned:b"),
    ]
    base.dispose()


def test_a_key_that_was_given_as_another_type_than_the_drivers(session, trail):
    rows = [Patient(id=str(number), name="old") for number in (7, 8)]
    session.add_all(rows)
    session.commit()
    for row in rows:
        row.name = "new"
    session.commit()
    assert told(trail, 2) == [("update", f"patient:{number}", {"name": ("old", "new")}) for number in (7, 8)]


def test_a_column_that_the_class_gets_later_is_a_field(factory, engine, trail):
    mappings = registry()
    table = Table("late", mappings.metadata, Column("id", Integer, primary_key=True))

    class Late:
        pass

    mapper = mappings.map_imperatively(Late, table)
    table.create(engine)
    with factory() as session:
        session.add(Late())
        session.commit()
        session.execute(text("ALTER TABLE late ADD COLUMN extra VARCHAR(9)"))
        table.append_column(extra := Column("extra", String))
        mapper.add_property("extra", extra)
        late = Late()
        late.extra = "x"
        session.add(late)
        session.commit()
    assert told(trail)[1][2] == {"id": (None, 2), "extra": (None, "x")}
    mappings.dispose()


def test_a_class_whose_mapping_failed_is_nobody_elses_trouble(factory, engine, trail):
    mappings = registry()
    table = Table("whole", mappings.metadata, Column("id", Integer, primary_key=True))

    @mappings.mapped
    class Whole:
        __table__ = table

    with pytest.raises(ArgumentError):
        mappings.mapped(
            type("Broken", (), {"__table__": Table("broken", mappings.metadata, Column("no_key", Integer))})
        )
    table.create(engine)
    with factory() as session:
        session.add(Whole())
        session.commit()
    assert told(trail) == [("create", "whole:1", {"id": (None, 1)})]


def test_a_class_mapped_to_a_join_and_one_with_a_table_of_its_own(factory, engine, trail):
    mappings = registry()
    left = Table("lefts", mappings.metadata, Column("id", Integer, primary_key=True), Column("v", String))
    right = Table(
        "rights", mappings.metadata, Column("left_id", ForeignKey("lefts.id"), primary_key=True), Column("w", String)
    )

    @mappings.mapped
    class Both:
        __table__ = left.join(right)
        id = column_property(left.c.id, right.c.left_id)

    @mappings.mapped
    class Concrete(Both):
        __table__ = Table(
            "concretes",
            mappings.metadata,
            Column("id", Integer, primary_key=True),
            Column("v", String),
            Column("w", String),
        )
        __mapper_args__ = {"concrete": True}  # noqa: RUF012

    mappings.metadata.create_all(engine)
    with factory() as session:
        row, other = Both(v="1", w="2"), Concrete(v="3")
        session.add_all([row, other])
        session.commit()
        row.v, row.w, other.v = "one", "two", "three"
        session.commit()
    assert sorted(told(trail, 2)) == [
        ("update", "both:1", {"v": ("1", "one"), "w": ("2", "two")}),
        ("update", "concrete:1", {"v": ("3", "three")}),
    ]
    mappings.dispose()


def test_a_sharded_session_carries_each_change_where_its_row_is(tmp_path):
    urls = [f"sqlite:///{tmp_path / name}" for name in ("one.db", "two.db")]
    shards = dict(zip(("one", "two"), map(create_engine, urls), strict=True))
    for engine in shards.values():
        Base.metadata.create_all(engine)
    factory = sessionmaker(
        class_=ShardedSession,
        shards=shards,
        shard_chooser=lambda mapper, instance, clause=None: "two" if instance and instance.id > 100 else "one",
        identity_chooser=lambda *arguments, **options: list(shards),
        execute_chooser=lambda context: list(shards),
    )
    with AuditTrail(urls[0], outbox=urls[1], lifecycle=False) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            rows = [Patient(id=number, name="old") for number in (1, 2, 101, 102)]
            session.add_all(rows)
            session.commit()
            for row in rows:
                session.expire(row, ["name"])
                row.name = "new"
            session.commit()
        trail.flush()
        updates = sorted(line for line in told(trail) if line[0] == "update")
        assert updates == [("update", f"patient:{n}", {"name": ("old", "new")}) for n in (1, 101, 102, 2)]
    for engine in shards.values():
        engine.dispose()


# --- Relationships


def test_orphans_are_deleted_with_one_query_for_all(session, trail, engine):
    session.add(Patient(name="Ann", notes=[Note(text=str(i)) for i in range(4)]))
    session.commit()
    patient = session.get(Patient, 1)
    for note in list(patient.notes):
        session.expire(note, ["text"])
        patient.notes.remove(note)
    seen = statements(engine)
    session.commit()
    assert sum(s.startswith("SELECT note.id") and "note.text" in s for s in seen) == 1
    assert [(action, changes["text"]) for action, _, changes in told(trail, 5)] == [
        ("delete", (str(i), None)) for i in range(4)
    ]


def test_a_foreign_key_set_through_a_relationship_is_a_field(session, trail):
    session.add_all([Patient(name="Ann", notes=[Note(text="a")]), Patient(name="Beth")])
    session.commit()
    session.get(Note, 1).patient = session.get(Patient, 2)
    session.commit()
    assert told(trail, 3) == [("update", "note:1", {"patient_id": (1, 2)})]


def test_a_relationship_written_with_an_update_of_its_own(session, trail):
    team, member = Team(), Member()
    member.team, team.lead = team, member
    session.add_all([team, member])
    session.commit()
    assert told(trail) == [
        ("create", "team:1", {"id": (None, 1), "lead_id": (None, 1)}),
        ("create", "member:1", {"id": (None, 1), "team_id": (None, 1)}),
    ]
    other = Member()
    team.lead = other
    session.commit()
    assert ("update", "team:1", {"lead_id": (1, 2)}) in told(trail, 2)
    team.lead = None
    session.commit()
    assert told(trail)[-1] == ("update", "team:1", {"lead_id": (2, None)})


def test_links_of_many_to_many_from_either_side_are_one_event(session, trail):
    user, other, group = User(), User(), Group()
    session.add_all([user, other, group])
    session.commit()
    user.groups.append(group)
    session.commit()
    group.users.append(other)
    group.users.remove(user)
    session.commit()
    other.groups.clear()
    session.commit()
    assert told(trail, 3) == [
        ("link", "user:1", {"groups": (None, ["1"])}),
        ("unlink", "user:1", {"groups": (["1"], None)}),
        ("link", "user:2", {"groups": (None, ["1"])}),
        ("unlink", "user:2", {"groups": (["1"], None)}),
    ]


def test_setting_a_collection_links_and_unlinks_what_differs_and_no_others(session, trail):
    groups = [Group() for _ in range(4)]
    user = User(groups=groups[:3])
    session.add_all([user, *groups])
    session.commit()
    user.groups = groups[1:]
    session.commit()
    assert told(trail)[5] == ("link", "user:1", {"groups": (None, ["1", "2", "3"])})
    assert told(trail, 6) == [
        ("unlink", "user:1", {"groups": (["1"], None)}),
        ("link", "user:1", {"groups": (None, ["4"])}),
    ]


def test_deleting_one_end_unlinks_it(session, trail):
    group = Group(users=[User(), User()])
    session.add(group)
    session.commit()
    session.delete(group)
    session.commit()
    assert told(trail)[-3:] == [
        ("unlink", "user:1", {"groups": (["1"], None)}),
        ("unlink", "user:2", {"groups": (["1"], None)}),
        ("delete", "group:1", {"id": (1, None)}),
    ]


def test_links_among_objects_of_one_class(session, trail):
    one, two, three = Node(), Node(), Node()
    session.add_all([one, two, three])
    session.commit()
    one.follows.append(two)
    one.followers.append(three)
    session.commit()
    session.delete(one)
    session.commit()
    assert told(trail, 3) == [
        ("link", "node:1", {"follows": (None, ["2"])}),
        ("link", "node:3", {"follows": (None, ["1"])}),
        ("unlink", "node:1", {"follows": (["2"], None)}),
        ("unlink", "node:3", {"follows": (["1"], None)}),
        ("delete", "node:1", {"id": (1, None)}),
    ]


def test_dynamic_and_write_only_relationships(session, trail):
    post, tags = Post(), [Tag(), Tag()]
    session.add_all([post, *tags])
    session.commit()
    post.dynamic.append(tags[0])
    post.written.add(tags[1])
    session.commit()
    post.dynamic.remove(tags[0])
    post.dynamic.append(tags[1])
    post.written.remove(tags[1])
    session.commit()
    session.delete(post)
    session.commit()
    assert told(trail, 3) == [
        ("link", "post:1", {"dynamic": (None, ["1"])}),
        ("link", "post:1", {"written": (None, ["2"])}),
        ("unlink", "post:1", {"dynamic": (["1"], None)}),
        ("unlink", "post:1", {"written": (["2"], None)}),
        ("link", "post:1", {"dynamic": (None, ["2"])}),
        ("unlink", "post:1", {"dynamic": (["2"], None)}),
        ("delete", "post:1", {"id": (1, None)}),
    ]


def test_links_of_a_class_that_is_excluded_are_not_told(engine, trail):
    factory = sessionmaker(engine)
    SQLAlchemyAuditor(trail, exclude=[User]).attach(factory)
    with factory() as session:
        session.add(User(groups=[Group()]))
        session.commit()
    assert told(trail) == [("create", "group:1", {"id": (None, 1)})]
