"""Advisory file locks between the processes of one machine. Where there are none (Windows), one process is assumed."""

from __future__ import annotations

from contextlib import suppress

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows

    def lock_shared(fd: int) -> None:
        """Wait for the lock, together with others."""
        del fd

    def try_lock_alone(fd: int) -> bool:
        """Take the lock if nobody else holds it."""
        del fd
        return True

    def unlock(fd: int) -> None:
        """Give the lock back."""
        del fd

else:

    def lock_shared(fd: int) -> None:
        """Wait for the lock, together with others."""
        with suppress(OSError):  # a file system without locks: one process is assumed there
            fcntl.flock(fd, fcntl.LOCK_SH)

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
