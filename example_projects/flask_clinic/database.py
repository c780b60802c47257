"""The clinic's database: its engine, and a session per request."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.orm import scoped_session, sessionmaker

URL = os.environ.get("CLINIC_DATABASE", "sqlite:///clinic.db")

engine = create_engine(URL, connect_args={"timeout": 15})  # seconds a writer waits for another one
db = scoped_session(sessionmaker(engine))


@event.listens_for(engine, "connect")
def prepare(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
