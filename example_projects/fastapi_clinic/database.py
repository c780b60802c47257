"""The clinic's database: its engine, and a session per request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session, sessionmaker

URL = os.environ.get("CLINIC_DATABASE", "sqlite:///clinic.db")

engine = create_engine(URL, connect_args={"timeout": 15})  # seconds a writer waits for another one
SessionFactory = sessionmaker(engine)


@event.listens_for(engine, "connect")
def prepare(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def get_session() -> Iterator[Session]:
    with SessionFactory() as session:
        yield session


Db = Annotated[Session, Depends(get_session)]
