"""Values of which the row makes others: rounded, padded, converted; and what nobody can read. The trail tells them."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import (
    ARRAY,
    CHAR,
    NCHAR,
    REAL,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    ForeignKey,
    Integer,
    Numeric,
    String,
    Table,
    Time,
    TypeDecorator,
    Uuid,
    delete,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column, relationship

from audit_core.orm.sqlalchemy.kept import keeps
from tests.orm.models import Colour, Stock, statements, told

NOON = datetime(2024, 1, 1, 12, 0, 0, 600_000)  # noqa: DTZ001 - of no time zone
EAST = timezone(timedelta(hours=2))
HERE = {"postgresql": postgresql.dialect(), "sqlite": sqlite.dialect()}
BOTH = [*HERE]
UNTOLD = ("[unreadable]", None)  # a document, in which there may be secrets


def test_a_new_value_is_what_the_row_makes_of_the_one_that_it_is_given(session, trail):
    stock = Stock(price=Decimal("1.005"), size="7", colour="RED", state="x")
    session.add(stock)
    session.commit()
    ((_, _, created),) = told(trail)
    assert [created[name] for name in ("price", "size", "colour")] == [
        (None, str(stock.price)),
        (None, 7),
        (None, "red"),
    ]
    stock.price += Decimal("0.001")  # the row holds the same as before
    session.commit()
    assert told(trail)[1][2].keys() == {"touched", "stamped"}


def test_what_is_no_number_is_told_where_the_row_holds_it(session, engine, trail):
    session.add(Stock(price=Decimal("NaN")))
    session.commit()
    assert told(trail)[0][2].get("price") == (None if engine.dialect.name == "sqlite" else (None, "NaN"))


def test_what_the_row_made_of_a_value_is_the_old_one_of_the_next_flush(factory, trail):
    with factory(expire_on_commit=False) as session:
        stock = Stock(price=Decimal("1.005"), size="7")
        session.add(stock)
        session.flush()
        stock.state = "x"
        session.flush()
        stock.price, stock.size = Decimal("2.00"), "8"
        session.commit()
        session.delete(stock)
        session.commit()
    created, _, updated, deleted = (changes for _, _, changes in told(trail))
    assert updated["price"] == (created["price"][1], "2.00")
    assert updated["size"] == (7, 8)
    assert deleted["size"] == (8, None)


def test_rows_of_a_class_are_read_back_with_one_query_and_others_with_none(session, trail, engine):
    session.add_all([Stock(price=Decimal(f"{number}.5"), size=number, colour=Colour.RED) for number in range(3)])
    seen = statements(engine)
    session.flush()
    assert not any(statement.startswith("SELECT") for statement in seen)
    session.add_all([Stock(size=str(number)) for number in range(3)])
    session.flush()
    assert sum(statement.startswith("SELECT") for statement in seen) == 1
    session.commit()
    assert [changes["size"] for _, _, changes in told(trail)] == [(None, number) for number in (0, 1, 2, 0, 1, 2)]


@pytest.fixture
def badge(engine):
    """Its key is one that the row writes in its own way."""

    class Own(DeclarativeBase):
        pass

    class Badge(Own):
        __tablename__ = "badge"
        code = mapped_column(CHAR(4), primary_key=True)
        number = mapped_column(Uuid(as_uuid=False), primary_key=True)
        uses: Mapped[int]

    Own.metadata.create_all(engine)
    yield Badge
    Own.registry.dispose()


def test_one_object_has_one_id_whichever_way_its_key_was_given(session, engine, trail, badge):
    one = badge(code="ab", number="ABCDEF00-0000-0000-0000-000000000001", uses=1)
    session.add(one)
    session.flush()
    one.uses = 2
    session.flush()
    one.code = "xy"
    session.flush()
    one.uses = 3
    session.flush()
    session.delete(one)
    session.commit()
    rest = "  " if engine.dialect.name == "postgresql" else ""
    first, second = (f"badge:{code}{rest},abcdef00-0000-0000-0000-000000000001" for code in ("ab", "xy"))
    events = told(trail)
    assert [about for _, about, _ in events] == [first, first, second, second, second]
    assert events[2][2] == {"code": ("ab" + rest, "xy" + rest)}


def test_a_link_names_both_of_its_ends_as_the_events_of_their_rows_do(session, engine, trail):
    class Own(DeclarativeBase):
        pass

    pairs = Table(
        "wearing", Own.metadata, Column("a", ForeignKey("wearer.number")), Column("b", ForeignKey("pin.number"))
    )

    class Pin(Own):
        __tablename__ = "pin"
        number = mapped_column(Uuid(as_uuid=False), primary_key=True)

    class Wearer(Own):
        __tablename__ = "wearer"
        number = mapped_column(Uuid(as_uuid=False), primary_key=True)
        pins = relationship(Pin, secondary=pairs)

    Own.metadata.create_all(engine)
    pin = Pin(number="ABCDEF00-0000-0000-0000-000000000001")
    one = Wearer(number="ABCDEF00-0000-0000-0000-000000000002", pins=[pin])
    session.add(one)
    session.flush()
    one.pins = []
    session.commit()
    about, other = "wearer:abcdef00-0000-0000-0000-000000000002", "abcdef00-0000-0000-0000-000000000001"
    ends = [event for event in told(trail) if event[0] in {"link", "unlink"}]
    assert ends == [("link", about, {"pins": (None, [other])}), ("unlink", about, {"pins": ([other], None)})]
    Own.registry.dispose()


def test_an_object_in_the_place_of_another_has_the_id_of_its_row(session, trail, badge):
    key = {"code": "abcd", "number": "ABCDEF00-0000-0000-0000-000000000001"}
    one = badge(**key, uses=1)
    session.add(one)
    session.flush()
    session.delete(one)
    session.add(badge(**key, uses=2))
    session.commit()
    about = "badge:abcd,abcdef00-0000-0000-0000-000000000001"
    assert [event[:2] for event in told(trail)] == [("create", about), ("update", about)]
    assert told(trail)[1][2] == {"uses": (1, 2)}


def test_values_of_postgresql_are_told_as_they_are_read_again(session, engine, trail):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no such types")

    class Own(DeclarativeBase):
        pass

    class Kind(Own):
        __tablename__ = "kind"
        id: Mapped[int] = mapped_column(primary_key=True)
        code = mapped_column(CHAR(4))
        rough = mapped_column(REAL)
        second = mapped_column(postgresql.TIMESTAMP(precision=0))
        at = mapped_column(DateTime(timezone=True))
        span = mapped_column(postgresql.DATERANGE)
        prices = mapped_column(ARRAY(Numeric(5, 1)))
        exact = mapped_column(Numeric)
        whole = mapped_column(REAL)
        open = mapped_column(postgresql.INT4RANGE)
        none = mapped_column(postgresql.INT4RANGE)
        number = mapped_column(Uuid(as_uuid=False))
        short = mapped_column(String(3))

    Own.metadata.create_all(engine)
    span = postgresql.Range(date(2024, 1, 1), date(2024, 1, 31), bounds="[]")
    kind = Kind(id=1, code="ab", rough=0.123456789, second=NOON, at=NOON, span=span, prices=[Decimal("1.25")])
    kind.exact, kind.whole, kind.number, kind.short = 0.1 + 0.2, 2**24 + 1, UUID(int=10).hex, "ab     "
    kind.open, kind.none = postgresql.Range(None, 5), postgresql.Range(5, 5)
    session.add(kind)
    session.commit()
    session.delete(kind)  # read anew
    session.commit()
    created, deleted = (changes for _, _, changes in told(trail))
    assert {name: new for name, (_, new) in created.items()} == {name: old for name, (old, _) in deleted.items()}
    assert created["code"] == (None, "ab  ")
    assert created["exact"] == (None, "0.3")
    Own.registry.dispose()


class Secret(TypeDecorator):
    impl, cache_ok = String, True


class Locked(TypeDecorator):
    """Its key is lost."""

    impl, cache_ok = String, True

    def process_result_value(self, value, dialect):
        raise RuntimeError


@pytest.fixture
def order(engine):
    class Own(DeclarativeBase):
        pass

    class Order(Own):
        __tablename__ = "order"
        id: Mapped[int] = mapped_column(primary_key=True)
        colour = mapped_column(Enum(Colour, native_enum=False))
        note = deferred(mapped_column(Locked))
        more = deferred(mapped_column(Locked))
        day: Mapped[date | None]

    Own.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            text("""INSERT INTO "order" (id, colour, note, more) VALUES (1, 'OLD', 'ciphertext', :more)"""),
            {"more": '{"pin": 1234'},
        )
    yield Order
    Own.registry.dispose()


def test_what_no_type_can_read_keeps_nobody_from_writing_it(session, trail, order):
    session.execute(update(order).values(colour=Colour.RED))
    session.execute(update(order), [{"id": 1, "note": "new"}])
    session.get(order, 1).note = "newer"
    session.flush()
    session.execute(update(order).where(order.id == 1).values(note="newest").returning(order.id))
    session.execute(delete(order))
    session.commit()
    assert told(trail) == [
        ("update", "order:1", {"colour": ("OLD", "red")}),
        ("update", "order:1", {"note": ("ciphertext", "new")}),
        ("update", "order:1", {"note": ("new", "newer")}),
        ("update", "order:1", {"note": ("newer", "newest")}),
        ("delete", "order:1", {"id": (1, None), "colour": ("red", None), "note": ("newest", None), "more": UNTOLD}),
    ]


def test_an_object_whose_other_values_no_type_can_read_is_deleted(session, trail, order):
    session.execute(update(order).values(colour=Colour.RED))
    session.delete(session.get(order, 1))
    session.commit()
    assert told(trail, 1)[0][2]["note"] == ("ciphertext", None)


def test_a_day_that_the_driver_does_not_read_fails_as_in_a_query(session, trail, order):
    session.execute(text("""UPDATE "order" SET day = 'infinity'"""))
    session.commit()
    if session.get_bind().dialect.name == "sqlite":  # SQLAlchemy reads it, not the driver
        session.execute(update(order).values(day=NOON.date()))
        session.commit()
        assert told(trail) == [("update", "order:1", {"day": ("infinity", "2024-01-01")})]
        return
    with pytest.raises(DataError):
        session.execute(delete(order))
    session.rollback()
    assert told(trail) == []


def test_a_day_that_the_driver_does_not_read_keeps_nobody_from_writing_something_else(session, trail, order):
    session.execute(text("""UPDATE "order" SET day = 'infinity'"""))
    session.execute(update(order).values(colour=Colour.RED))
    session.commit()
    assert told(trail) == [("update", "order:1", {"colour": ("OLD", "red")})]


@pytest.mark.parametrize(
    ("kind", "value", "where"),
    [
        (Integer(), 7, BOTH),
        (Integer(), "7", []),
        (Integer(), True, []),
        (Boolean(), True, BOTH),
        (Boolean(), 1, []),
        (String(), "ä", BOTH),
        (String(), 5, []),
        (String(3), "abc", BOTH),
        (String(3), "ab     ", ["sqlite"]),
        (CHAR(3), "abc", BOTH),
        (CHAR(3), "ab", ["sqlite"]),
        (NCHAR(3), "ab", ["sqlite"]),
        (CHAR(), "", ["sqlite"]),
        (Numeric(10, 2), Decimal("1.5"), BOTH),
        (Numeric(10, 2), 1, BOTH),
        (Numeric(10, 2), 1.5, BOTH),
        (Numeric(10, 2), Decimal("1.005"), []),
        (Numeric(10, 2), 1.005, []),
        (Numeric(10, 2), "1.5", []),
        (Numeric(), Decimal("NaN"), ["postgresql"]),
        (Numeric(), float("nan"), ["postgresql"]),
        (Numeric(), Decimal("Infinity"), BOTH),
        (Numeric(), 0.1 + 0.2, []),
        (Numeric(20, 2), 123456789012345.67, []),
        (Numeric(20, 2), Decimal("123456789012345.67"), ["postgresql"]),
        (Numeric(30), Decimal("1e20"), ["postgresql"]),
        (Numeric(10), Decimal("1.5"), ["sqlite"]),
        (Numeric(), Decimal("1.123456789012345678"), ["postgresql"]),
        (Float(), 0.1, BOTH),
        (Float(), "0.1", []),
        (Float(), float("nan"), ["postgresql"]),
        (Float(), 2**53, BOTH),
        (Float(), 2**53 + 1, []),
        (Float(), Decimal("0.1"), []),
        (Float(24), 0.1, ["sqlite"]),
        (REAL(), 1, BOTH),
        (REAL(), 2**24, BOTH),
        (REAL(), 2**24 + 1, ["sqlite"]),
        (Double(), -(2**53) - 1, []),
        (REAL(), 0.1, ["sqlite"]),
        (Enum(Colour), Colour.RED, BOTH),
        (Enum(Colour), "RED", []),
        (Enum("a", "b"), "a", BOTH),
        (DateTime(), NOON, BOTH),
        (DateTime(), NOON.replace(tzinfo=UTC), []),
        (DateTime(timezone=True), NOON.replace(tzinfo=EAST), ["postgresql"]),
        (DateTime(timezone=True), NOON, ["sqlite"]),
        (postgresql.TIMESTAMP(precision=3), NOON, []),
        (postgresql.TIMESTAMP(precision=3), NOON.replace(microsecond=0), BOTH),
        (Date(), NOON.date(), BOTH),
        (Date(), NOON, []),
        (Time(), time(12), BOTH),
        (Time(), time(12, tzinfo=EAST), []),
        (Uuid(), UUID(int=7), BOTH),
        (Uuid(as_uuid=False), str(UUID(int=10)), BOTH),
        (Uuid(as_uuid=False), str(UUID(int=10)).upper(), []),
        (Uuid(as_uuid=False), UUID(int=10).hex, []),
        (Uuid(as_uuid=False), "no such thing", []),
        (Uuid(as_uuid=False), UUID(int=10), []),
        (Uuid(), str(UUID(int=10)), []),
        (ARRAY(Integer), [[1, None], [2, 3]], BOTH),
        (ARRAY(Integer), [1, "2"], []),
        (postgresql.INT4RANGE(), postgresql.Range(1, 5), BOTH),
        (postgresql.INT4RANGE(), postgresql.Range(1, 4, bounds="[]"), []),
        (postgresql.INT4RANGE(), postgresql.Range(None, 5), []),
        (postgresql.INT4RANGE(), postgresql.Range(5, None), []),
        (postgresql.INT4RANGE(), postgresql.Range(5, 5), []),
        (postgresql.INT4RANGE(), postgresql.Range("1", "5"), []),
        (postgresql.NUMRANGE(), postgresql.Range(Decimal(1), Decimal("NaN")), []),
        (postgresql.NUMRANGE(), postgresql.Range(Decimal("1.5"), 2), BOTH),
        (postgresql.TSTZRANGE(), postgresql.Range(NOON, NOON.replace(tzinfo=UTC)), []),
        (postgresql.INT4MULTIRANGE(), [postgresql.Range(1, 5)], []),
        (Secret(), 5, BOTH),
    ],
)
def test_which_values_a_row_keeps_as_they_are(kind, value, where):
    rule = keeps(kind)
    assert [name for name in BOTH if rule is None or rule.asked(value, HERE[name])] == where
    assert rule is None or type(value) is not rule.surely or where == BOTH
