"""A bank whose every transaction reads, thinks, and then writes, on the SQLite file of its own trail.

One lock over all processes lets its transactions through one at a time, so that none of them fails by itself.

    POST /transfer         BEGIN, SELECT, 5 to 20 ms, UPDATE, COMMIT; 409 where SQLite says no
    POST /late-transfer    the same, committed after the response was sent (ASGI only)
    POST /nothing          an audited request that writes nothing
    GET  /denied           403
    GET  /refusals         how often SQLite said no after a response was sent
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audit_core import AuditTrail


class Bank:
    def __init__(self, file: str) -> None:
        self.file = file
        self.refused = 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        fd = os.open(f"{self.file}.lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.file, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()

    def transfer(self) -> bool:
        """Whether SQLite let it."""
        with self.alone():
            try:
                with self.transaction() as connection:
                    (balance,) = connection.execute("SELECT balance FROM account").fetchone()
                    time.sleep(random.uniform(0.005, 0.02))
                    connection.execute("UPDATE account SET balance = ?", (balance + 1,))
            except sqlite3.OperationalError:
                return False
        return True


def create(file: str, journal: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.executescript("CREATE TABLE account (balance INTEGER); INSERT INTO account VALUES (0);")
    connection.close()


def balance(file: str) -> int:
    connection = sqlite3.connect(file, timeout=10)
    try:
        return connection.execute("SELECT balance FROM account").fetchone()[0]
    finally:
        connection.close()


def flask_bank(trail: AuditTrail | None, file: str):
    from flask import Flask

    from audit_flask import Audit

    bank, app = Bank(file), Flask("bank")
    if trail is not None:
        Audit(app, trail)

    @app.post("/transfer")
    def transfer():
        return "", 200 if bank.transfer() else 409

    @app.post("/nothing")
    def nothing():
        time.sleep(0.002)
        return ""

    @app.get("/denied")
    def denied():
        return "", 403

    @app.get("/refusals")
    def refusals():
        return "0"

    return app


class LateSession:
    """A transaction around the whole request, committed when its response has been sent."""

    def __init__(self, app, bank: Bank) -> None:
        self.app, self.bank = app, bank
        self.turn = asyncio.Lock()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["path"] != "/late-transfer":
            await self.app(scope, receive, send)
            return
        async with self.turn:
            lock = self.bank.alone()
            await asyncio.to_thread(lock.__enter__)
            try:
                with self.bank.transaction() as connection:
                    (balance,) = connection.execute("SELECT balance FROM account").fetchone()
                    await self.app(scope, receive, send)
                    await asyncio.sleep(random.uniform(0.005, 0.02))
                    connection.execute("UPDATE account SET balance = ?", (balance + 1,))
            except sqlite3.OperationalError:
                self.bank.refused += 1
            finally:
                lock.__exit__(None, None, None)


def fastapi_bank(trail: AuditTrail | None, file: str):
    from fastapi import FastAPI, Response

    from audit_fastapi import AuditMiddleware

    bank, app = Bank(file), FastAPI()
    app.add_middleware(LateSession, bank=bank)
    if trail is not None:
        app.add_middleware(AuditMiddleware, trail=trail)

    @app.post("/transfer")
    def transfer():
        return Response(status_code=200 if bank.transfer() else 409)

    @app.post("/late-transfer")
    async def late_transfer():
        return {}

    @app.post("/nothing")
    async def nothing():
        await asyncio.sleep(0.002)
        return {}

    @app.get("/denied")
    async def denied():
        return Response(status_code=403)

    @app.get("/refusals")
    async def refusals():
        return Response(str(bank.refused))

    return app


def make(framework: str, file: str, *, audited: bool = True):
    trail = AuditTrail(f"sqlite:///{file}") if audited else None
    return {"flask": flask_bank, "fastapi": fastapi_bank}[framework](trail, file)


def serve(framework: str, file: str, fd: int, audited: str) -> None:
    """A process of its own, on a socket that it inherits."""
    app, listener = make(framework, file, audited=audited == "audited"), socket.socket(fileno=fd)
    if framework == "flask":
        import waitress

        waitress.serve(app, sockets=[listener], threads=24, _quiet=True)
    else:
        import uvicorn

        uvicorn.run(app, fd=listener.fileno(), log_level=60, proxy_headers=False)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
