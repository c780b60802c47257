"""What the application's classes and the trail's redactor say holds for the triggers too."""

import sys
from types import ModuleType

import pytest
from sqlalchemy import Column, ForeignKey, Table, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.errors import ConfigurationError
from audit_core.orm import redacted, unaudited
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor, known_of
from audit_core.triggers import Triggers, install
from tests.test_documentation import ROOT, blocks


class Base(DeclarativeBase):
    pass


wards_of_patients = Table(
    "ruled_patient_ward",
    Base.metadata,
    Column("patient_id", ForeignKey("ruled_patient.id"), primary_key=True),
    Column("ward_id", ForeignKey("ruled_ward.id"), primary_key=True),
)


class RuledWard(Base):
    __tablename__ = "ruled_ward"
    id: Mapped[int] = mapped_column(primary_key=True)


@redacted(ssn="mask", scan="exclude", wards="exclude")
class RuledPatient(Base):
    __tablename__ = "ruled_patient"
    id: Mapped[int] = mapped_column(primary_key=True)
    ssn: Mapped[str]
    scan: Mapped[bytes]
    phone: Mapped[str]
    full_name: Mapped[str] = mapped_column("name")
    born: Mapped[str]
    wards: Mapped[list[RuledWard]] = relationship(secondary=wards_of_patients)


@unaudited
class RuledAttempt(Base):
    __tablename__ = "ruled_attempt"
    id: Mapped[int] = mapped_column(primary_key=True)


class RuledNote(Base):
    __tablename__ = "ruled_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "note"}  # noqa: RUF012


@redacted(diagnosis="exclude", remark="mask")
class RuledFinding(RuledNote):
    diagnosis: Mapped[str | None]
    remark: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "finding"}  # noqa: RUF012


class RuledPaper(Base):
    __tablename__ = "ruled_paper"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "paper"}  # noqa: RUF012


@unaudited
class RuledDraft(RuledPaper):
    __tablename__ = "ruled_draft"
    id: Mapped[int] = mapped_column(ForeignKey("ruled_paper.id"), primary_key=True)
    __mapper_args__ = {"polymorphic_identity": "draft"}  # noqa: RUF012


class RuledLetter(RuledPaper):
    __tablename__ = "ruled_letter"
    id: Mapped[int] = mapped_column(ForeignKey("ruled_paper.id"), primary_key=True)
    __mapper_args__ = {"polymorphic_identity": "letter"}  # noqa: RUF012


CHANGES = """
INSERT INTO ruled_ward VALUES (1);
INSERT INTO ruled_patient VALUES (1, '078051120999', 'scanned', '0123456789012', 'Zoe', '1999-01-01');
INSERT INTO ruled_patient_ward VALUES (1, 1);
INSERT INTO ruled_attempt VALUES (1);
INSERT INTO ruled_note (id, kind, diagnosis, remark) VALUES (1, 'finding', 'flu', 'a long remark of his');
INSERT INTO ruled_paper VALUES (1, 'draft'); INSERT INTO ruled_draft VALUES (1);
"""
SECRETS = ("078051120999", "scanned", "0123456789012", "Zoe", "flu", "a long remark")


@pytest.fixture
def clinic(db, monkeypatch):
    """Tables of the classes above, and an auditor that a command can import."""
    engine = create_engine(db.url.replace("postgresql:", "postgresql+psycopg:"))
    Base.metadata.create_all(engine)
    module = ModuleType("ruled_clinic")
    rules = {"ruled_patient.phone": "mask", "RuledPatient.full_name": "exclude"}
    trail = AuditTrail(db.url, redact=rules, lifecycle=False)
    module.auditor = SQLAlchemyAuditor(trail, triggers=True, exclude=["ruled_ward"])
    monkeypatch.setitem(sys.modules, "ruled_clinic", module)
    db.auditor = module.auditor
    yield db
    trail.close()
    engine.dispose()


@pytest.fixture
def audit(clinic, capsys):
    def run(*arguments):
        code = main([arguments[0], "--url", clinic.url, *arguments[1:]] if arguments[0] == "check" else
                    ["--url", clinic.url, *arguments])  # fmt: skip
        return code, "".join(capsys.readouterr())

    return run


AUDITOR = ("--auditor", "ruled_clinic:auditor")


def in_clear(clinic):
    clinic.run(CHANGES)
    events = clinic.events()
    told = "\n".join(str(event.details) for event in events)
    kinds = {event.resource_type for event in events if not event.action.startswith(("log.", "trail."))}
    return [secret for secret in SECRETS if secret in told], kinds


def test_rules_of_classes_and_of_the_redactor_hold_for_triggers(clinic, audit):
    code, said = audit("triggers", "install", *AUDITOR)
    assert code == 0
    assert "told    public.ruled_patient" in said
    assert in_clear(clinic) == ([], {"ruled_patient", "ruled_note"})
    assert "born" in str([event.details for event in clinic.events() if event.resource_type == "ruled_patient"])
    assert audit("triggers", "check", *AUDITOR)[0] == 0
    assert "WRONG" not in audit("check", *AUDITOR)[1]


def test_triggers_that_were_made_without_the_rules_are_found_and_put_right(clinic, audit):
    # A command that imports no class knows nothing of what is said on it; here they are imported.
    unknown = [f"--tell={column}" for column in ("ruled_patient.scan", "ruled_patient.ssn", "ruled_note.diagnosis")]
    code, said = audit("triggers", "install", "--all", *unknown)
    assert code == 0
    assert "give --auditor MODULE:NAME" in said
    assert audit("triggers", "install", "--tables", "ruled_patient_ward")[0] == 0
    for command in (("triggers", "check"), ("check",)):
        code, said = audit(*command, *AUDITOR)
        assert code == 1
        for part in (
            "public.ruled_patient.scan is told as it is, and by the application's rules not at all",
            "public.ruled_patient.phone is told as it is, and by the application's rules masked",
            "public.ruled_patient.name is told as it is, and by the application's rules not at all",
            "public.ruled_note.diagnosis is told as it is, and by the application's rules not at all",
            "public.ruled_attempt has triggers, and rows of RuledAttempt, which is not audited",
            "public.ruled_ward has triggers, and rows of RuledWard",
            "public.ruled_patient_ward has triggers, and rows of RuledPatient.wards",
            "public.ruled_paper has triggers, and rows of RuledDraft",
        ):
            assert part in said, part
    code, said = audit("triggers", "install", *AUDITOR)
    assert code == 0
    for table in ("attempt", "ward", "patient_ward", "paper", "draft", "letter"):
        assert f"dropped public.ruled_{table}" in said
    assert audit("triggers", "check", *AUDITOR)[0] == 0
    assert in_clear(clinic) == ([], {"ruled_patient", "ruled_note"})


def test_a_table_that_classes_leave_out_gets_no_triggers_by_its_name_either(clinic, audit):
    for table in ("ruled_attempt", "public.ruled_paper", "ruled_patient_ward"):
        code, said = audit("triggers", "install", "--tables", table, *AUDITOR)
        assert code == 2
        assert "which is not audited" in said
    known = known_of(clinic.auditor)
    with clinic.transaction(), pytest.raises(ConfigurationError, match="RuledAttempt"):
        install(clinic.connection, ["ruled_attempt"], known=known)
    with clinic.transaction():
        install(clinic.connection, known=known)
    assert in_clear(clinic) == ([], {"ruled_patient", "ruled_note"})


def test_a_rule_that_is_added_later_is_found_and_holds_after_install(clinic, audit):
    audit("triggers", "install", *AUDITOR)
    trail = AuditTrail(clinic.url, redact={"born": "replace"}, lifecycle=False)
    sys.modules["ruled_clinic"].auditor = SQLAlchemyAuditor(trail, triggers=True)
    code, said = audit("check", *AUDITOR)
    assert code == 1
    assert "ruled_patient.born is told as it is, and by the application's rules as [redacted]" in said
    assert audit("triggers", "install", *AUDITOR)[0] == 0
    clinic.run(CHANGES)
    assert "1999" not in str([event.details for event in clinic.events()])
    trail.close()


def test_parts_of_a_table_and_tables_of_a_schema_have_the_rules_of_the_class(clinic):
    clinic.run(
        "CREATE SCHEMA other; ALTER TABLE ruled_patient SET SCHEMA other; SET search_path = other, public;"
        "DROP TABLE ruled_attempt; CREATE TABLE ruled_attempt (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE part PARTITION OF ruled_attempt DEFAULT"
    )
    triggers = Triggers(clinic.connection, known=known_of(clinic.auditor))
    assert {(t.schema, t.name) for t in triggers.chosen(everything=True)} == {
        ("other", "ruled_patient"), ("public", "ruled_note"),
    }  # fmt: skip
    triggers.run(triggers.install_sql(triggers.chosen(everything=True)))
    assert in_clear(clinic) == ([], {"ruled_patient", "ruled_note"})
    assert clinic.run("SELECT count(*) FROM part").fetchone() == (1,)


def test_rules_hold_in_a_schema_that_only_the_applications_search_path_knows(clinic, audit):
    tables = ("patient", "ward", "patient_ward", "attempt", "note")
    clinic.run("CREATE SCHEMA hidden;" + "".join(f"ALTER TABLE ruled_{one} SET SCHEMA hidden;" for one in tables))
    audit("triggers", "install", "--all")
    code, said = audit("check", *AUDITOR)
    assert code == 1
    assert "hidden.ruled_patient.phone is told as it is, and by the application's rules masked" in said
    assert "hidden.ruled_attempt has triggers, and rows of RuledAttempt" in said
    shown = audit("triggers", "install", *AUDITOR)[1]
    assert "told    hidden.ruled_patient" in shown
    assert "dropped hidden.ruled_attempt" in shown
    clinic.run("SET search_path = hidden, public")
    assert in_clear(clinic) == ([], {"ruled_patient", "ruled_note"})


def test_an_auditor_that_tells_beside_the_triggers_is_found_and_named_with_the_cure(clinic, audit):
    with AuditTrail(clinic.url, lifecycle=False) as trail:
        beside = SQLAlchemyAuditor(trail, exclude=["ruled_ward"])
        sys.modules["ruled_clinic"].auditor = beside
        assert "two events" not in audit("check", *AUDITOR)[1], "it has no triggers yet"
        sentence = (
            "Each change of public.ruled_note, public.ruled_patient leaves two events: this auditor tells of these "
            "tables too, so give it triggers=True."
        )
        code, said = audit("triggers", "install", *AUDITOR)
        assert code == 0
        for command in (("triggers", "check"), ("check",)):
            assert sentence in said
            code, said = audit(*command, *AUDITOR)
            assert code == 1
        assert sentence in said
        code, said = audit("triggers", "check", "--tables", "ruled_note", *AUDITOR)
        assert code == 1
        assert "ruled_patient" not in said
        (line,) = blocks(ROOT / "docs" / "triggers.md")["Triggers (PostgreSQL)"]
        made = line.replace("triggers=True", "triggers=True, exclude=['ruled_ward']").partition(".attach(")[0]
        names = {"SQLAlchemyAuditor": SQLAlchemyAuditor, "trail": trail}
        sys.modules["ruled_clinic"].auditor = eval(made, names)  # noqa: S307
        for command in (("triggers", "check"), ("triggers", "install"), ("check",)):
            code, said = audit(*command, *AUDITOR)
            assert code == 0
            assert "two events" not in said
