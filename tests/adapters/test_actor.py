import sqlite3
from contextlib import closing
from types import SimpleNamespace
from uuid import UUID

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.authentication import BaseUser, SimpleUser, UnauthenticatedUser

from audit_core import AuditTrail
from audit_core.context import Actor, Told, add_details, current, set_outcome
from audit_core.requests.actors import actor_of
from audit_core.requests.request import RequestAudit


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    is_admin: Mapped[bool]

    @property
    def is_authenticated(self):
        return self.is_admin is not None


class Named(BaseUser):
    """Its ``identity`` raises NotImplementedError."""

    is_authenticated = True
    display_name = "dr-grey"


def row(**values):
    columns = ", ".join(f"{value!r} AS {name}" for name, value in values.items())
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(f"SELECT {columns}").fetchone()


@pytest.mark.parametrize(
    ("user", "actor"),
    [
        (None, None),
        ("", None),
        (True, None),
        ({}, None),
        (object(), None),
        (UnauthenticatedUser(), None),
        (SimpleNamespace(is_authenticated=False, id=7), None),
        (SimpleNamespace(is_authenticated=lambda: False, id=7), None),
        ("dr-grey", Actor("dr-grey", "user")),
        (7, Actor("7", "user")),
        (SimpleUser("dr-grey"), Actor("dr-grey", "user")),
        (Named(), Actor("dr-grey", "user")),
        ({"id": 7}, Actor("7", "user")),
        ({"id": 0, "is_superuser": True}, Actor("0", "admin")),
        (row(id=7, username="grey"), Actor("7", "user")),
        (SimpleNamespace(pk=UUID(int=7), is_staff=True), Actor(str(UUID(int=7)), "admin")),
        (SimpleNamespace(get_id=lambda: "dr-grey"), Actor("dr-grey", "user")),
        (SimpleNamespace(id={"not": "hashable"}), Actor("{'not': 'hashable'}", "user")),
    ],
)
def test_the_actor_of_a_users_object(user, actor):
    assert actor_of(user) == actor


@pytest.mark.parametrize("detached", [True, False])
def test_an_expired_user_is_known_without_a_query(detached):
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        user = User(id=7, is_admin=True)
        session.add(user)
        session.flush()
        assert actor_of(user) == Actor("7", "admin")
        session.commit()
        if detached:
            session.expunge(user)
        queries = []
        event.listen(engine, "before_cursor_execute", lambda *arguments: queries.append(arguments[2]))
        assert actor_of(user) == Actor("7", "user")
        assert queries == []
        assert not session.in_transaction()


def test_what_goes_wrong_in_an_applications_user_does_not_break_its_request():
    def find_actor():
        raise RuntimeError

    with AuditTrail("memory:", lifecycle=False) as trail:
        audit = RequestAudit(trail, method="POST", path="/x", header=lambda _: None, carrier={}, find_actor=find_actor)
        with audit:
            recorded = audit.respond(200).result()
    assert (recorded.actor_id, recorded.actor_type) == (None, "anonymous")


def test_what_is_told_outside_of_a_request_stays_in_its_block():
    with AuditTrail("memory:", lifecycle=False) as trail:
        with trail.actor("importer", type="service"):
            add_details(ward="7")
            set_outcome("denied")
            with trail.actor("other"):
                assert current().told == Told("denied", {"ward": "7"})
        with trail.actor("importer", type="service"):
            assert current().told == Told()
