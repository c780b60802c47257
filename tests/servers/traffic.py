"""A hundred clients, who keep account of what they were answered; and what the trail must say of it."""

import http.client
import itertools
import os
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from audit_core import AuditTrail
from tests.adapters.servers import wait_until
from tests.servers.notes import markers
from tests.servers.running import Running

REQUEST = "POST /notes/{number}"
PAUSE = 0.1  # seconds between an answer and the same client's next request: a worker that starts needs the time
OF_A_REQUEST = Counter({"create": 1, "note.written": 1, REQUEST: 1})


@dataclass(frozen=True)
class Answer:
    """What a client was answered; a status of 0 is a connection that ended without an answer."""

    number: int
    status: int
    request_id: str | None = None
    client: int = 0

    @property
    def actor(self) -> str:
        return f"actor-{self.number}"

    @property
    def marker(self) -> str:
        return f"marker-{self.number}"


def ask(url: str, number: int, path: str = "/notes/{number}", client: int = 0) -> Answer:
    """One request, on a connection of its own."""
    parts, wanted = urlsplit(url), Answer(number, 0, client=client)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=180)
    try:
        headers = {"X-Actor": wanted.actor, "X-Marker": wanted.marker, "Content-Length": "0"}
        connection.request("POST", path.format(number=number), headers=headers)
        response = connection.getresponse()
        response.read()
        return Answer(number, response.status, response.headers["X-Request-ID"], client)
    except (OSError, http.client.HTTPException):
        return wanted
    finally:
        connection.close()


def ask_all(url: str, numbers: Iterable[int], clients: int) -> list[Answer]:
    """So many clients ask at the same time."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda number: ask(url, number), numbers))


@contextmanager
def asking(url: str, numbers: Iterable[int], clients: int, path: str = "/notes/{number}") -> Iterator[list[Answer]]:
    """The clients ask for the length of the block, or until nobody answers any more."""
    answers: list[Answer] = []
    waiting, done = iter(numbers), threading.Event()

    def client(name: int) -> None:
        refused = 0
        while not done.is_set() and refused < 3:
            answer = ask(url, next(waiting), path, name)
            answers.append(answer)
            refused = 0 if answer.status else refused + 1
            done.wait(PAUSE)

    threads = [threading.Thread(target=client, args=(name,)) for name in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()


def answered(answers: Iterable[Answer]) -> int:
    return sum(answer.status == 201 for answer in answers)


def ask_until_stopped(server: Running, count: int, clients: int) -> list[Answer]:
    """So many requests; then one worker is killed while others come, and then the server is told to stop."""
    numbers = itertools.count()
    answers = ask_all(server.url, itertools.islice(numbers, count), clients)
    assert answered(answers) == count, (Counter(answer.status for answer in answers), server.said)
    with asking(server.url, numbers, clients) as meanwhile:
        assert wait_until(lambda: answered(meanwhile) > clients, 30)
        workers = server.workers()
        os.kill(server.a_worker(), signal.SIGKILL)
        # A worker that has just begun is deaf to a SIGTERM: gunicorn's inherits the handler of its parent.
        assert wait_until(lambda: server.a_worker() not in workers, 60), server.said
        server.stop()
    return [*answers, *meanwhile]


def check(url: str, answers: Iterable[Answer]) -> Counter[str]:
    """Every request that was answered has its events once, under its own actor; how often there is each action."""
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        trail.flush(30)
        assert list(trail.waiting()) == []
        assert trail.verify().findings == ()
        events = list(trail.events())
    by_request = defaultdict(list)
    for event in events:
        by_request[event.request_id].append(event)
    for answer in answers:
        if answer.status == 201:
            mine = by_request[answer.request_id]
            assert Counter(event.action for event in mine) == OF_A_REQUEST, (answer, mine)
            assert {event.actor_id for event in mine} == {answer.actor}, mine
    _assert_nothing_is_mixed(by_request)
    changes = [event.details["changes"]["marker"]["new"] for event in events if event.action == "create"]
    assert sorted(changes) == sorted(markers(url)), "each committed change has its event, and no other has"
    return Counter(event.action for event in events)


def _assert_nothing_is_mixed(by_request):
    """Also of those whose client was never answered."""
    for request_id, events in by_request.items():
        said = {event.details["marker"] for event in events if event.action == "note.written"}
        said |= {event.details["changes"]["marker"]["new"] for event in events if event.action == "create"}
        said |= {f"marker-{event.resource_id}" for event in events if event.action == REQUEST}
        assert request_id is None or len(said) <= 1, events
        actors = {event.actor_id for event in events if event.action in OF_A_REQUEST}
        assert actors <= {marker.replace("marker", "actor") for marker in said}, events
