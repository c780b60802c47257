"""Whether an anchor knows more of a trail than its database holds: then a backup was put back, and nothing is sealed.

Only what one of the trail's own keys has signed counts. Whoever may write to an anchor, or runs a witness, could stop
the sealer otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from audit_core.anchors import Anchor, ask_for, reading
from audit_core.chain import AuditChain
from audit_core.chain.statements import find_lost, lost_sentence
from audit_core.errors import AuditError, BusyError, IntegrityError, StoreUnavailableError
from audit_core.integrity.note import Signer
from audit_core.process.threads import is_own_thread, wait_until

HOLD_SECONDS = 2.0  # for which what a process records first waits in the outbox, until all anchors have answered
ASKED = "The anchors are asked what they hold of this trail: events wait in the outbox for a moment."


class Watch:
    """Of one chain, in one process. Each anchor is asked by its own thread."""

    def __init__(
        self, chain: AuditChain, anchors: Sequence[Anchor], held: Callable[[], Sequence[Signer]] = tuple
    ) -> None:
        """``held`` are the keys of this process: a backup may be older than one of them."""
        self._chain, self._anchors, self._held = chain, anchors, held
        self._said: dict[int, str | None] = {}  # what each has against going on, of those that have answered
        self._least: int | None = None  # events there were when this process began
        self._until: float | None = None

    def begin(self) -> None:
        """The anchors are asked from now on."""
        if self._until is None:
            self._until = time.monotonic() + HOLD_SECONDS

    def objection(self) -> AuditError | None:
        """Why nothing may be sealed just now, or at all."""
        if said := next(filter(None, self._said.values()), None):
            return IntegrityError(said)
        return BusyError(ASKED) if self._until is not None and not self._is_settled() else None

    def settle(self) -> None:
        """Wait until they have answered, or for a moment."""
        if self._until is not None and not is_own_thread():
            wait_until(self._is_settled, HOLD_SECONDS)

    def ask(self, anchor: Anchor) -> str | None:
        """What this one has against going on. Raises as the store does; an anchor that is down has nothing."""
        place = next(number for number, one in enumerate(self._anchors) if one is anchor)
        try:
            self._said[place] = self._ask(anchor)
        finally:
            self._said.setdefault(place, None)
        return self._said[place]

    def _ask(self, anchor: Anchor) -> str | None:
        if self._least is None:
            with reading(self._chain):
                self._least = self._chain.store.extent().signed
        answer = ask_for(anchor, self._chain, self._least)
        if answer.trouble and not answer.kept:
            raise StoreUnavailableError(answer.trouble)
        with reading(self._chain):
            lost = find_lost(self._chain, [answer], self._held())
        return lost_sentence(lost, anchor.name) if lost.trees else None

    def _is_settled(self) -> bool:
        is_over = self._until is not None and time.monotonic() > self._until
        return is_over or len(self._said) == len(self._anchors)
