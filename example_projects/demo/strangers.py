"""Those who mean no good: one who guesses passwords, and one who sends what no browser would."""

from __future__ import annotations

import httpx

from example_projects.demo.client import ANSWER_SECONDS, Client, TooBusyError
from example_projects.demo.desk import ADMIN, Desk, Ward, fail_to_log_in

WRONG_PASSWORDS = 7  # that somebody tries from one address


def try_passwords(client: Client) -> None:
    """Somebody without an account, at one address."""
    for _ in range(WRONG_PASSWORDS):
        fail_to_log_in(client, ADMIN)
    client.ask("GET", "/patients", {401})
    client.ask("POST", "(unrouted)", {404}, query="/..%2f..%2fetc/passwd%00", hostile=True)


def send_hostile_headers(client: Client, ward: Ward) -> None:
    """Somebody with one, who wants to break the trail, or to be somebody else in it."""
    client.ask("POST", "/login", {200}, json={"name": client.name, "password": client.day.password})
    desk = Desk(client, ward)
    for headers in (
        {"user-agent": b"A" * 30_000},
        {"user-agent": b"\xff\xfe not UTF-8 \xc3("},
        {"user-agent": "two\u2028lines\u2029 and \u202eback to front".encode()},
        {"x-forwarded-for": b"8.8.8.8"},
        {"x-forwarded-for": b"' OR 1=1 --, 999.1.2.3, ::ffff:::1, \xff\xfe, 127.0.0.1"},
        {"forwarded": b"for=8.8.8.8;host=example.org", "x-real-ip": b"8.8.8.8", "true-client-ip": b"8.8.8.8"},
        {"x-request-id": b"1" * 5_000, "traceparent": b"\xff" * 99},
    ):
        client.ask("GET", "/patients/{patient_id}", {200}, patient=ward.known_best, headers=headers, hostile=True)
    client.ledger.secrets.add("hunter2")
    client.ask("GET", "/patients", {200}, query="?name=%00%ed%a0%80%e2%80%a8%ff&password=hunter2", hostile=True)
    desk.add_note(ward.known_best, "NUL \0, line separator \u2028, '); DROP TABLE audit_events; --")
    ask_beyond_the_limit(client)


def ask_beyond_the_limit(client: Client) -> None:
    """A megabyte of User-Agent: no server lets that through to an application."""
    headers = {"User-Agent": "A" * 1_000_000}
    try:
        response = httpx.get(f"{client.day.url}/patients", headers=headers, trust_env=False, timeout=ANSWER_SECONDS)
    except httpx.TimeoutException as error:
        raise TooBusyError("an answer to a megabyte of User-Agent", ANSWER_SECONDS) from error
    except (httpx.NetworkError, httpx.RemoteProtocolError):  # it hung up in the middle
        client.ledger.turn_away()
        return
    if response.status_code in {400, 413, 431} and "x-request-id" not in response.headers:
        client.ledger.turn_away()
    else:
        client.ledger.surprise("GET /patients with a megabyte of User-Agent", str(response.status_code))
