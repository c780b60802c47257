"""A bundle out of PostgreSQL is that out of any other store, byte for byte."""

from audit_core import AuditTrail
from audit_core.evidence.checked import Verdict
from audit_core.normalise import normalise
from tests.evidence.bundles import HOSTILE, KEY, check, select, write
from tests.postgres.server import new_database
from tests.reports.trails import NOON, ORIGIN, OURS, about, event, seal

ASKED = [select(), select(resource_type="patient", resource_id=7), select(since=NOON), select(40, "tuesday")]


def test_a_bundle_is_the_one_that_sqlite_gives(tmp_path, monkeypatch):
    events = [about(str(n % 9), n, details={"n": n, "é": [HOSTILE.replace("\0", "")]}) for n in range(300)]
    events.append(event(301, **normalise(action="x", user_agent=HOSTILE, ip_address="::ffff:10.0.0.1%eth0")))
    monkeypatch.setattr("audit_core.chain.secrets.token_hex", lambda _: "0" * 32)
    monkeypatch.setattr("audit_core.chain.new_event_id", lambda: "01890000-0000-7000-8000-000000000000")
    monkeypatch.setattr(AuditTrail, "why_not_noted", lambda _: "it is not")
    for name, url in (("sqlite", f"sqlite:///{tmp_path}/trail.db"), ("postgres", new_database(18))):
        with AuditTrail(url, origin=ORIGIN, signer=OURS, lifecycle=False) as trail:
            seal(trail, events)
            for number, asked in enumerate(ASKED):
                write(trail, tmp_path / f"{name}{number}", asked)
    for number in range(len(ASKED)):
        one, other = tmp_path / f"sqlite{number}", tmp_path / f"postgres{number}"
        assert one.read_bytes() == other.read_bytes()
        assert check(other, KEY).verdict is Verdict.OK
