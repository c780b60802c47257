"""One client of the clinic, and the ledger in which all clients write what they asked and what came back.

The ledger knows nothing of the trail: it is what the trail is compared with.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import httpx

ANSWER_SECONDS = 30.0
Change = tuple[str, str, str]  # action, resource type, resource id: as the trail names a change


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and how it was answered."""

    method: str
    template: str
    status: int
    patient: str | None
    actor: str | None
    address: str
    request_id: str | None
    hostile: bool

    @property
    def is_audited(self) -> bool:
        """What the clinics' policy says: writes, reads of patients, and whatever was refused."""
        return self.method != "GET" or self.template.startswith("/patients") or self.status in {401, 403}

    @property
    def action(self) -> str:
        return "patient.merge" if self.template.endswith("/merge") else f"{self.method} {self.template}"

    @property
    def outcome(self) -> str:
        if self.status < 400:
            return "success"
        return "denied" if self.status in {401, 403} else "failure"


class UnexpectedAnswerError(Exception):
    """A request was not answered as the scenario wants it. It is in the ledger already."""


class TooBusyError(Exception):
    """Something did not come in time, and what it would have shown nobody can say."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(
            f"This machine is too busy for the demonstration, {what} took longer than {seconds:.0f} s: try again when "
            "it has less to do, or with --requests 200."
        )


@dataclass
class Ledger:
    """What all clients did, from where they stand."""

    answers: list[Answer] = field(default_factory=list)
    changes: Counter[Change] = field(default_factory=Counter)
    secrets: set[str] = field(default_factory=set)
    unexpected: list[str] = field(default_factory=list)
    turned_away: int = 0  # by the server itself, before the application: headers too long, say
    _lock: Lock = field(default_factory=Lock)

    def note(self, answer: Answer) -> None:
        with self._lock:
            self.answers.append(answer)

    def changed(self, action: str, kind: str, identifier: object, times: int = 1) -> None:
        with self._lock:
            self.changes[action, kind, str(identifier)] += times

    def surprise(self, request: str, got: str) -> None:
        with self._lock:
            self.unexpected.append(f"{request}: {got}")

    def turn_away(self) -> None:
        with self._lock:
            self.turned_away += 1


@dataclass
class Day:
    """What all clients of one day share."""

    url: str
    password: str
    ledger: Ledger
    over: Event = field(default_factory=Event)
    on_request: Callable[[], object] = lambda: None


class Client:
    """Somebody at a computer of their own."""

    def __init__(self, day: Day, number: int, name: str) -> None:
        self.day, self.ledger, self.name = day, day.ledger, name
        self.random = random.Random(f"{name} {number}")
        self.address = _address(number)
        self.requests = 0
        self.actor: str | None = None  # as the trail names who is logged in here
        self.http = httpx.Client(
            base_url=day.url,
            headers={"User-Agent": f"clinic-desk/{number}"},
            transport=httpx.HTTPTransport(local_address=self.address),
            timeout=ANSWER_SECONDS,
        )

    def close(self) -> None:
        self.http.close()

    def ask(
        self,
        method: str,
        template: str,
        expected: Collection[int],
        *,
        patient: int | None = None,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, bytes] | None = None,
        query: str = "",
        hostile: bool = False,
    ) -> httpx.Response:
        """Send one request and write it down.

        Raises UnexpectedAnswerError for a status that is not expected, TooBusyError for an answer that does not come.
        """
        path = template.replace("{patient_id}", str(patient)) + query
        raw = [(name.encode(), value) for name, value in (headers or {}).items()]
        self.requests += 1
        try:
            response = self.http.request(method, path, json=json, headers=raw)
        except httpx.TimeoutException as error:
            raise TooBusyError(f"an answer to {method} {path}", ANSWER_SECONDS) from error
        except httpx.TransportError as error:
            self.ledger.surprise(f"{method} {path}", repr(error))
            raise UnexpectedAnswerError from error
        if template == "/login" and response.is_success:
            self._has_logged_in(response.json())
        self.ledger.note(self._answer(method, template, patient, response, hostile=hostile))
        self.day.on_request()
        if response.status_code not in expected:
            self.ledger.surprise(f"{method} {path}", f"{response.status_code}, {response.text[:200]}")
            raise UnexpectedAnswerError
        return response

    def _answer(
        self, method: str, template: str, patient: int | None, response: httpx.Response, *, hostile: bool
    ) -> Answer:
        return Answer(
            method,
            template,
            response.status_code,
            None if patient is None else str(patient),
            self.actor,
            self.address,
            response.headers.get("x-request-id"),
            hostile,
        )

    def _has_logged_in(self, body: Mapping[str, Any]) -> None:
        self.actor = str(body.get("id", body["name"]))
        if token := body.get("token"):
            self.ledger.secrets.add(token)
            self.http.headers["Authorization"] = f"Bearer {token}"


def _address(number: int) -> str:
    """Where the whole of 127/8 is this machine, each client has an address of its own."""
    address = f"127.0.0.{number + 2}"
    try:
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError:
        return "127.0.0.1"
    return address
