"""What the demonstration shows, chapter by chapter. Each ends with its checks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from audit_core import AuditTrail
from audit_core.reports import AuditReporter, EventRow
from example_projects.demo import checks, tamper
from example_projects.demo.auditor import audit
from example_projects.demo.client import Day, Ledger
from example_projects.demo.day import DESKS, play
from example_projects.demo.desk import ADMIN, Ward
from example_projects.demo.server import NAMES, Server
from example_projects.demo.show import Show
from example_projects.demo.strangers import WRONG_PASSWORDS

SETTLE_SECONDS = 10.0
FEWEST_FAILURES = 5
FIRST_ROWS = 12  # of a report
OK, FAILED, UNANCHORED = 0, 1, 3  # exit statuses of `audit verify`


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything of one demonstration lies: one folder, gone at its end."""

    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "clinic.db"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.database}"


def play_day(show: Show, clinic: str, day: Day, requests: int) -> Ward:
    show.title(f"A working day in the clinic: {NAMES[clinic]}, SQLite, {len(DESKS) + 2} clients at once")
    began = time.monotonic()
    with show.progress("requests", requests) as advance:
        day.on_request = advance
        ward = play(day, requests)
    count, seconds = len(day.ledger.answers), time.monotonic() - began
    show.say(f"{count} requests in {seconds:.1f} s; {day.ledger.turned_away} more the server refused as no HTTP.")
    show.check(f"there were {requests} requests or more", count >= requests, str(count))
    return ward


def settle(trail: AuditTrail) -> None:
    """What was answered is durable already; give it a moment to be sealed, too."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while trail.status()["waiting"] and time.monotonic() < deadline:
        time.sleep(0.05)


def count_events(show: Show, trail: AuditTrail, ledger: Ledger) -> None:
    settle(trail)
    events = list(trail.events(newest_first=False))
    show.title(f"{len(events)} events in the trail, beside what the clients wrote down")
    answered = Counter((answer.action, answer.outcome) for answer in ledger.answers)
    recorded = Counter((event.action, event.outcome) for event in events if checks.is_of_request(event))
    show.table(
        ("request", "outcome", "#answered", "#recorded"),
        [(*kind, answered[kind], recorded[kind]) for kind in sorted(answered | recorded)],
    )
    others = Counter((event.action, event.resource_type or "") for event in events if not checks.is_of_request(event))
    show.say("")
    titles = ("change, and what else there is", "of which resource", "#recorded")
    show.table(titles, [(*kind, count) for kind, count in sorted(others.items())])
    show.say("")
    checks.compare(show, ledger, events)


def verify_live(show: Show, place: Place) -> None:
    show.title("Verify the live trail, while the clinic is open")
    found = audit(show, "verify", "--url", place.url)
    show.say(found.verdict)
    show.check("exit status 3: nobody has kept a checkpoint yet", found.code == UNANCHORED, found.said)
    show.check("no event is found to be wrong", not found.findings, checks.some(found.findings))
    show.say("\nSo the auditor takes a checkpoint, a signed summary of all events so far, and keeps it elsewhere:")
    checkpoint = str(place.folder / "kept-elsewhere.checkpoint")
    audit(show, "checkpoint", "--url", place.url, "--out", checkpoint)
    found = audit(show, "verify", "--url", place.url, "--checkpoint", checkpoint)
    show.say(found.verdict)
    show.check("exit status 0: with the checkpoint it is proven", found.code == OK, found.said)


def report_patient(show: Show, trail: AuditTrail, ledger: Ledger, patient: str, began: datetime) -> None:
    show.title(f"Who looked at or changed patient {patient}?")
    rows = list(AuditReporter(trail).access_report("patient", patient, began, _soon()))
    _show_rows(show, rows)
    asked = Counter((a.actor, a.action) for a in ledger.answers if a.patient == patient and a.is_audited)
    reported = Counter((e.actor_id, e.action) for e in rows if checks.is_of_request(e))
    show.check(
        f"the report has all {asked.total()} requests about this patient, and their actors",
        asked == reported,
        f"without: {checks.some(asked - reported)}; too many: {checks.some(reported - asked)}",
    )
    changes = sum(times for of, times in ledger.changes.items() if of[1:] == ("patient", patient))
    found = len(checks.clinical_changes(rows))
    show.check(f"and all {changes} changes", found == changes, f"it has {found}")


def _show_rows(show: Show, rows: Sequence[EventRow]) -> None:
    show.table(
        ("when", "who", "what", "outcome", "from", "changed"),
        [
            (
                f"{row.timestamp:%H:%M:%S}",
                row.actor_id or row.actor_type,
                row.action,
                row.outcome,
                row.ip_address,
                ", ".join(row.details["changes"]) if row.action == "update" else "",
            )
            for row in islice(rows, FIRST_ROWS)
        ],
    )
    if len(rows) > FIRST_ROWS:
        show.say(f"... and {len(rows) - FIRST_ROWS} more")


def report_failures(show: Show, trail: AuditTrail, ledger: Ledger, began: datetime) -> None:
    show.title(f"Who failed or was refused {FEWEST_FAILURES} times or more?")
    rows = list(AuditReporter(trail).failed_access_report(began, _soon(), FEWEST_FAILURES))
    show.table(
        ("by", "who", "#failures", "#refused", "last"),
        [(row.by, row.who, row.failures, row.denied, row.last_action) for row in rows],
    )
    failed = [answer for answer in ledger.answers if answer.outcome != "success"]
    suffered = Counter(("address", answer.address) for answer in failed)
    suffered += Counter(("actor", answer.actor) for answer in failed if answer.actor)
    suffered["account", ADMIN] = WRONG_PASSWORDS
    reported = {(row.by, row.who): row.failures for row in rows}
    missing = [of for of, times in suffered.items() if FEWEST_FAILURES <= times > reported.get(of, 0)]
    show.check("the report names everybody who did, and the account that was guessed at", not missing, str(missing))


def stop_server(show: Show, server: Server, place: Place) -> None:
    show.title("Stop the server with SIGTERM")
    show.check("it ends by itself", server.stop(), server.said(5))
    with AuditTrail(place.url, create=False, lifecycle=False) as trail:
        stops = [event for event in trail.events(action="trail.stopped") if event.details["pid"] == server.pid]
    sealed = stops and stops[0].sealed
    show.check("its orderly stop is an event, and sealed", sealed, "not sealed" if stops else "there is none")


def attack(show: Show, place: Place) -> None:
    show.title("Attack a copy: change one field of one sealed event and delete another, with plain SQL")
    copy = place.folder / "copy.db"
    tamper.copy_database(place.database, copy)
    crime = tamper.tamper(copy)
    show.say(f"Event {crime.edited}: its actor {crime.actor} becomes {crime.blamed}. Event {crime.deleted}: gone.")
    show.say("To be able to, the attacker dropped the triggers that refuse changes, which is found as well.")
    found = audit(show, "verify", "--url", f"sqlite:///{copy}")
    for finding in found.findings:
        if finding["kind"] != "schema":
            show.say(finding["text"], indent=2)
    dropped = sum(finding["kind"] == "schema" for finding in found.findings)
    show.say(f"{dropped} triggers that refuse changes are missing.", indent=2)
    show.say(found.verdict)
    show.say(found.summary)
    show.check("exit status 1", found.code == FAILED, f"{found.code}, {found.said}")
    events = f"1 event changed ({crime.edited}), 1 event removed ({crime.deleted})"
    show.check("one sentence says what it comes to", events in found.summary, found.summary)
    show.check(f"the edited event {crime.edited} is named", found.names("edited", crime.edited))
    show.check(f"the deleted event {crime.deleted} is named", found.names("missing", crime.deleted))


def _soon() -> datetime:
    """The end of a report's interval: later than anything that was recorded."""
    return datetime.now(UTC) + timedelta(seconds=1)
