"""Checkpoints go out to the anchors, from threads of their own: one that is slow or down holds up nothing else."""

from __future__ import annotations

import logging
import queue
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from audit_core.anchors import Anchor, ask, ask_all, ask_for, reading
from audit_core.anchors.opening import open_anchors
from audit_core.anchors.watch import Watch
from audit_core.canonical import format_timestamp
from audit_core.chain import AuditChain
from audit_core.chain.known import Answer
from audit_core.errors import AuditError, IntegrityError, StoreUnavailableError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.note import Signer, parse_note
from audit_core.process.threads import OneThread, OwnThread, is_own_thread

EVERY_SECONDS = 60.0  # between two looks whether the chain has grown
HEARTBEAT_SECONDS = 3_600.0  # without growth, until an event says that the trail is alive
SHORTEST_PAUSE_SECONDS = 1.0  # before an anchor that has failed is tried again
PATIENCE_SECONDS = 2.0  # with all of them, when the trail is closed
logger = logging.getLogger("audit_core")


@dataclass(slots=True)
class AnchorState:
    """What one anchor is known to hold."""

    name: str
    size: int = 0  # of the newest checkpoint there
    kept_at: datetime | None = None
    trouble: str | None = None  # why it took nothing last time
    root: bytes = b""  # of that checkpoint: after a backup was put back a tree of the same size is another one

    def described(self) -> dict[str, object]:
        """For a status."""
        kept_at = format_timestamp(self.kept_at) if self.kept_at else None
        return {"name": self.name, "size": self.size, "kept_at": kept_at, "trouble": self.trouble}


class Anchoring:
    """Keeps the newest checkpoint of a chain in each anchor, in whichever process seals."""

    def __init__(
        self,
        chain: AuditChain,
        anchors: Sequence[Anchor],
        beat: Callable[[], object],
        every: float = EVERY_SECONDS,
        *,
        freed: Callable[[], object] = lambda: None,
        held: Callable[[], Sequence[Signer]] = tuple,
    ) -> None:
        """``beat`` is called when the chain has not grown for so long that somebody may take it for stopped.

        ``freed`` is called when an anchor has nothing, or nothing more, against going on.
        """
        self._chain, self._held = chain, held
        self._make_thread = partial(AnchorThread, chain, every=every, pulse=_Pulse(beat), freed=freed)
        self._began = datetime.now(UTC)
        self._take(anchors)

    def _take(self, anchors: Sequence[Anchor]) -> None:
        self.anchors, self.watch = anchors, Watch(self._chain, anchors, self._held)
        self._states = [AnchorState(anchor.name) for anchor in anchors]
        self._threads = [
            OneThread(partial(self._make_thread, anchor, state, watch=self.watch))
            for anchor, state in zip(anchors, self._states, strict=True)
        ]

    def start(self) -> None:
        """Start the threads of this process, unless they run."""
        if not is_own_thread():
            self.watch.begin()
            for each in self._threads:
                each.start()

    def close(self) -> None:
        """A last try for each anchor, all at once and not for long; then the threads end."""
        threads = [thread for each in self._threads for thread in each.all]
        for thread in threads:
            thread.stop()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for thread in threads:
            thread.wait(max(0.0, deadline - time.monotonic()))

    @contextmanager
    def to(self, anchors: Iterable[str | Anchor]) -> Iterator[None]:
        """In the block these are its anchors, if there are any, and not its own: for a command that is given others."""
        before = self.anchors, self.watch, self._states, self._threads
        if others := open_anchors(anchors):
            self._take(others)
        try:
            yield
        finally:
            if self.anchors is not before[0]:
                self.close()
            self.anchors, self.watch, self._states, self._threads = before

    def ask(
        self,
        anchors: Iterable[str | Anchor] | None = None,
        as_of: datetime | None = None,
        max_age: timedelta | None = None,
    ) -> list[Answer]:
        """What ``anchors``, or its own, hold just now. An anchor that is down is an answer, too: see ``ask_all``."""
        return ask_all(self._or_own(anchors), self._chain, as_of, max_age)

    def signed(self, anchors: Iterable[str | Anchor] | None = None) -> list[Answer]:
        """The same, as far as it is signed: see ``ask_for``."""
        return [ask_for(anchor, self._chain, 0) for anchor in self._or_own(anchors)]

    def newest(self, anchors: Iterable[str | Anchor] | None = None) -> list[Answer]:
        """The same, of its largest checkpoint alone."""
        return [ask(anchor, self._chain, at_most=1) for anchor in self._or_own(anchors)]

    def _or_own(self, anchors: Iterable[str | Anchor] | None) -> Sequence[Anchor]:
        return self.anchors if anchors is None else open_anchors(anchors)

    @property
    def states(self) -> list[AnchorState]:
        """What this process has done, for status and metrics."""
        return self._states

    def ages(self) -> dict[str, float]:
        """For each anchor, how many seconds ago it last took a checkpoint; of one that took none, since the beginning.

        Where nothing happens it grows to an hour, until the heartbeat.
        """
        now = datetime.now(UTC)
        return {state.name: (now - (state.kept_at or self._began)).total_seconds() for state in self._states}


def keep_now(chain: AuditChain, anchors: Sequence[Anchor]) -> Iterator[AnchorState]:
    """Give each anchor the newest checkpoint, once. Raises what reading the trail raises."""
    note = chain.checkpoint_note()
    for anchor in anchors:
        state = AnchorState(anchor.name)
        _keep(note, chain, anchor, state)
        yield state


class _Pulse:
    """Shared by the threads of all anchors: whichever of them is down, another one sees that the chain stands still."""

    def __init__(self, beat: Callable[[], object]) -> None:
        self._beat = beat
        # Of several processes one is the first, and the others see that the chain has grown.
        self._patience = HEARTBEAT_SECONDS * random.uniform(1, 1.1)  # noqa: S311 - chance, no secret
        self._size, self._grown = 0, time.monotonic()

    def feel(self, size: int) -> None:
        """Beat when the chain was of this size for so long. Two threads at once make two beats at most."""
        now = time.monotonic()
        if size != self._size:
            self._size, self._grown = size, now
        elif now - self._grown > self._patience:
            self._grown = now
            self._beat()


class AnchorThread(OwnThread):
    """Looks after one anchor."""

    def __init__(
        self,
        chain: AuditChain,
        anchor: Anchor,
        state: AnchorState,
        *,
        every: float,
        pulse: _Pulse,
        watch: Watch,
        freed: Callable[[], object],
    ) -> None:
        super().__init__("audit-anchor")
        self._chain, self._anchor, self._state, self._every, self._pulse = chain, anchor, state, every, pulse
        self._watch, self._freed = watch, freed
        self._is_free = False  # whether the anchor has been asked, and has nothing against going on
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()  # no lock that a signal handler might wait for

    def stop(self) -> None:
        """End after a last try."""
        super().stop()
        self._calls.put(None)

    def work(self) -> None:
        """One look after another; the last one begins after the end was told."""
        try:
            self._go_on()
        finally:
            if self.stopped:  # by a trail that has perhaps not waited so long, and closed what it had open
                self._chain.store.close()

    def _go_on(self) -> None:
        pause = min(SHORTEST_PAUSE_SECONDS, self._every)
        self._ask()
        is_last = False
        while not is_last:
            self._wait(pause)
            self.rest()
            is_last = self.stopped
            if not self._is_here():
                return
            pause = self._every if self._look() else min(self._every, 2 * pause)

    def _ask(self) -> bool:
        """Whether it has nothing against going on. One that cannot be asked has nothing, and is asked again."""
        if self._is_free:
            return True
        try:
            said = self._watch.ask(self._anchor)
        except Exception as error:  # noqa: BLE001 - nobody else would look again
            logger.debug("What %s knows of the trail could not be compared: %s", self._state.name, error)
            return True
        if said is not None:
            return _fail(self._state, IntegrityError(said))
        self._is_free = True
        self._freed()
        return True

    def _look(self) -> bool:
        """Whether the anchor has what there is. A trail that cannot be read just now is no trouble of the anchor's."""
        if not self._ask():
            return False
        try:
            with reading(self._chain):
                note = self._chain.checkpoint_note()
        except StoreUnavailableError:
            return False
        except Exception as error:  # noqa: BLE001 - nobody else would look again
            return _fail(self._state, error)
        if note is not None and not self.stopped:
            self._pulse.feel(_size_of(note))  # first: the anchor may hang
        return _keep(note, self._chain, self._anchor, self._state)

    def _wait(self, seconds: float) -> None:
        with suppress(queue.Empty):
            self._calls.get(timeout=seconds)

    def _is_here(self) -> bool:
        """Whether this process seals: where roles are apart, the sealer's anchors too."""
        try:
            with reading(self._chain):
                return self._chain.store.may_append()
        except AuditError:
            return True


def _keep(note: str | None, chain: AuditChain, anchor: Anchor, state: AnchorState) -> bool:
    """Whether the anchor has the newest checkpoint, if there is one."""
    try:
        if note is not None:
            tree = Checkpoint.parse(parse_note(note)[0])
            if (tree.size, tree.root) != (state.size, state.root) or state.trouble:
                anchor.keep(note, chain)
                state.size, state.root, state.kept_at = tree.size, tree.root, datetime.now(UTC)
    except Exception as error:  # noqa: BLE001 - an application may have an anchor of its own
        return _fail(state, error)
    if state.trouble is not None:
        logger.warning("The anchor %s takes checkpoints again.", state.name)
    state.trouble = None
    return True


def _size_of(note: str) -> int:
    return Checkpoint.parse(parse_note(note)[0]).size


def _fail(state: AnchorState, error: Exception) -> bool:
    """Say once what is wrong, and keep it for the status."""
    trouble = str(error) if isinstance(error, AuditError) else f"{type(error).__name__}: {error}"
    if state.trouble is None:
        logger.warning("The anchor %s takes no checkpoint, and is tried again: %s", state.name, trouble)
    state.trouble = trouble
    return False
