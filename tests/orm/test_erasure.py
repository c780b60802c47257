"""Sessions with an erasable trail in their own file: after an erasure nothing of the person is left in it."""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.context import AuditContext, enter, leave
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.orm.models import Base, Patient

SECRETS = ("Lovelace", "Countess", "SecretAgent", "203.0.113.77")


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_what_sessions_wrote_of_a_person_is_nowhere_after_an_erasure(tmp_path, state, mode, capsys):
    file = tmp_path / "app.db"
    engine = create_engine(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    Base.metadata.create_all(engine)
    with AuditTrail(f"sqlite:///{file}", erasable=True, redact={"patient.name": "private"}, lifecycle=False) as trail:
        factory = sessionmaker(engine)
        SQLAlchemyAuditor(trail).attach(factory)
        live(factory, trail)
        read = [event.details["changes"]["name"] for event in trail.events(resource="patient:1", newest_first=False)]
    engine.dispose()
    assert read == [
        {"old": None, "new": "Lovelace"}, {"old": "Lovelace", "new": "Countess"}, {"old": "Countess", "new": None},
    ]  # fmt: skip
    assert set(found_in(tmp_path)) == set(SECRETS)
    url, out = f"sqlite:///{file}", tmp_path / "certificate.json"
    words = ["--actor", "u1", "--resource", "patient:1", "--basis", "Art. 17", "--approved-by", "officer"]
    assert main(["erase", *words, "--out", str(out), "--vacuum", "--url", url]) == 0
    assert found_in(tmp_path) == []
    assert main(["verify", "--url", url]) == 3
    assert main(["show", "1", "--url", url]) == 0
    assert "[erased]" in capsys.readouterr().out


def live(factory, trail):
    """A patient is made, renamed and removed, by somebody who does it from somewhere."""
    enter(context := AuditContext(ip_address="203.0.113.77", user_agent="SecretAgent/7"))
    with trail.actor("u1"):
        with factory.begin() as session:
            session.add(Patient(id=1, name="Lovelace"))
        with factory.begin() as session:
            session.get(Patient, 1).name = "Countess"
        with factory.begin() as session:
            session.delete(session.get(Patient, 1))
    leave(context)


def found_in(folder):
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return [secret for secret in SECRETS if secret.encode() in content]
