"""The clinic's tables, and the staff that it opens with."""

from __future__ import annotations

import os
from datetime import date
from typing import Any

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from werkzeug.security import generate_password_hash

STAFF = {"osler": "doctor", "blackwell": "doctor", "barton": "nurse", "nightingale": "nurse", "morgan": "admin"}


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    password_hash: Mapped[str]


class Patient(Base):
    __tablename__ = "patient"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    born: Mapped[date]
    diagnosis: Mapped[str]
    ssn: Mapped[str | None]
    version: Mapped[int] = mapped_column(nullable=False)
    notes: Mapped[list[Note]] = relationship(back_populates="patient", cascade="all, delete-orphan")

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the form that SQLAlchemy asks for

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "born": self.born.isoformat(),
            "diagnosis": self.diagnosis,
            "version": self.version,
        }


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patient.id"))
    author: Mapped[str]
    text: Mapped[str]
    patient: Mapped[Patient] = relationship(back_populates="notes")


def hire(session: Session) -> None:
    """Give the staff their accounts, unless they have them."""
    password = os.environ.get("CLINIC_PASSWORD", "change me")
    if session.scalar(select(User.id).limit(1)) is None:
        session.add_all(
            User(name=name, role=role, password_hash=generate_password_hash(password)) for name, role in STAFF.items()
        )
        session.commit()
