"""Which classes of SQLAlchemy are audited, and what of their fields."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table, delete, inspect, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column, relationship, sessionmaker

from audit_core import AuditTrail, Redactor
from audit_core.errors import ConfigurationError
from audit_core.orm import redacted, unaudited
from audit_core.orm.bulk import Bulk
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.orm.models import events, told

KEY = b"k" * 32


class Prison(DeclarativeBase):
    pass


class Numbered:
    """A mixin: what it says holds for every class that has it."""

    passport: Mapped[str | None]


redacted(passport="mask")(Numbered)

visits = Table(
    "visits",
    Prison.metadata,
    Column("convict_id", ForeignKey("convict.id"), primary_key=True),
    Column("visitor_id", ForeignKey("visitor.id"), primary_key=True),
)


class Visitor(Prison):
    __tablename__ = "visitor"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


@redacted(ailment="hash", scan="exclude", seen="exclude", visitors="exclude", ssn="keep")
class Convict(Numbered, Prison):
    __tablename__ = "convict"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]
    ailment: Mapped[str | None]
    scan: Mapped[str | None]
    seen: Mapped[int | None]
    ssn: Mapped[str | None]
    visitors: Mapped[list[Visitor]] = relationship(secondary=visits)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "convict"}  # noqa: RUF012 - SQLAlchemy's form


@redacted(cell="replace")
class Lifetimer(Convict):
    __tablename__ = "lifetimer"
    id: Mapped[int] = mapped_column(ForeignKey("convict.id"), primary_key=True)
    cell: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "lifetimer"}  # noqa: RUF012 - the same


class Letter(Prison):
    __tablename__ = "letter"
    id: Mapped[int] = mapped_column(primary_key=True)
    convict_id: Mapped[int | None] = mapped_column(ForeignKey("convict.id"))
    text: Mapped[str | None]


@unaudited
class Draft(Prison):
    __tablename__ = "draft"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "draft"}  # noqa: RUF012 - the same


class Sketch(Draft):
    __mapper_args__ = {"polymorphic_identity": "sketch"}  # noqa: RUF012 - the same


class CookieSession(Prison):
    """As Flask-Session maps it."""

    __module__ = "flask_session.sqlalchemy.sqlalchemy"
    __tablename__ = "sessions"
    id = Column(Integer, primary_key=True)


@pytest.fixture
def engine(engine):
    Prison.metadata.create_all(engine)
    return engine


@pytest.fixture
def audited(engine, trail):
    """A session whose auditor has these options."""

    def session(**options):
        factory = sessionmaker(engine)
        SQLAlchemyAuditor(trail, **options).attach(factory)
        return factory()

    return session


def one_of_each(session):
    with session:
        session.add_all([Convict(id=1), Lifetimer(id=2), Letter(id=1), Draft(id=1), Sketch(id=2), CookieSession(id=1)])
        session.commit()


def resources(trail):
    return sorted({resource for _, resource, _ in told(trail)})


# --- Which classes


def test_all_classes_are_audited_but_those_that_say_no_and_what_frameworks_keep(audited, trail):
    one_of_each(audited())
    assert resources(trail) == ["convict:1", "letter:1", "lifetimer:2"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": [Convict]}, ["convict:1", "lifetimer:2"]),
        ({"include": ["Convict"]}, ["convict:1", "lifetimer:2"]),
        ({"include": ["lifetimer"]}, ["lifetimer:2"]),
        ({"include": [Numbered]}, ["convict:1", "lifetimer:2"]),
        ({"exclude": [f"{__name__}.Convict"]}, ["letter:1"]),
        ({"exclude": ["LIFETIMER", Letter]}, ["convict:1"]),
        ({"include": [Convict], "exclude": [Lifetimer]}, ["convict:1"]),
        ({"include": [Lifetimer], "exclude": [Convict]}, []),
        ({"choose": lambda cls: cls.__tablename__ != "letter"}, ["convict:1", "lifetimer:2"]),
        ({"include": [Convict, Letter], "choose": lambda cls: cls is not Lifetimer}, ["convict:1", "letter:1"]),
        ({"include": [Draft]}, []),
        ({"include": ["CookieSession"]}, ["cookie_session:1"]),
        ({"include": []}, []),
    ],
)
def test_include_exclude_and_a_function_choose_classes_with_their_subclasses(audited, trail, options, expected):
    one_of_each(audited(**options))
    assert resources(trail) == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"exclude": ["Leter"]}, "exclude names 'Leter', which is no mapped class. Did you mean 'Letter'?"),
        ({"include": ["zzz"]}, "include names 'zzz', which is no mapped class."),
    ],
)
@pytest.mark.parametrize("statement", [False, True])
def test_a_name_that_no_class_has_is_told_before_anything_is_written(audited, trail, options, sentence, statement):
    with audited(**options) as session:
        session.add(Letter(id=1))
        write = partial(session.execute, delete(Letter)) if statement else session.flush
        with pytest.raises(ConfigurationError) as error:
            write()
        assert str(error.value) == sentence
        session.rollback()
        assert session.scalars(select(Letter)).all() == []
    assert events(trail) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"bulk": "forbid"}, r"bulk is a Bulk, not 'forbid': give Bulk\(forbid=True\), or Bulk\(limit=200\)\."),
        ({"bulk": 200}, "bulk is a Bulk, not 200"),
        ({"bulk": 0}, "bulk is a Bulk, not 0"),
        ({"choose": "clinic.chosen"}, "choose is a function that takes a class, not 'clinic.chosen'"),
    ],
)
def test_what_would_fail_at_each_flush_is_refused_at_once(trail, options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        SQLAlchemyAuditor(trail, **options)


@pytest.mark.parametrize(
    ("given", "named"), [("postgresql://ann:bait@host/x", r"'postgresql://ann:\*\*\*@host/x'"), (None, "a NoneType")]
)
def test_an_auditor_takes_a_trail_and_no_url(given, named):
    cure = r"give SQLAlchemyAuditor\(AuditTrail\(url\)\)"
    with pytest.raises(ConfigurationError, match=f"The trail is an AuditTrail, not {named}: {cure}"):
        SQLAlchemyAuditor(given)


@pytest.mark.parametrize("given", ["Letter", Letter, [3], 3])
def test_a_list_that_is_none_is_told_at_once(trail, given):
    with pytest.raises(ConfigurationError, match="list of classes or names"):
        SQLAlchemyAuditor(trail, exclude=given)


def test_a_class_that_is_not_audited_is_left_alone_by_statements_too(audited, trail):
    with audited(exclude=[Letter], bulk=Bulk(forbid=True)) as session:
        session.execute(update(Letter).values(text="x"))
        session.execute(delete(Draft))
        session.commit()
    assert events(trail) == []


def test_links_are_audited_where_the_class_is_that_they_are_told_of(audited, trail):
    with audited(exclude=[Convict], include=[Visitor, Convict]) as session:
        session.add(Convict(id=1, visitors=[Visitor(id=7)]))
        session.commit()
    assert resources(trail) == ["visitor:7"]


# --- What of their fields


@pytest.fixture(params=["flush", "statement"])
def changes(request, engine, place):
    """The changes of one object with these values, when it is created."""

    def of(cls, values, redactor=None):
        with AuditTrail(place[1], lifecycle=False, redactor=redactor or Redactor(hash_key=KEY)) as trail:
            factory = sessionmaker(engine)
            SQLAlchemyAuditor(trail).attach(factory)
            with factory() as session:
                if request.param == "flush" or cls is not Convict:  # an INSERT of a class writes one of its tables
                    session.add(cls(id=1, **values))
                else:
                    session.execute(cls.__table__.insert().values(id=1, kind="convict", **values))
                session.commit()
            return {name: new for name, (_, new) in told(trail)[-1][2].items()}

    return of


def test_a_field_is_masked_hashed_replaced_kept_or_left_out_as_its_class_says(changes):
    found = changes(Convict, {"passport": "C01X00T478", "ailment": "flu", "scan": "...", "ssn": "1", "name": "Ann"})
    assert found == {
        "id": 1,
        "kind": "convict",
        "name": "Ann",
        "ssn": "1",
        "passport": "••••",
        "ailment": Redactor(hash_key=KEY).keyed_hash("flu"),
    }


def test_what_a_class_says_holds_for_its_subclasses_and_what_they_say_goes_first(changes):
    found = changes(Lifetimer, {"ailment": "flu", "scan": "...", "cell": "7", "passport": "C01X00T478990"})
    assert "scan" not in found
    assert found["cell"] == "[redacted]"
    assert found["passport"] == "••••8990"
    assert found["ailment"].startswith("hmac-sha256:")


@pytest.mark.parametrize("name", ["convict.name", "Convict.name", "tests.orm.Convict.name", "lifetimer.name", "name"])
def test_a_rule_of_the_redactor_holds_for_subclasses_too(changes, name):
    assert changes(Lifetimer, {"name": "Ann"}, Redactor({name: "replace"}))["name"] == "[redacted]"


def test_a_rule_of_the_redactor_goes_before_what_the_class_says(changes):
    redactor = Redactor({"convict.ailment": "keep", "scan": "keep"}, hash_key=KEY)
    found = changes(Convict, {"ailment": "flu", "scan": "..."}, redactor)
    assert found["ailment"] == "flu"
    assert "scan" not in found, "the class says more than a field's name"


def test_without_a_key_to_hash_with_the_value_is_replaced(changes):
    assert changes(Convict, {"ailment": "flu"}, Redactor({"x": "mask"}))["ailment"] == "[redacted]"


def test_an_update_of_nothing_but_excluded_fields_and_links_leaves_no_event(audited, trail):
    with audited() as session:
        session.add(Convict(id=1))
        session.commit()
        before = len(events(trail))
        convict = session.get(Convict, 1)
        convict.seen = 5
        session.flush()
        session.execute(update(Convict).values(scan="x"))
        convict.visitors.append(Visitor(id=1))
        session.commit()
        session.execute(delete(visits))
        session.commit()
    assert [(event.action, event.resource_type) for event in events(trail)[before:]] == [("create", "visitor")]


def test_a_deletion_is_told_also_where_every_field_is_excluded(engine, place):
    rules = dict.fromkeys(("letter.id", "letter.text", "letter.convict_id"), "exclude")
    with AuditTrail(place[1], lifecycle=False, redactor=Redactor(rules)) as trail:
        factory = sessionmaker(engine)
        SQLAlchemyAuditor(trail).attach(factory)
        with factory() as session:
            letter = Letter(id=1, text="x")
            session.add(letter)
            session.flush()
            session.delete(letter)
            session.commit()
        assert [(event.action, event.details) for event in events(trail)] == [
            ("create", {"changes": {}}),
            ("delete", {"changes": {}}),
        ]


@pytest.mark.parametrize("alias", [False, True])
@pytest.mark.parametrize("table", [False, True])
def test_the_criteria_of_a_summary_follow_the_rules_of_every_class_that_they_name(audited, trail, alias, table):
    convict = aliased(Convict) if alias else Convict
    columns = (Convict.__table__.alias() if alias else Convict.__table__).c if table else convict
    with audited(bulk=Bulk(limit=0)) as session:
        session.add_all([Convict(id=1, ailment="flu", passport="C01X00T478990"), Letter(id=1, convict_id=1)])
        session.flush()
        session.execute(
            update(Letter)
            .where(Letter.convict_id == columns.id, columns.ailment == "flu", columns.scan.is_(None))
            .values(text="gone"),
            execution_options={"synchronize_session": False},
        )
        session.execute(
            update(Convict)
            .where(Convict.ailment == "flu", Convict.passport == "C01X00T478990")
            .values(scan="x", name="n"),
            execution_options={"synchronize_session": False},
        )
        session.commit()
    first, second = (event.details["bulk"] for event in events(trail) if "bulk" in event.details)
    assert first["parameters"]["convict.ailment"].startswith("hmac-sha256:")
    assert "flu" not in str(first)
    assert second["values"] == {"name": "n"}
    assert second["parameters"]["passport"] == "••••8990"


def test_a_field_that_a_class_does_not_have_is_told_at_once(trail):
    class Other(DeclarativeBase):
        pass

    @redacted(nme="mask")
    class Wrong(Other):
        __tablename__ = "wrong"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None]

    sentence = "@redacted on Wrong names 'nme', which is none of its fields. Did you mean 'name'?"
    with pytest.raises(ConfigurationError) as error:
        SQLAlchemyAuditor(trail).audits(inspect(Wrong))
    assert str(error.value) == sentence
    Other.registry.dispose()


def test_a_rule_that_there_is_not_is_told_at_once():
    with pytest.raises(ConfigurationError, match="choose from replace, mask, hash, keep, exclude"):
        redacted(name="hide")


def test_a_redactor_that_was_asked_before_follows_what_a_class_says_later():
    redactor = Redactor()
    assert redactor.details({"mark": "5"}, "pupil") == {"mark": "5"}

    @redacted(mark="replace")
    class Pupil:
        pass

    assert redactor.details({"mark": "5"}, "pupil") == {"mark": "[redacted]"}, Pupil


def test_an_event_that_no_orm_tells_follows_the_rules_of_the_class_too(trail):
    trail.record(
        "lifetimer.view", resource=("lifetimer", 1), details={"cell": "7", "scan": "s", "passport": "C01X00T478990"}
    )
    assert events(trail)[-1].details == {"cell": "[redacted]", "passport": "••••8990"}
