"""The clinic in FastAPI, with SQLAlchemy; who read, changed or deleted a patient is in its audit trail.

    pip install -e ".[fastapi,sqlalchemy,cli]" uvicorn
    python -m example_projects.fastapi_clinic               # http://127.0.0.1:8000/docs
    audit verify --url sqlite:///clinic.db

Everybody of ``models.STAFF`` logs in with CLINIC_PASSWORD ("change me").
"""

# ruff: noqa: FAST003 - find_patient takes the parameter
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from audit_core import AuditPolicy, AuditTrail, add_details, audited
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from audit_fastapi import AuditMiddleware
from example_projects.fastapi_clinic import access
from example_projects.fastapi_clinic.access import CurrentUser, senior, signed_in
from example_projects.fastapi_clinic.database import URL, Db, SessionFactory, engine
from example_projects.fastapi_clinic.models import Base, Note, Patient, User, hire
from example_projects.fastapi_clinic.schemas import Login, Merge, NoteIn, PatientChange, PatientIn, PatientOut


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    Base.metadata.create_all(engine)
    with SessionFactory() as session:
        hire(session)
    yield


app = FastAPI(title="Clinic", lifespan=lifespan)

# All that the trail needs to know: where it is, which reads leave an event, whose changes, whose requests.
trail = AuditTrail(URL, policy=AuditPolicy(reads=["patient"], skip=["/health"]))
SQLAlchemyAuditor(trail).attach(SessionFactory)
app.add_middleware(AuditMiddleware, trail=trail)


@app.exception_handler(StaleDataError)
@app.exception_handler(IntegrityError)
def conflict(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "Somebody else changed this patient meanwhile."}, 409)


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "open"}


@app.post("/login")
def log_in(form: Login, db: Db) -> dict[str, str]:
    add_details(account=form.name)
    user = db.scalar(select(User).where(User.name == form.name))
    if user is None or not user.has_password(form.password):
        raise HTTPException(401, "Wrong name or password.")
    return {"name": user.name, "token": access.log_in(user)}


@app.post("/logout", status_code=204, dependencies=[signed_in, Depends(access.log_out)])
def log_out() -> None:
    pass


@app.get("/patients", dependencies=[signed_in])
def list_patients(db: Db, name: str = "") -> list[PatientOut]:
    found = db.scalars(select(Patient).where(Patient.name.contains(name)).order_by(Patient.id).limit(20))
    return [PatientOut.model_validate(patient) for patient in found]


@app.post("/patients", status_code=201, dependencies=[signed_in])
def create_patient(form: PatientIn, db: Db) -> PatientOut:
    patient = Patient(**form.model_dump())
    db.add(patient)
    db.commit()
    return PatientOut.model_validate(patient)


def find_patient(db: Db, patient_id: int) -> Patient:
    if (patient := db.get(Patient, patient_id)) is None:
        raise HTTPException(404, "There is no such patient.")
    return patient


FoundPatient = Annotated[Patient, Depends(find_patient)]


@app.get("/patients/{patient_id}", dependencies=[signed_in])
def read_patient(patient: FoundPatient) -> PatientOut:
    return PatientOut.model_validate(patient)


@app.patch("/patients/{patient_id}", dependencies=[signed_in])
def change_patient(form: PatientChange, patient: FoundPatient, db: Db) -> PatientOut:
    if form.version != patient.version:
        raise HTTPException(409, "Somebody else changed this patient meanwhile.")
    for field, value in form.model_dump(exclude={"version"}, exclude_none=True).items():
        setattr(patient, field, value)
    db.commit()
    return PatientOut.model_validate(patient)


@app.delete("/patients/{patient_id}", dependencies=[senior])
def delete_patient(patient: FoundPatient, db: Db) -> dict[str, int]:
    notes = len(patient.notes)
    db.delete(patient)
    db.commit()
    return {"notes": notes}


@app.post("/patients/{patient_id}/notes", status_code=201)
def add_note(user: CurrentUser, form: NoteIn, patient: FoundPatient, db: Db) -> dict[str, int]:
    note = Note(patient_id=patient.id, author=user.name, text=form.text)
    db.add(note)
    db.commit()
    return {"id": note.id}


@app.post("/patients/{patient_id}/merge", dependencies=[senior])
@audited("patient.merge", resource="patient:{patient_id}")
def merge_patient(form: Merge, duplicate: FoundPatient, db: Db) -> dict[str, int]:
    """The notes of a duplicate go to the other file, and the duplicate is deleted."""
    patient = find_patient(db, form.into)
    add_details(into=patient.id)
    notes = list(duplicate.notes)
    for note in notes:
        note.patient = patient
    db.delete(duplicate)
    db.flush()
    if duplicate.born != patient.born:  # all of the above is rolled back, and leaves no event
        raise HTTPException(409, "They were born on different days: these are two patients.")
    db.commit()
    return {"notes": len(notes)}


@app.post("/patients/{patient_id}/letter", status_code=202)
def send_letter(user: CurrentUser, patient: FoundPatient, db: Db) -> None:
    db.add(Note(patient_id=patient.id, author=user.name, text="letter sent"))
    db.flush()
    raise ConnectionError("The post room does not answer.")  # 500: the note is rolled back, the request is an event
