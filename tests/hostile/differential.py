"""The same bytes to the same application, with an audit and without one."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, Phase, given, settings

from audit_core import AuditTrail
from tests.adapters.servers import wait_until
from tests.hostile.arrivals import Arrived
from tests.hostile.sites import SITES
from tests.hostile.traffic import requests
from tests.hostile.wire import exchange

MOMENTS = timedelta(seconds=5)  # an event may be written after others that have begun later
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SECRET = "hunter2"  # the attacks have it in queries, paths, headers, bodies and exceptions
PATIENCE = (0.1, 0.5, 2.0)  # seconds: whether a server waits for more, or is busy, is seen by waiting longer


class Pair:
    """One application twice, and what it has been asked so far."""

    def __init__(self, ports, trail, arrived, *, drops):
        """``drops``: the framework may let a request fall, whose body breaks off, before anybody has seen it."""
        self._ports, self._trail, self._arrived, self._drops = ports, trail, arrived, drops
        self._pool = ThreadPoolExecutor(len(ports))
        self._told = {}  # the events of the last moments, by their ids
        self.answered, self.unanswered = Counter(), Counter()  # requests by method and status, or by method alone
        self.events, self.sent = Counter(), 0

    def check(self, payload):
        """The answers are the same, and each request that reached the application has its event."""
        self.sent += 1
        for patience in PATIENCE:
            plain, audited = self._pool.map(lambda port, wait=patience: exchange(port, payload, wait), self._ports)
            if plain.agrees(audited):
                break
        assert plain.agrees(audited), (payload[:300], plain, audited)
        assert wait_until(self.is_told), (payload[:300], *self.differences())

    def is_told(self):
        """Whether each has its event, as it was answered, and there is no other."""
        for method, *status in self._arrived.since():
            (self.answered if status else self.unanswered)[method, *status] += 1
        self._read()
        others = Counter((method,) for method, _ in (self.events - self.answered).elements())
        is_whole = others <= self.unanswered if self._drops else others == self.unanswered
        return not self.answered - self.events and is_whole

    def differences(self):
        """Requests without an event, events without a request, and requests that nobody waited for."""
        return self.answered - self.events, self.events - self.answered, self.unanswered

    def _read(self):
        since = max((event.timestamp for event in self._told.values()), default=LONG_AGO) - MOMENTS
        events = {event.event_id: event for event in self._trail.events(since=since)}
        for event in events.values():
            assert SECRET not in repr(event)
            if event.event_id not in self._told and event.action not in {"log.created", "response.broken"}:
                self.events[event.details["method"], event.details["status"]] += 1
        self._told = events


@contextmanager
def paired(name, folder):
    """Afterwards the servers have stopped, everything is sealed, and the trail is verified."""
    site, url = SITES[name], f"sqlite:///{folder}/audited.db"
    plain, audited = folder / "plain.jsonl", folder / "audited.jsonl"
    with ExitStack() as stack:
        stack.enter_context(_settings(name))
        one, other = stack.enter_context(site.serve(None, plain)), stack.enter_context(site.serve(url, audited))
        trail = stack.enter_context(AuditTrail(url, lifecycle=False, create=False))
        yield Pair((one, other), trail, Arrived(audited), drops=name == "django-asgi")
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        assert not next(trail.waiting(), None), "all is sealed"
        assert not trail.verify().findings


def _settings(name):
    if not name.startswith("django"):
        return nullcontext()
    from django.test import override_settings

    from tests.hostile.django_site import SETTINGS

    return override_settings(**SETTINGS)


def fuzz(pair, examples, *, repeatable):
    """So many requests, the same ones each time if they are to be repeatable."""

    @settings(
        max_examples=examples,
        derandomize=repeatable,
        phases=(Phase.generate,),  # the first failure is told as it is
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(requests())
    def check(payload):
        pair.check(payload)

    check()
