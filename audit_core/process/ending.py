"""The end of a process in good order: there is still time to write what waits."""

from __future__ import annotations

import sys
from collections.abc import Callable


def at_the_end_of_a_child(end: Callable[[], None]) -> None:
    """Call ``end`` when a child of multiprocessing or Celery ends: it leaves with ``os._exit``, without ``atexit``.

    To be called in the child, which forgets what was registered before the fork. Does nothing in other processes.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, end, exitpriority=0)
    if (prefork := sys.modules.get("celery.concurrency.prefork")) is not None:
        prefork.signals.worker_process_shutdown.connect(lambda **_: end(), weak=False)
