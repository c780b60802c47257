"""Advisory file locks between the processes of one machine. Where there are none (Windows), one process is assumed."""

from __future__ import annotations

from contextlib import suppress

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    HAS_LOCKS = False

    def lock_shared(fd: int, *, wait: bool = True) -> bool:
        """Take the lock together with others; only without waiting can it fail."""
        del fd, wait
        return True

    def try_lock_alone(fd: int) -> bool:
        """Take the lock if nobody else holds it."""
        del fd
        return True

    def unlock(fd: int) -> None:
        """Give the lock back."""
        del fd

else:
    HAS_LOCKS = True

    def lock_shared(fd: int, *, wait: bool = True) -> bool:
        """Take the lock together with others; only without waiting can it fail."""
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: one process is assumed there
            return True
        return True

    def try_lock_alone(fd: int) -> bool:
        """Take the lock if nobody else holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def unlock(fd: int) -> None:
        """Give the lock back."""
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
