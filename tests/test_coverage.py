"""What `audit check` says, of SQLite, of PostgreSQL and of what an application's auditor leaves out."""

import gc
import sys

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.cli.check import NOTHING_BY_THE_DATABASE
from audit_core.coverage import gaps_of, idle_rules
from audit_core.errors import Cures
from audit_core.redaction.personal_names import is_personal
from audit_core.triggers import install
from tests.postgres.server import new_database

MODULE = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from audit_core import AuditTrail, Redactor
from audit_core.orm import redacted, unaudited
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor


class Clinic(DeclarativeBase):
    pass


@redacted(email="keep", dob="mask"{more})
class Case(Clinic):
    __tablename__ = "clinic_case"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    dob: Mapped[str]
    diagnosis: Mapped[str]
    phone_number: Mapped[str]
    password: Mapped[str]


@unaudited
class Scrap(Clinic):
    __tablename__ = "scrap"
    id: Mapped[int] = mapped_column(primary_key=True)


trail = AuditTrail({url!r}, lifecycle=False, redactor=Redactor({{"phone_number": "mask"{redact}}}))
auditor = SQLAlchemyAuditor(trail, exclude=[{exclude}])
"""


@pytest.fixture
def url(tmp_path):
    AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False).close()
    return f"sqlite:///{tmp_path}/clinic.db"


@pytest.fixture
def check(capsys):
    def run(*words):
        code = main(["check", *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out + err

    return run


@pytest.fixture
def module(tmp_path, monkeypatch, url):
    """Writes an application's module; none outlives the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write(name, **values):
        names.append(name)
        (tmp_path / f"{name}.py").write_text(
            MODULE.format(**{"url": url, "exclude": "", "more": "", "redact": ""} | values)
        )
        return f"{name}:auditor"

    yield write
    for name in names:
        if (imported := sys.modules.pop(name, None)) is not None:
            imported.Clinic.registry.dispose()
    gc.collect()


def test_on_sqlite_nothing_but_the_orm_is_seen_and_that_is_information(check, url):
    code, said = check("--url", url)
    assert code == 0
    assert "raw SQL, cascades and triggers of the database, and what other programs write leave no event" in said


def test_an_outbox_that_is_missing_is_a_problem(check, url, tmp_path):
    trail = AuditTrail(url, outbox=[f"sqlite:///{tmp_path}/other.db"], lifecycle=False, create=False)
    (problem,) = (gap for outbox in trail.outboxes for gap in gaps_of(outbox) if gap.is_problem)
    assert problem.text == f"{tmp_path}/other.db has no outbox, and its changes fail: {Cures.make_tables}."


def test_on_postgresql_tables_without_triggers_are_information_and_broken_ones_a_problem(check):
    url = new_database()
    code, said = check("--url", url)
    assert code == 1
    assert f"has no outbox, and its changes fail: {Cures.make_tables}." in said
    AuditTrail(url, lifecycle=False).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE patient (id int PRIMARY KEY); CREATE TABLE note (id int PRIMARY KEY)")
        code, said = check("--url", url)
        assert code == 0
        assert "no event in tables without triggers: public.note, public.patient." in said
        install(connection, ["patient"])
        code, said = check("--url", url)
        assert code == 0
        assert "without triggers: public.note." in said
        install(connection)
        assert check("--url", url) == (0, f"{NOTHING_BY_THE_DATABASE}\n")
        connection.execute("DROP TRIGGER audit_update ON note")
        code, said = check("--url", url)
    assert code == 1
    assert "WRONG" in said
    assert "public.note has lost its trigger audit_update" in said


def test_with_the_auditor_it_says_which_classes_and_fields_are_left_out(check, module):
    code, said = check("--auditor", module("clinic_one"))
    assert code == 0
    assert "Classes that are not audited: " in said
    assert "Scrap" in said
    told = next(line for line in said.splitlines() if "personal data" in line)
    assert "case.diagnosis" in told
    for decided in ("case.email", "case.dob", "case.phone_number", "case.password"):
        assert decided not in told


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"exclude": "'Cas'"}, "exclude names 'Cas', which is no mapped class. Did you mean 'Case'?"),
        ({"more": ", emial='mask'"}, "@redacted on Case names 'emial', which is none of its fields."),
    ],
)
def test_a_name_that_there_is_not_is_a_problem(check, module, values, sentence):
    code, said = check("--auditor", module(f"clinic_{'two' if 'more' in values else 'three'}", **values))
    assert code == 1
    assert f"WRONG {sentence}" in said


def test_an_auditor_is_asked_of_no_other_trail_than_its_own(check, module, url, tmp_path):
    path = module("clinic_five")
    assert "names another one" not in check("--auditor", path, "--url", url)[1]
    code, said = check("--auditor", path, "--url", f"sqlite:///{tmp_path}/other.db")
    assert code == 2
    assert "names another one" in said


def test_a_rule_for_a_field_that_there_is_not_is_a_problem():
    fields = {"doctor": ["phone", "ward"]}
    (gap,) = idle_rules(["clinic.Doctor.phon", "doctor.phone", "phon", "view.phon"], fields)
    assert gap.is_problem
    said = "There is a rule for clinic.Doctor.phon, and doctor has no field of this name. Did you mean 'phone'?"
    assert gap.text == said


def test_a_rule_for_what_only_details_tell_is_no_problem():
    (gap,) = idle_rules(["patient.gate_code"], {"patient": ["name", "ward"]})
    assert not gap.is_problem
    assert gap.text.endswith("patient has no field of this name. It holds for an event's details alone.")


def test_a_rule_of_the_trail_for_a_field_that_no_class_has_is_a_problem(check, module):
    code, said = check("--auditor", module("clinic_six", redact=", 'case.emial': 'mask', 'case.dob': 'mask'"))
    assert code == 1
    assert (
        "WRONG There is a rule for case.emial, and case has no field of this name. Did you mean 'email'?"
        in said.splitlines()
    )


@pytest.mark.parametrize("path", ["nowhere:auditor", "clinic_four", "clinic_four:trail", ":", "clinic_four:auditr"])
def test_what_is_no_auditor_is_one_sentence(check, module, path):
    module("clinic_four")
    code, said = check("--auditor", path)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert path in said


@pytest.mark.parametrize(
    "name",
    ["email", "e_mail_address", "homePhone2", "date_of_birth", "birth_date", "first_name", "diagnosis_text", "dob",
     "national_id", "zip", "insurance_number", "patient_religion", "has_disability", "ipAddress"],
)  # fmt: skip
def test_names_that_suggest_personal_data(name):
    assert is_personal(name)


@pytest.mark.parametrize(
    "name",
    ["name", "id", "state", "email_verified", "has_email_template", "address_id", "address_type", "phone_count",
     "zipper", "mobilephones_seen_x", "price", "text", "created_at"],
)  # fmt: skip
def test_names_that_do_not(name):
    assert not is_personal(name)
