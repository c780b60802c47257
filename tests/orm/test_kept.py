"""Values of which the row makes others: rounded, padded, converted; and what nobody can read. The trail tells them."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import (
    ARRAY,
    CHAR,
    REAL,
    Boolean,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Numeric,
    String,
    Time,
    TypeDecorator,
    Uuid,
    delete,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column

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

    Own.metadata.create_all(engine)
    span = postgresql.Range(date(2024, 1, 1), date(2024, 1, 31), bounds="[]")
    kind = Kind(id=1, code="ab", rough=0.123456789, second=NOON, at=NOON, span=span, prices=[Decimal("1.25")])
    session.add(kind)
    session.commit()
    session.delete(kind)  # read anew
    session.commit()
    created, deleted = (changes for _, _, changes in told(trail))
    assert {name: new for name, (_, new) in created.items()} == {name: old for name, (old, _) in deleted.items()}
    assert created["code"] == (None, "ab  ")
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
        (CHAR(3), "abc", BOTH),
        (CHAR(3), "ab", ["sqlite"]),
        (Numeric(10, 2), Decimal("1.5"), BOTH),
        (Numeric(10, 2), 1, BOTH),
        (Numeric(10, 2), 1.5, BOTH),
        (Numeric(10, 2), Decimal("1.005"), []),
        (Numeric(10, 2), 1.005, []),
        (Numeric(10, 2), "1.5", []),
        (Numeric(), Decimal("NaN"), BOTH),
        (Numeric(), Decimal("1.123456789012345678"), ["postgresql"]),
        (Float(), 0.1, BOTH),
        (Float(), "0.1", []),
        (Float(), Decimal("0.1"), []),
        (Float(24), 0.1, ["sqlite"]),
        (REAL(), 1, BOTH),
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
        (ARRAY(Integer), [[1, None], [2, 3]], BOTH),
        (ARRAY(Integer), [1, "2"], []),
        (postgresql.INT4RANGE(), postgresql.Range(1, 5), BOTH),
        (postgresql.INT4RANGE(), postgresql.Range(1, 4, bounds="[]"), []),
        (Secret(), 5, BOTH),
    ],
)
def test_which_values_a_row_keeps_as_they_are(kind, value, where):
    rule = keeps(kind)
    assert [name for name in BOTH if rule is None or rule.asked(value, HERE[name])] == where
    assert rule is None or type(value) is not rule.surely or where == BOTH
