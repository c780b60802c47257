"""What a request audit must do, in every framework: one suite, over real sockets.

``class TestDjango(Behaviour): server = DjangoServer()`` is all that another framework needs; see ``servers.py``.
"""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest

from audit_core import AuditEvent, AuditPolicy, AuditRule, AuditTrail
from audit_core.errors import StoreUnavailableError
from audit_core.outbox.spill import SpillFile
from tests.adapters.servers import LARGE_CHUNKS, SECRET, Probe, Server, wait_until

POLICY = AuditPolicy(reads=["patient", "/reports/*"], skip=["/health", "/skipped/*"])


@dataclass
class Site:
    """An audited application that answers."""

    url: str
    trail: AuditTrail
    probe: Probe
    client: httpx.Client

    def all_events(self, action: str | None = None) -> list[AuditEvent]:
        return list(self.trail.events(action=action, newest_first=False))

    def request_events(self) -> list[AuditEvent]:
        """Without the trail's start, which is an event of the first request that leaves one."""
        return [event for event in self.all_events() if event.action not in {"log.created", "trail.started"}]

    def ask(self, method: str, path: str, **options) -> tuple[httpx.Response, list[AuditEvent]]:
        """The response, and the events that the request left."""
        before = {event.event_id for event in self.request_events()}
        response = self.client.request(method, path, **options)
        new = [event for event in self.request_events() if event.event_id not in before]
        mine = response.headers.get("x-request-id")
        return response, [event for event in new if mine is None or event.request_id == mine]

    def event(self, method: str, path: str, **options) -> AuditEvent:
        """The one event that the request left."""
        _, events = self.ask(method, path, **options)
        assert len(events) == 1, events
        return events[0]

    def send(self, request: bytes) -> bytes:
        """A request as the client writes it; the first line of the answer."""
        parts = urlsplit(self.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
            connection.sendall(request)
            return connection.makefile("rb").readline()


def connect(url: str) -> httpx.Client:
    """Without keep-alive: a server may close the connection of a request that raised."""
    return httpx.Client(base_url=url, timeout=20, limits=httpx.Limits(max_keepalive_connections=0))


class Behaviour:
    server: Server

    @classmethod
    @contextmanager
    def site_of(cls, url: str, **settings):
        with AuditTrail(url, **{"policy": POLICY, **settings}) as trail:
            probe = Probe()
            with cls.server.serve(trail, probe) as address, connect(address) as client:
                yield Site(address, trail, probe, client)
                probe.release.set()

    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, tmp_path_factory):
        file = tmp_path_factory.mktemp(cls.server.name) / "clinic.db"
        with cls.site_of(f"sqlite:///{file}") as site:
            yield site

    # -- durable before the first byte

    def test_the_event_is_durable_before_the_first_byte_of_the_response_leaves(self, site):
        site.probe.release.clear()
        with site.client.stream("POST", "/stream") as response:
            (event,) = [e for e in site.all_events() if e.request_id == response.headers["x-request-id"]]
            assert event.action == "POST /stream"
            chunks = response.iter_bytes()
            assert next(chunks) == b"first", "the stream is not buffered"
            assert not site.probe.release.is_set()
            site.probe.release.set()
            assert b"".join(chunks) == b"second"

    def test_a_large_stream_is_not_buffered_and_its_first_byte_not_delayed(self, site):
        site.probe.calls["chunk"] = 0
        with site.client.stream("POST", "/large") as response:
            parts = response.iter_raw(2**20)
            read = len(next(parts))
            time.sleep(0.3)  # nobody reads: what is made meanwhile lies somewhere
            assert site.probe.calls["chunk"] <= LARGE_CHUNKS // 4
            read += sum(map(len, parts))
        assert read == LARGE_CHUNKS * 2**20
        (event,) = [e for e in site.all_events() if e.request_id == response.headers["x-request-id"]]
        assert (event.action, event.outcome) == ("POST /large", "success")

    def test_server_sent_events_flow_one_by_one(self, site):
        site.probe.ticks.put(0)  # a WSGI server sends its headers with the first part
        with site.client.stream("GET", "/reports/live") as response:
            parts = response.iter_raw()
            for tick in range(3):
                assert next(parts) == b"data: %d\n\n" % tick
                site.probe.ticks.put(tick + 1 if tick < 2 else None)
            assert list(parts) == []
        assert response.headers["content-type"].startswith("text/event-stream")
        (event,) = [e for e in site.all_events() if e.request_id == response.headers["x-request-id"]]
        assert (event.action, event.outcome) == ("GET /reports/live", "success")

    def test_a_stream_that_raises_leaves_a_second_event_that_says_so(self, site):
        with site.client.stream("POST", "/broken-stream") as response, pytest.raises(httpx.HTTPError):
            response.read()
        mine = self.of_request(site, response, 2)
        assert [event.action for event in mine] == ["POST /broken-stream", "response.broken"]
        assert mine[1].outcome == "failure"
        assert mine[1].details["reason"] == "RuntimeError"

    def test_a_client_that_disconnects_leaves_a_second_event_that_says_so(self, site):
        with site.client.stream("POST", "/endless") as response:
            assert next(response.iter_bytes()).startswith(b"more")
        mine = self.of_request(site, response, 2)
        assert [event.action for event in mine] == ["POST /endless", "response.broken"]
        assert mine[1].details["reason"] in {"client disconnected", "CancelledError", "ClientDisconnect"}

    def test_a_mode_without_waiting(self, tmp_path):
        with self.site_of(f"sqlite:///{tmp_path}/clinic.db", durable=False) as site:
            assert site.client.post("/patients").status_code == 201
            assert wait_until(lambda: len(site.all_events("POST /patients")) == 1)

    def test_a_mode_that_answers_503_when_the_event_cannot_be_stored(self, tmp_path, monkeypatch):
        with self.site_of(f"sqlite:///{tmp_path}/clinic.db", on_failure="block") as site:
            assert site.client.post("/patients").status_code == 201
            with monkeypatch.context() as broken:
                self.break_storage(broken, site.trail)
                for path in ("/cookies", "/stream", "/boom", "/broken-stream"):
                    response = site.client.post(path)
                    assert response.status_code == 503, path
                    assert "set-cookie" not in response.headers
                    assert b"first" not in response.content
                    assert response.headers["x-request-id"]
                    assert site.probe.calls[path] == 1
                assert site.client.get("/denied/401").status_code == 503
                assert site.client.get("/patients/1").status_code == 503
                assert site.client.get("/health").status_code == 200, "what is not audited goes on"
                site.probe.release.set()
            assert site.client.post("/patients").status_code == 201
            assert wait_until(lambda: len(site.all_events("POST /cookies")) == 1), "nothing is dropped"
            (told,) = site.all_events("POST /cookies")
            refusals = [e for e in site.all_events("response.broken") if "refused" in e.details["reason"]]
            (refused,) = [e for e in refusals if e.request_id == told.request_id]
            assert told.details["status"] == 200, "what the application answered"
            assert (refused.outcome, refused.details["status"]) == ("failure", 503), "what the client got"
            assert len(refusals) == 6, "each request that was refused says so"

    def test_by_default_the_request_goes_on_when_the_event_cannot_be_stored(self, tmp_path, monkeypatch):
        with self.site_of(f"sqlite:///{tmp_path}/clinic.db") as site:
            with monkeypatch.context() as broken:
                self.break_storage(broken, site.trail)
                assert site.client.post("/cookies").status_code == 200
            assert wait_until(lambda: len(site.all_events("POST /cookies")) == 1), "and its event is not lost"

    # -- exceptions

    def test_an_unhandled_exception_is_one_failure_with_its_type_but_not_its_text(self, site):
        site.probe.calls["/boom"] = 0
        response, (event,) = site.ask("POST", "/boom")
        assert (response.status_code, event.outcome, event.details["status"]) == (500, "failure", 500)
        assert event.details["exception"] == "ValueError"
        assert "hunter2" not in repr(event)
        assert SECRET not in repr(event)
        assert event.action == "POST /boom"
        assert site.probe.calls["/boom"] == 1, "the handler ran once"

    # -- outcome

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [(200, "success"), (302, "success"), (400, "failure"), (401, "denied"), (403, "denied"), (404, "failure")],
    )
    def test_below_400_success_401_and_403_denied_the_rest_failure(self, site, status, outcome):
        event = site.event("POST", f"/denied/{status}")
        assert (event.outcome, event.details["status"]) == (outcome, status)

    def test_a_handler_may_say_otherwise(self, site):
        event = site.event("POST", "/outcome")
        assert (event.outcome, event.details["status"]) == ("denied", 200)

    def test_a_handler_may_add_details(self, site):
        assert site.event("POST", "/details").details["ward"] == "7"

    def test_what_is_told_of_a_request_while_another_actor_acts_in_it_is_told(self, site):
        event = site.event("POST", "/acting")
        assert (event.outcome, event.details["ward"]) == ("denied", "7")
        assert (event.actor_id, event.actor_type) == (None, "anonymous"), "the actor was another for that block alone"

    def test_an_exception_is_a_failure_whatever_was_said_before(self, site):
        response, (event,) = site.ask("POST", "/contradiction")
        assert (response.status_code, event.outcome, event.details["status"]) == (500, "failure", 500)

    # -- action and resource

    def test_action_and_resource_come_from_the_routes_template_with_the_raw_path_beside_it(self, site):
        _, events = site.ask("POST", "/patients/42/notes")
        written, event = events
        assert (event.action, event.resource_type, event.resource_id) == (
            "POST /patients/{patient_id}/notes", "patient", "42",
        )  # fmt: skip
        assert event.details["path"] == "/patients/42/notes"
        assert written.action == "note.written"

    def test_create_update_and_delete_name_the_same_resource(self, site):
        asked = [("POST", "/patients"), ("PUT", "/patients/7"), ("DELETE", "/patients/7")]
        found = [site.event(*request) for request in asked]
        assert [(e.action, e.resource_type, e.resource_id) for e in found] == [
            ("POST /patients", "patient", None),
            ("PUT /patients/{patient_id}", "patient", "7"),
            ("DELETE /patients/{patient_id}", "patient", "7"),
        ]  # fmt: skip

    def test_an_unrouted_path_is_an_event_too(self, site):
        event = site.event("POST", "/no/such/path")
        assert (event.action, event.outcome, event.details["path"]) == ("POST (unrouted)", "failure", "/no/such/path")

    def test_a_method_that_the_route_has_not_is_an_event_too(self, site):
        response, (event,) = site.ask("PATCH", "/patients/7")
        assert (response.status_code, event.outcome, event.details["status"]) == (405, "failure", 405)

    # -- which requests

    def test_reads_are_audited_by_resource_and_by_route(self, site):
        assert site.event("GET", "/patients/7").action == "GET /patients/{patient_id}"
        assert site.event("GET", "/reports/monthly").action == "GET /reports/monthly"

    def test_reads_are_not_audited_otherwise(self, tmp_path):
        with self.site_of("memory:", policy=AuditPolicy()) as site:
            assert site.ask("GET", "/patients/7")[1] == []
            assert site.ask("GET", "/reports/monthly")[1] == []
            assert site.ask("GET", "/no/such/path")[1] == []
            assert site.event("GET", "/denied/403").outcome == "denied", "a refusal is, whatever its method"

    def test_skipped_paths_leave_no_event(self, site):
        assert site.ask("GET", "/health")[1] == []
        assert site.ask("POST", "/skipped/anything")[1] == []

    def test_a_rule_names_action_and_resource(self):
        policy = AuditPolicy(
            rules=[AuditRule("/patients/{patient_id}", action="chart.open", resource="chart:{patient_id}")]
        )
        with self.site_of("memory:", policy=policy) as site:
            event = site.event("GET", "/patients/7")
            assert (event.action, event.resource_type, event.resource_id) == ("chart.open", "chart", "7")

    def test_a_decorator_names_action_and_resource(self, site):
        event = site.event("GET", "/patients/7/chart")
        assert (event.action, event.resource_type, event.resource_id) == ("chart.read", "chart", "7")

    # -- who

    def test_the_actor_that_a_handler_or_dependency_names(self, site):
        event = site.event("POST", "/login")
        assert (event.actor_id, event.actor_type) == ("dr-grey", "user")

    def test_the_actor_that_the_framework_knows_however_late(self, site):
        event = site.event("POST", "/late")
        assert (event.actor_id, event.actor_type) == ("dr-late", "user")

    def test_an_anonymous_actor_is_called_anonymous(self, site):
        event = site.event("POST", "/denied/401")
        assert (event.actor_id, event.actor_type) == (None, "anonymous")

    def test_nothing_of_ours_makes_a_response_vary(self, site):
        for path in ("/patients", "/login", "/late"):
            assert "vary" not in site.client.post(path).headers

    # -- from where

    def test_a_spoofed_x_forwarded_for_is_never_believed(self, site):
        event = site.event("POST", "/patients", headers={"X-Forwarded-For": "203.0.113.9"})
        assert event.ip_address == "127.0.0.1"

    @pytest.mark.parametrize(
        "garbage", ["", ",,,", "unknown", "203.0.113.9, ', DROP TABLE", "1.2.3.4.5", "[::1", "a" * 5000, "::1%eth0,_x"]
    )
    def test_garbage_in_x_forwarded_for_never_raises_and_is_never_believed(self, proxied, garbage):
        event = proxied.event("POST", "/patients", headers={"X-Forwarded-For": garbage})
        assert event.ip_address in {"127.0.0.1", "203.0.113.9"} - ({"203.0.113.9"} if "DROP" in garbage else set())

    def test_behind_trusted_proxies_the_client_is_the_first_untrusted_from_the_right(self, proxied):
        headers = {"X-Forwarded-For": "198.51.100.66, 203.0.113.9, 10.1.2.3"}
        assert proxied.event("POST", "/patients", headers=headers).ip_address == "203.0.113.9"
        several = [
            ("X-Forwarded-For", "198.51.100.66"),
            ("X-Forwarded-For", "2001:db8::7"),
            ("X-Forwarded-For", "10.0.0.1"),
        ]
        assert proxied.event("POST", "/patients", headers=several).ip_address == "2001:db8::7"

    def test_of_proxies_that_set_forwarded_only_that_is_believed(self):
        headers = {"Forwarded": 'for="[2001:db8::7]:4711";proto=https', "X-Forwarded-For": "198.51.100.66"}
        with self.site_of("memory:", trusted_proxies=["127.0.0.1"], proxy_header="Forwarded") as site:
            assert site.event("POST", "/patients", headers=headers).ip_address == "2001:db8::7"

    def test_the_user_agent_is_recorded(self, site):
        assert site.event("POST", "/patients", headers={"User-Agent": "clinic/1.0"}).user_agent == "clinic/1.0"

    def test_a_secret_in_the_user_agent_is_redacted(self, site):
        said = "clinic/1.0 password=hunter2 Authorization: Bearer abcdefghijklmnopqrst"
        event = site.event("POST", "/patients", headers={"User-Agent": said})
        assert event.user_agent == "clinic/1.0 password=[redacted] Authorization: [redacted]"

    # -- request ids

    def test_the_request_id_is_made_and_returned_to_the_client(self, site):
        response, (event,) = site.ask("POST", "/patients", headers={"X-Request-ID": "from-the-client"})
        assert response.headers.get_list("x-request-id") == [event.request_id]
        assert event.request_id != "from-the-client"
        assert site.client.get("/health").headers["x-request-id"]

    def test_the_request_id_is_taken_from_a_trusted_proxy_if_it_is_well_formed(self, proxied):
        assert proxied.event("POST", "/patients", headers={"X-Request-ID": "proxy-4711-a"}).request_id == "proxy-4711-a"
        for bad in ("short", "x" * 200, "with space and more", "semi;colon;semi"):
            assert proxied.event("POST", "/patients", headers={"X-Request-ID": bad}).request_id != bad

    def test_traceparent_is_understood_from_a_trusted_proxy(self, site, proxied):
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        assert proxied.event("POST", "/patients", headers=headers).details["trace_id"] == trace
        assert "trace_id" not in site.event("POST", "/patients", headers=headers).details
        for bad in (f"ff-{trace}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", "00-x-y-01"):
            assert "trace_id" not in proxied.event("POST", "/patients", headers={"traceparent": bad}).details

    def test_a_request_id_that_the_application_sets_stays_alone(self, site):
        assert site.client.post("/own-id").headers.get_list("x-request-id") == ["from-the-application"]

    # -- privacy

    def test_the_query_string_goes_through_the_redactor(self, site):
        event = site.event("POST", "/patients?ward=7&token=hunter2")
        assert event.details["query"].startswith("ward=7&token=")
        assert "hunter2" not in repr(event)

    def test_a_secret_in_a_query_is_recorded_nowhere_however_it_is_encoded(self, site):
        for query in (
            "%2574oken=hunter2", "tok%65n=hunter2", "token[]=hunter2", "user%5Bpassword%5D%5B%5D=hunter2",
            "to+ken=hunter2", "TOKEN=hunter2", "a;token=hunter2", "a=b%26token%3Dhunter2", "token=a&token=hunter2",
            "filter=%7B%22password%22%3A%22hunter2%22%7D", "filter=%257B%2522password%2522%253A%2522hunter2%2522%257D",
            "next=%2Freset%2Fhunter2", "next=https%3A%2F%2Fbob%3Ahunter2%40x%2Fy",
            "x=%3Cpassword%3Ehunter2%3C%2Fpassword%3E", "%00token=hunter2", "token%ff=hunter2", "%EF%BD%94oken=hunter2",
        ):  # fmt: skip
            event = site.event("POST", f"/patients?{query}")
            assert "redacted" in event.details["query"], query
            assert "hunter2" not in repr(event), query

    def test_a_secret_in_the_path_is_recorded_nowhere(self, site):
        event = site.event("POST", "/reset/hunter2")
        assert event.action == "POST /reset/{token}"
        assert (event.resource_type, event.resource_id) == ("reset", "[redacted]")
        assert event.details["path"] == "/reset/[redacted]"
        assert "hunter2" not in repr(event)

    def test_a_secret_in_a_path_without_a_route_is_recorded_nowhere(self, site):
        jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.SflKxwRJSMeKKF2QT4fwpM"
        for secret in (jwt, "Zk3-v0_qT8sW2xYb5RfL1mNcHd7", "9b2e4f1c7a6d8e3b5c0f2a1d4e6b8c7f"):
            event = site.event("POST", f"/no/such/{secret}/path")
            assert event.details["path"] == "/no/such/[redacted]/path"
            assert secret not in repr(event)

    def test_a_secret_in_a_path_with_a_slash_too_many_is_recorded_nowhere(self, site):
        event = site.event("POST", "/reset/hunter2/")
        assert event.details["path"] == "/reset/[redacted]/"
        assert "hunter2" not in repr(event)

    def test_neither_headers_nor_bodies_nor_cookies_are_recorded(self, site):
        headers = {"Authorization": "Bearer hunter2", "Cookie": "session=hunter2", "Referer": "https://x/reset/hunter2"}
        event = site.event("POST", "/upload", headers=headers, content=b"hunter2")
        assert "hunter2" not in repr(event)

    def test_bodies_are_not_read(self, site):
        assert site.client.post("/unread", content=b"x" * 100_000).status_code == 200
        assert site.client.post("/upload", content=b"x" * 3_000_000).text == "3000000"
        chunks = (b"x" * 1000 for _ in range(100))
        assert site.client.post("/upload", content=chunks).text == "100000", "a chunked body arrives as well"

    # -- the response stays as it is

    def test_two_set_cookie_headers_stay_two(self, site):
        cookies = site.client.post("/cookies").headers.get_list("set-cookie")
        assert sorted(cookie[:3] for cookie in cookies) == ["a=1", "b=2"]

    def test_background_tasks_run(self, site):
        if self.server.has_background:
            assert site.client.post("/background").status_code == 202
            assert wait_until(lambda: site.probe.calls["background"] == 1)

    def test_a_background_task_that_fails_leaves_a_second_event_that_says_so(self, site):
        if self.server.has_background:
            response = site.client.post("/bad-background")
            mine = self.of_request(site, response, 2)
            assert [event.action for event in mine] == ["POST /bad-background", "response.broken"]
            assert mine[1].details["reason"] == "RuntimeError after the response"

    # -- hostile input

    @pytest.mark.parametrize(
        "target",
        [
            b"/patients?%00=%ff%fe",
            b"/%00%ff%ed%a0%80",
            b"/%E2%80%A8/x",
            b"/patients?" + b"a=" * 3000,
            b"//evil//",
            b"/a;b?c#d",
        ],
    )
    def test_a_hostile_path_breaks_nothing_and_is_recorded(self, site, target):
        before = len(site.request_events())
        answer = site.send(
            b"POST " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        if not answer.startswith(b"HTTP/1.1 400"):  # the server itself refused it
            assert b" 500" not in answer
            assert len(site.request_events()) == before + 1

    @pytest.mark.parametrize(
        "header",
        [
            b"User-Agent: \xff\xfe\x80",
            "User-Agent: \u2028\u2029".encode(),
            b"User-Agent: \xed\xa0\x80",
            b"User-Agent: " + b"x" * 30_000,
            b"X-Request-ID: \xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"X-Forwarded-For: " + b"1.1.1.1," * 4000,
            b"Cookie: " + b"a=b; " * 5000,
            b"X-Actor: \xf0\x9f\x92\xa9",
        ],
        ids=range(8),
    )
    def test_a_hostile_header_breaks_nothing_and_is_recorded(self, site, header):
        before = len(site.all_events("POST /patients"))
        request = (
            b"POST /patients HTTP/1.1\r\nHost: x\r\n" + header + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        answer = site.send(request)
        if not answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")):  # the server itself refused it
            assert b" 201" in answer
            assert len(site.all_events("POST /patients")) == before + 1

    def test_a_huge_integer_in_the_path_breaks_nothing_that_it_does_not_break_without_us(self, site):
        response, events = site.ask("PUT", "/patients/" + "9" * 5000)
        assert len(events) == 1
        assert events[0].details["status"] == response.status_code

    # -- concurrency

    def test_a_hundred_concurrent_requests_keep_a_hundred_contexts_apart(self, tmp_path):
        with self.site_of(f"sqlite:///{tmp_path}/clinic.db") as site, ThreadPoolExecutor(50) as pool:
            limits = httpx.Limits(max_connections=50)
            with httpx.Client(base_url=site.url, timeout=30, limits=limits) as client:

                def ask(number: int) -> tuple[int, str]:
                    headers = {"X-Actor": f"actor-{number}", "X-Marker": f"marker-{number}"}
                    response = client.post(f"/patients/{number}/notes", headers=headers)
                    assert response.status_code == 201
                    return number, response.headers["x-request-id"]

                asked = dict(pool.map(ask, range(100)))
            written = {e.request_id: e for e in site.all_events("note.written")}
            answered = {e.request_id: e for e in site.all_events("POST /patients/{patient_id}/notes")}
            assert len(written) == len(answered) == len(set(asked.values())) == 100
            for number, request_id in asked.items():
                for event in (written[request_id], answered[request_id]):
                    assert event.actor_id == f"actor-{number}"
                assert written[request_id].details["marker"] == f"marker-{number}"
                assert answered[request_id].resource_id == str(number)

    # -- the trail itself

    def test_start_and_stop_of_the_trail_are_events_and_everything_is_sealed(self, tmp_path):
        url = f"sqlite:///{tmp_path}/clinic.db"
        with self.site_of(url) as site:
            for number in range(5):
                assert site.client.put(f"/patients/{number}").status_code == 200
        with AuditTrail(url, lifecycle=False, create=False) as trail:
            events = list(trail.events(newest_first=False))
            assert all(event.sealed for event in events)
            actions = [event.action for event in events if not event.action.startswith("log.")]
            assert actions[0] == "trail.started"
            assert next(trail.events(action="trail.started")).details.items() >= POLICY.stated().items()
            assert actions.count("PUT /patients/{patient_id}") == 5
            assert actions[-1] == "trail.stopped"
            assert not list(tmp_path.glob("clinic.db-audit/*.spill"))
            assert not trail.verify().findings

    def test_a_sqlite_trail_and_a_memory_trail_say_the_same(self, tmp_path):
        seen = []
        for url in (f"sqlite:///{tmp_path}/clinic.db", "memory:"):
            with self.site_of(url) as site:
                events = [site.event("PUT", "/patients/7?ward=7"), site.event("POST", "/login")]
                seen.append(
                    json.dumps(
                        [
                            [e.action, e.actor_id, e.outcome, e.ip_address, {**e.details, "duration_ms": 0}]
                            for e in events
                        ]
                    )
                )
        assert seen[0] == seen[1]

    # -- what the tests are made of

    @pytest.fixture(scope="class")
    @classmethod
    def proxied(cls):
        with cls.site_of("memory:", trusted_proxies=["127.0.0.1", "10.0.0.0/8"]) as site:
            yield site

    @staticmethod
    def of_request(site: Site, response: httpx.Response, count: int) -> list[AuditEvent]:
        """The events of a request, once there are as many as there should be."""
        mine: list[AuditEvent] = []

        def arrived() -> bool:
            mine[:] = [e for e in site.all_events() if e.request_id == response.headers["x-request-id"]]
            return len(mine) >= count

        assert wait_until(arrived), mine
        return mine

    @staticmethod
    def break_storage(monkeypatch, trail: AuditTrail) -> None:
        def refuse(*_: object) -> None:
            raise StoreUnavailableError("the disk is full")

        def fail(*_: object) -> None:
            raise OSError("the disk is full")

        monkeypatch.setattr(trail.sealer, "deliver", refuse)
        monkeypatch.setattr(SpillFile, "append", fail)
