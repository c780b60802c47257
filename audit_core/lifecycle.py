"""What a process tells of itself in its trail, and that it closes the trail at its end."""

from __future__ import annotations

import atexit
import os
import socket
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

from audit_core.canonical import format_timestamp
from audit_core.context import Actor, AuditContext
from audit_core.errors import AuditError
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.policy import AuditPolicy
from audit_core.process.account import account, command


class _Trail(Protocol):
    def close(self) -> None:
        """The orderly stop."""


class OwnEvents:
    """The events that the trail itself makes of this process; ``make`` is ``AuditTrail.event``.

    ``policy`` is the one that requests are audited by, and None where the process is not known to serve any.
    """

    def __init__(self, make: Callable[..., AuditEvent], policy: Callable[[], AuditPolicy | None]) -> None:
        self._make, self._policy = make, policy

    def started(self) -> AuditEvent:
        """It begins to write."""
        policy = self._policy()
        return self._of_process("trail.started", policy.stated() if policy else {})

    def stopped(self) -> AuditEvent:
        """It stops in good order."""
        return self._of_process("trail.stopped")

    def alive(self) -> AuditEvent:
        """Nothing has happened for a while, and the trail has not been stopped."""
        return self._of_process("trail.heartbeat")

    def gap(self, count: int, since: datetime, until: datetime) -> AuditEvent:
        """So many events were lost."""
        details = {"lost": count, "since": format_timestamp(since), "until": format_timestamp(until)}
        return self._of_system("trail.gap", details, Outcome.FAILURE)

    def _of_process(self, action: str, more: Mapping[str, Any] | None = None) -> AuditEvent:
        process = {"host": socket.gethostname(), "pid": os.getpid(), "account": account(), "command": command()}
        return self._of_system(action, {**process, **(more or {})}, Outcome.SUCCESS)

    def _of_system(self, action: str, details: dict[str, Any], outcome: str) -> AuditEvent:
        context = AuditContext(actor=Actor(type=ActorType.SYSTEM.value))
        return self._make(action, outcome=outcome, details=details, context=context)


def close_at_the_end(trail: _Trail) -> Callable[[], None]:
    """Close the trail when the process ends, if it still lives; the answer does so at other ends."""
    reference = weakref.ref(trail)

    def close() -> None:
        if (alive := reference()) is not None:
            with suppress(AuditError):
                alive.close()

    # Each trail by itself: it is closed before what was there when it was made, such as the folder that it lies in.
    atexit.register(close)
    return close
