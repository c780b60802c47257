"""What comes in and goes out."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict, Field


class Login(BaseModel):
    name: str
    password: str


class PatientIn(BaseModel):
    name: str
    born: date
    diagnosis: str
    ssn: str | None = None


class PatientChange(BaseModel):
    version: int = Field(description="of the patient that was read; a change in between is a conflict")
    name: str | None = None
    diagnosis: str | None = None


class PatientOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    born: date
    diagnosis: str
    version: int


class NoteIn(BaseModel):
    text: str


class Merge(BaseModel):
    into: int
