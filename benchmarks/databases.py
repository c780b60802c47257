"""A database for each variant that is measured: all on one server, or each in a file of its own."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict


class Databases(NamedTuple):
    """Their URLs by variant, and the process of their server, where there is one."""

    urls: dict[str, str]
    server: int | None


@contextmanager
def databases(engine: str, variants: Iterable[str]) -> Iterator[Databases]:
    """``engine`` is postgresql or sqlite. They end with the block."""
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield Databases({variant: f"sqlite:///{Path(folder) / f'{variant}.db'}" for variant in variants}, None)
        return
    from tests.postgres.server import Server

    server = Server(18)
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for variant in variants:
                connection.execute(f"CREATE DATABASE {variant}")
        pid = int((server.folder / "postmaster.pid").read_text().split()[0])
        yield Databases({v: server.url.replace("/postgres?", f"/{v}?") for v in variants}, pid)
    finally:
        server.stop()


def count(url: str, query: str) -> int:
    """What a query counts."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return int(connection.execute(query).fetchone()[0])
    with psycopg.connect(url) as connection:
        return int(connection.execute(query).fetchone()[0])


def django_database(url: str) -> dict[str, Any]:
    """With connections that last as long as their thread: a new one for each request would be most of the time."""
    if url.startswith("sqlite"):
        init = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url.removeprefix("sqlite:///"),
            "OPTIONS": {"timeout": 30, "init_command": init},
            "CONN_MAX_AGE": None,
        }
    parts = conninfo_to_dict(url)
    place = {"NAME": parts["dbname"], "HOST": parts["host"], "USER": parts["user"]}
    return {"ENGINE": "django.db.backends.postgresql", **place, "CONN_MAX_AGE": None}
