"""The long forms: ten thousand requests of a hundred clients, and a gigabyte up and down, under each server."""

import tempfile
import time
from pathlib import Path

import psycopg

from tests.postgres.server import Server, new_database
from tests.servers import streams
from tests.servers.notes import make_tables
from tests.servers.running import SERVERS, running
from tests.servers.traffic import answered, ask_until_stopped, check

CONNECTIONS = 300  # Django has one for each client
DATABASES = ("SQLite", "PostgreSQL")


def requests(count, clients):
    """On both databases; a worker is killed after them, and the server is stopped in the midst of more."""
    server = Server(18)
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        server.restart()
        for database in DATABASES:
            for name in SERVERS:
                print(f"{name}, {database}: {_requests(name, database, server, count, clients)}", flush=True)
    finally:
        server.stop()


def _requests(name, database, server, count, clients):
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/notes.db" if database == "SQLite" else new_database(url=server.url)
        make_tables(url)
        began = time.monotonic()
        with running(SERVERS[name], url, Path(folder)) as site:
            answers = ask_until_stopped(site, count, clients)
        lasted = time.monotonic() - began
        actions = check(url, answers)
    assert actions["trail.started"] - actions["trail.stopped"] in {0, 1}, site.said
    events = sum(actions.values())
    return f"{answered(answers):,} requests, {events:,} events, each once, no actors mixed ({lasted:.0f} s)"


def stream_all(mebibytes):
    """One worker, whose memory is looked at."""
    for name in SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/notes.db"
            make_tables(url)
            with running((*SERVERS[name], "--workers", "1"), url, Path(folder)) as site:
                print(f"{name}: {streams.play(site, mebibytes)}", flush=True)
