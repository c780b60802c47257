"""Forks: a thread that holds a lock while another one forks leaves it locked in the child for ever."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class _Sharing(Protocol):
    def abandon(self) -> None:
        """Let go of what the parent has open, without touching it."""


_shared: weakref.WeakSet[_Sharing] = weakref.WeakSet()


def lock_across_forks() -> threading.RLock:
    """A lock for a module's whole life: a fork waits for it, so that it is free in the child.

    A signal handler may take it while it interrupts the thread that holds it.
    """
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


def abandon_in_children(owner: _Sharing) -> None:
    """A forked child calls ``owner.abandon()``: a file's lock lives as long as any process has that open file."""
    _shared.add(owner)


def _abandon_all() -> None:
    for owner in list(_shared):
        owner.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
