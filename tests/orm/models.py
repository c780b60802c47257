"""The classes that the tests of SQLAlchemy map, and how their events are read."""

import enum
import uuid
from decimal import Decimal

from sqlalchemy import JSON, Column, Computed, Enum, ForeignKey, LargeBinary, Numeric, Table, Uuid, event, func
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    WriteOnlyMapped,
    column_property,
    deferred,
    mapped_column,
    relationship,
)


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Patient(Base):
    __tablename__ = "patient"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    ward: Mapped[str | None]
    password: Mapped[str | None]
    notes: Mapped[list["Note"]] = relationship(back_populates="patient", cascade="all, delete-orphan")


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patient.id"))
    text: Mapped[str]
    patient: Mapped[Patient] = relationship(back_populates="notes")


class Stock(Base):
    """One column of each kind that is hard."""

    __tablename__ = "stock"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    colour: Mapped[Colour | None] = mapped_column(Enum(Colour))
    data: Mapped[dict | None] = mapped_column(MutableDict.as_mutable(JSON))
    plain: Mapped[dict | None] = mapped_column(JSON)
    image: Mapped[bytes | None] = deferred(mapped_column(LargeBinary))
    state: Mapped[str] = mapped_column(server_default="new")
    size: Mapped[int] = mapped_column(default=1)
    double: Mapped[int | None] = mapped_column(Computed("size * 2"))
    touched: Mapped[int | None] = mapped_column(onupdate=lambda: 7)
    stamped: Mapped[str | None] = mapped_column(onupdate=func.lower("STAMP"))
    length = column_property(func.length(state))


class Lazy(Base):
    """Without RETURNING: generated values are read back."""

    __tablename__ = "lazy"
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012 - the form of a mapping is SQLAlchemy's
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="new")


class Composite(Base):
    __tablename__ = "composite"
    a: Mapped[str] = mapped_column(primary_key=True)
    b: Mapped[int] = mapped_column(primary_key=True)
    v: Mapped[str | None]


class Token(Base):
    __tablename__ = "tokens"
    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=lambda: uuid.UUID(int=5))
    name: Mapped[str]


class ApiToken(Base):
    """Its key is the secret itself."""

    __tablename__ = "api_token"
    key: Mapped[str] = mapped_column(primary_key=True)
    uses: Mapped[int] = mapped_column(default=0)


class Login(Base):
    """Only the name of its key says that it is one."""

    __tablename__ = "login"
    session_key: Mapped[str] = mapped_column(primary_key=True)
    uses: Mapped[int] = mapped_column(default=0)


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 - the same


class Doctor(Person):
    __tablename__ = "doctor"
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    field: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "doctor"}  # noqa: RUF012 - the same


class Nurse(Person):
    shift: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "nurse"}  # noqa: RUF012 - the same


membership = Table(
    "membership",
    Base.metadata,
    Column("user_id", ForeignKey("user.id"), primary_key=True),
    Column("group_id", ForeignKey("group.id"), primary_key=True),
)


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    groups: Mapped[list["Group"]] = relationship(secondary=membership, back_populates="users")


class Group(Base):
    __tablename__ = "group"
    id: Mapped[int] = mapped_column(primary_key=True)
    users: Mapped[list[User]] = relationship(secondary=membership, back_populates="groups")


class Team(Base):
    """Refers to a member that refers to it: written with an UPDATE of its own."""

    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    lead_id: Mapped[int | None] = mapped_column(ForeignKey("member.id"))
    lead = relationship("Member", foreign_keys=lead_id, post_update=True)


class Member(Base):
    __tablename__ = "member"
    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id"))
    team = relationship(Team, foreign_keys=team_id)


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the same


follows = Table(
    "follows",
    Base.metadata,
    Column("follower_id", ForeignKey("node.id"), primary_key=True),
    Column("followed_id", ForeignKey("node.id"), primary_key=True),
)


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    follows: Mapped[list["Node"]] = relationship(
        secondary=follows,
        primaryjoin=id == follows.c.follower_id,
        secondaryjoin=id == follows.c.followed_id,
        backref="followers",
    )


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)


class Post(Base):
    """Two relationships to the same class that are never loaded as a list, and one that is only looked at."""

    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    dynamic: DynamicMapped[Tag] = relationship(secondary=lambda: post_dynamic)
    written: WriteOnlyMapped[Tag] = relationship(secondary=lambda: post_written, passive_deletes=True)
    seen: Mapped[list[Tag]] = relationship(secondary=lambda: post_dynamic, viewonly=True)


post_dynamic, post_written = (
    Table(
        name,
        Base.metadata,
        Column("post_id", ForeignKey("post.id"), primary_key=True),
        Column("tag_id", ForeignKey("tag.id"), primary_key=True),
    )
    for name in ("post_dynamic", "post_written")
)


def events(trail):
    own = {"log.created", "trail.started", "trail.stopped"}
    return [event for event in trail.events(newest_first=False) if event.action not in own]


def told(trail, since=0):
    """Each event as (action, resource, {field: (old, new)})."""
    return [
        (
            event.action,
            f"{event.resource_type}:{event.resource_id}",
            {name: (change["old"], change["new"]) for name, change in event.details["changes"].items()},
        )
        for event in events(trail)[since:]
    ]


def statements(engine):
    """What is executed from now on."""
    seen = []
    event.listen(engine, "before_cursor_execute", lambda c, cursor, statement, *rest: seen.append(statement))
    return seen
