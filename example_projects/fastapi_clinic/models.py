"""The clinic's tables, and the staff that it opens with."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from datetime import date

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

STAFF = {"osler": "doctor", "blackwell": "doctor", "barton": "nurse", "nightingale": "nurse", "morgan": "admin"}


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    password_hash: Mapped[str]

    def has_password(self, password: str) -> bool:
        salt, _, _ = self.password_hash.partition(":")
        return hmac.compare_digest(self.password_hash, hash_password(password, salt))


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


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patient.id"))
    author: Mapped[str]
    text: Mapped[str]
    patient: Mapped[Patient] = relationship(back_populates="notes")


def hash_password(password: str, salt: str) -> str:
    return f"{salt}:{hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1).hex()}"


def hire(session: Session) -> None:
    """Give the staff their accounts, unless they have them."""
    password = os.environ.get("CLINIC_PASSWORD", "change me")
    if session.scalar(select(User.id).limit(1)) is None:
        session.add_all(
            User(name=name, role=role, password_hash=hash_password(password, secrets.token_hex(16)))
            for name, role in STAFF.items()
        )
        session.commit()
