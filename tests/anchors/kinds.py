"""An anchor of each kind, on servers that all tests share."""

import itertools
import logging
import os
from contextlib import contextmanager
from functools import cache

from audit_core.anchors.opening import open_anchor
from tests.anchors.servers import Authority, Witness, serving
from tests.postgres import server
from tests.postgres.server import new_database
from tests.s3.server import new_place

KINDS = ("folder", "sqlite", "postgres", "log", "s3", "tsa", "witness")


@contextmanager
def an_anchor(kind, folder, log_key):
    """A new, empty one; with ``server`` where there is one of ours."""
    if kind == "folder":
        yield open_anchor(f"file://{folder}/other%20storage"), None
    elif kind == "sqlite":
        yield open_anchor(f"sqlite:///{folder}/second.db"), None
    elif kind == "postgres":
        yield open_anchor(f"{_database()}&schema=anchors_{next(_numbers)}"), None
    elif kind == "log":
        with collected(folder / "collected.log"):
            yield open_anchor(f"log:{folder}/collected.log"), None
    elif kind == "s3":
        yield open_anchor(new_place()), None
    elif kind == "tsa":
        authority = _authority(folder.parent)
        with serving(authority.answer) as service:
            url = f"tsa+{service.url}/tsr?ca={authority.ca}&receipts={folder}/receipts"
            yield open_anchor(url), service
    else:
        witness = Witness(log_key)
        with serving(witness.answer) as service:
            service.witness = witness
            yield open_anchor(f"witness+{service.url}?key={witness.vkey}&receipts={folder}/receipts"), service


_numbers = itertools.count(1)


def _database():
    return _database_on(os.environ.get("AUDIT_TEST_POSTGRES") or server.shared().url)


@cache
def _database_on(url):
    """One for all tests, as long as that server is there."""
    return new_database()


@cache
def _authority(folder):
    return Authority(folder / "authority")


@contextmanager
def collected(path):
    """What a log shipper does: each line with something before it."""
    logger, handler = logging.getLogger("audit_core.anchor"), logging.FileHandler(path)
    handler.setFormatter(logging.Formatter('{"at": "%(asctime)s", "message": "%(message)s"}'))
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()
