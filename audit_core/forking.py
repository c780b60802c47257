"""Forks: a thread that holds a lock while another one forks leaves it locked in the child for ever."""

from __future__ import annotations

import os
import threading


def lock_across_forks() -> threading.Lock:
    """A lock for a module's whole life: a fork waits for it, so that it is free in the child."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
