"""The trail's counters where the application has its metrics: OpenTelemetry or Prometheus.

observe(trail)                                           # OpenTelemetry, with the application's meter provider
prometheus_client.REGISTRY.register(Collector(trail))    # Prometheus
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from audit_core.trail import AuditTrail

if TYPE_CHECKING:
    from prometheus_client.core import Metric


_SINCE_THE_BEGINNING = {
    "written": "Audit events that this process has committed.",
    "spilled": "Audit events that went to the spill file first.",
    "lost": "Audit events that fitted nowhere; each is told in a trail.gap.",
    "failures": "Tries to write audit events that the trail's database refused.",
}
_NOW = {
    "queued": "Audit events that wait for the writer of this process.",
    "owed": "Audit events in the spill file or in memory of this process.",
}
_AGE = "Seconds since this process last saw the anchor take, or have, the newest checkpoint."


def observe(trail: AuditTrail) -> None:
    """Show the counters as ``audit.events.written`` and the like to the application's OpenTelemetry meter provider.

    Raises ImportError without ``opentelemetry-api``.
    """
    from opentelemetry.metrics import CallbackOptions, Observation, get_meter

    def reading(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        reference = weakref.ref(trail)  # a meter provider lives as long as the process

        def read(_: CallbackOptions) -> Iterable[Observation]:
            if (alive := reference()) is not None:
                yield Observation(alive.counters()[name])

        return read

    def ages(_: CallbackOptions) -> Iterable[Observation]:
        if (alive := weak()) is not None:
            yield from (Observation(age, {"anchor": name}) for name, age in alive.anchoring.ages().items())

    weak = weakref.ref(trail)
    meter = get_meter("audit_core")
    meter.create_observable_gauge("audit.anchor.age", [ages], unit="s", description=_AGE)
    for name, description in _SINCE_THE_BEGINNING.items():
        meter.create_observable_counter(f"audit.events.{name}", [reading(name)], description=description)
    for name, description in _NOW.items():
        meter.create_observable_gauge(f"audit.events.{name}", [reading(name)], description=description)


class Collector:
    """Shows the counters as ``audit_events_written_total`` and the like to a Prometheus registry."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def collect(self) -> Iterable[Metric]:
        """What Prometheus asks for at each scrape. Raises ImportError without ``prometheus-client``."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counters = self._trail.counters()
        for name, description in _SINCE_THE_BEGINNING.items():
            yield CounterMetricFamily(f"audit_events_{name}", description, value=counters[name])
        for name, description in _NOW.items():
            yield GaugeMetricFamily(f"audit_events_{name}", description, value=counters[name])
        ages = GaugeMetricFamily("audit_anchor_age_seconds", _AGE, labels=["anchor"])
        for name, age in self._trail.anchoring.ages().items():
            ages.add_metric([name], age)
        yield ages
