"""The staff at their desks, and the patients that they work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Any

import httpx

from example_projects.demo.client import Client, UnexpectedAnswerError

DOCTORS, NURSES, ADMIN = ("osler", "blackwell"), ("barton", "nightingale"), "morgan"
FIRST_NAMES = "Ada Alan Barbara Claude Edsger Emmy Grace Hedy John Katherine Kurt Margaret Niels Sofia".split()
LAST_NAMES = "Bell Curie Darwin Euler Fermi Gauss Hopper Jemison Kepler Lamarr Meitner Noether Planck Turing".split()
DIAGNOSES = (
    "fractured wrist", "hypertension", "iron deficiency", "migraine", "pneumonia", "sprained ankle", "tonsillitis",
    "type 2 diabetes",
)  # fmt: skip
NOTES = (
    "Blood pressure 120/80.", "Feels better today.", "Fever is down, 37.4 in the evening.", "Discharge on Friday?",
    "X-ray without findings.", "Wants to speak to the doctor.",
)  # fmt: skip


class Ward:
    """The patients that everybody works with."""

    def __init__(self) -> None:
        self.known_best = 0  # whom the auditor will ask about; nobody deletes this one
        self._ids: list[int] = []
        self._lock = Lock()

    def admit(self, patient: int) -> None:
        with self._lock:
            self._ids.append(patient)

    def pick(self, client: Client) -> int:
        with self._lock:
            return client.random.choice([*[self.known_best] * 4, *self._ids[-40:]])


class Desk:
    """What a member of the staff does all day."""

    def __init__(self, client: Client, ward: Ward) -> None:
        self.client, self.ward = client, ward
        self.ask, self.random, self.ledger = client.ask, client.random, client.ledger

    def work(self, requests: int) -> None:
        """Log in, do each thing once, then what comes up, and log out."""
        with suppress(UnexpectedAnswerError):
            self.log_in()
        for task in self._tasks(requests):
            if self.client.day.over.is_set():
                return
            with suppress(UnexpectedAnswerError):
                task()
        with suppress(UnexpectedAnswerError):
            self.ask("POST", "/logout", {204})

    def log_in(self) -> None:
        if self.random.random() < 0.2:
            fail_to_log_in(self.client, self.client.name)
        form = {"name": self.client.name, "password": self.client.day.password}
        self.ask("POST", "/login", {200}, json=form)

    def _tasks(self, requests: int) -> Iterator[Callable[[], object]]:
        usual: list[Callable[[], object]] = [
            self.read,
            self.look_up,
            self.create,
            self.change,
            self.add_note,
            self.send_letter,
        ]
        rare: list[Callable[[], object]] = (
            [self.ask_too_much] if self.client.name in NURSES else [self.delete, self.merge, self.merge_wrongly]
        )
        weights = [30, 8, 12, 16, 20, 2, *(4 for _ in rare)]
        yield from self.random.sample([*usual, *rare], len(weights))
        while self.client.requests < requests - 1:
            yield from self.random.choices([*usual, *rare], weights)

    def read(self) -> httpx.Response:
        return self.ask("GET", "/patients/{patient_id}", {200, 404}, patient=self.ward.pick(self.client))

    def look_up(self) -> None:
        self.ask("GET", "/patients", {200}, query=f"?name={self.random.choice(LAST_NAMES)}")

    def create(self, **known: Any) -> dict[str, Any]:
        """A new patient, who is not on the ward yet."""
        patient = {**self._person(), **known}
        self.ledger.secrets.add(patient["ssn"])
        created: dict[str, Any] = self.ask("POST", "/patients", {201}, json=patient).json()
        self.ledger.changed("create", "patient", created["id"])
        if not known:
            self.ward.admit(created["id"])
        return created

    def change(self) -> None:
        """Read, think, write: whoever wrote in between makes this a conflict."""
        read = self.read()
        if read.status_code != 200:
            return
        patient = read.json()
        change = {"diagnosis": self.random.choice(DIAGNOSES), "version": patient["version"]}
        answer = self.ask("PATCH", "/patients/{patient_id}", {200, 404, 409}, patient=patient["id"], json=change)
        if answer.status_code == 200 and answer.json()["version"] > patient["version"]:
            self.ledger.changed("update", "patient", patient["id"])

    def add_note(self, patient: int | None = None, text: str = "") -> None:
        note = {"text": text or self.random.choice(NOTES)}
        chosen = patient or self.ward.pick(self.client)
        answer = self.ask("POST", "/patients/{patient_id}/notes", {201, 404, 409}, patient=chosen, json=note)
        if answer.status_code == 201:
            self.ledger.changed("create", "note", answer.json()["id"])

    def delete(self) -> None:
        """A patient who was entered by mistake, notes and all."""
        patient, notes = self._with_notes({"name": "Entered By Mistake"})
        self.ask("DELETE", "/patients/{patient_id}", {200}, patient=patient["id"])
        self.ledger.changed("delete", "patient", patient["id"])
        for note in notes:
            self.ledger.changed("delete", "note", note)

    def merge(self) -> None:
        """A patient who was entered twice."""
        duplicate, notes = self._with_notes(self._person())
        patient = self.create(name=duplicate["name"], born=duplicate["born"])
        self._merge(duplicate["id"], patient["id"], 200)
        self.ledger.changed("delete", "patient", duplicate["id"])
        for note in notes:
            self.ledger.changed("update", "note", note)

    def merge_wrongly(self) -> None:
        """Two patients of one name. The clinic sees it in the middle of its transaction, and undoes it all."""
        duplicate, _ = self._with_notes({**self._person(), "born": "1912-06-23"})
        patient = self.create(name=duplicate["name"], born="1954-06-07")
        self._merge(duplicate["id"], patient["id"], 409)

    def send_letter(self) -> None:
        """Raises, after the clinic has written a note of it. Uvicorn hangs up after an exception, so we do too."""
        path, close = "/patients/{patient_id}/letter", {"connection": b"close"}
        self.ask("POST", path, {500}, patient=self.ward.known_best, headers=close)

    def ask_too_much(self) -> None:
        self.ask("DELETE", "/patients/{patient_id}", {403}, patient=self.ward.pick(self.client))

    def _merge(self, duplicate: int, into: int, status: int) -> None:
        self.ask("POST", "/patients/{patient_id}/merge", {status}, patient=duplicate, json={"into": into})

    def _with_notes(self, known: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        patient, notes = self.create(**known), []
        for _ in range(self.random.randint(1, 2)):
            form = {"text": self.random.choice(NOTES)}
            path = "/patients/{patient_id}/notes"
            notes.append(self.ask("POST", path, {201}, patient=patient["id"], json=form).json()["id"])
            self.ledger.changed("create", "note", notes[-1])
        return patient, notes

    def _person(self) -> dict[str, Any]:
        some = self.random
        return {
            "name": f"{some.choice(FIRST_NAMES)} {some.choice(LAST_NAMES)}",
            "born": f"{some.randint(1930, 2020)}-{some.randint(1, 12):02}-{some.randint(1, 28):02}",
            "diagnosis": some.choice(DIAGNOSES),
            "ssn": f"{some.randint(100, 899)}-{some.randint(10, 99)}-{some.randint(1000, 9999)}",
        }


def fail_to_log_in(client: Client, name: str) -> None:
    guess = f"guess-{client.random.getrandbits(64):x}"
    client.ledger.secrets.add(guess)
    client.ask("POST", "/login", {401}, json={"name": name, "password": guess})
