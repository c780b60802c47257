"""A place that takes no events just now: the log says so once, and not at each try."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from audit_core.errors import AuditError

logger = logging.getLogger("audit_core")


class Refusal:
    """Why ``place``, "the outbox" or "the queue", has taken nothing when it was last tried; None where it has."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.why: str | None = None

    @contextmanager
    def told(
        self, passing: type[AuditError] | tuple[()] = (), known: Callable[[], str | None] = lambda: None
    ) -> Iterator[None]:
        """In the block events are given to it. Says once why it refuses, and raises that.

        Nothing is said of what is ``passing`` by itself, or told of elsewhere, nor of what is ``known`` already.
        """
        try:
            yield
        except passing:
            raise
        except AuditError as error:
            if str(error) not in {self.why, known()}:
                logger.warning(
                    "Events wait for %s, durably in the spill file where there is one: %s", self._place, error
                )
            self.why = str(error)
            raise
        self.why = None
