"""The clinic in Flask, with SQLAlchemy; who read, changed or deleted a patient is in its audit trail.

    pip install -e ".[flask,sqlalchemy,cli]" waitress
    python -m example_projects.flask_clinic                 # http://127.0.0.1:8000
    audit verify --url sqlite:///clinic.db

Everybody of ``models.STAFF`` logs in with CLINIC_PASSWORD ("change me").
"""

from __future__ import annotations

import os
import secrets
from datetime import date
from typing import Any

from flask import Flask, abort, g, request, session
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.security import check_password_hash

from audit_core import AuditPolicy, AuditTrail, add_details, audited
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from audit_flask import Audit
from example_projects.flask_clinic import access
from example_projects.flask_clinic.access import signed_in
from example_projects.flask_clinic.database import URL, db, engine
from example_projects.flask_clinic.models import Base, Note, Patient, User, hire

Answer = dict[str, Any] | tuple[dict[str, Any], int]

app = Flask(__name__)
app.secret_key = os.environ.get("CLINIC_SECRET", secrets.token_hex())
app.config["SESSION_COOKIE_SAMESITE"] = "Strict"  # no other site's form can act for who is logged in

# All that the trail needs to know: where it is, which reads leave an event, whose changes, whose requests.
trail = AuditTrail(URL, policy=AuditPolicy(reads=["patient"], skip=["/health"]))
SQLAlchemyAuditor(trail).attach(db)
Audit(app, trail)

app.before_request(access.know_user)


def open_clinic() -> Flask:
    Base.metadata.create_all(engine)
    with db() as opening:
        hire(opening)
    return app


@app.teardown_appcontext
def end_session(_: BaseException | None) -> None:
    db.remove()


@app.errorhandler(StaleDataError)
@app.errorhandler(IntegrityError)
def conflict(_: Exception) -> Answer:
    return {"detail": "Somebody else changed this patient meanwhile."}, 409


@app.get("/health")
def health() -> Answer:
    return {"status": "open"}


@app.post("/login")
def log_in() -> Answer:
    add_details(account=request.json["name"])
    user = db.scalar(select(User).where(User.name == request.json["name"]))
    if user is None or not check_password_hash(user.password_hash, request.json["password"]):
        abort(401)
    access.log_in(user)
    return {"name": user.name, "role": user.role}


@app.post("/logout")
@signed_in()
def log_out() -> Answer:
    session.clear()
    return {}, 204


@app.get("/patients")
@signed_in()
def list_patients() -> list[dict[str, Any]]:
    name = request.args.get("name", "")
    found = db.scalars(select(Patient).where(Patient.name.contains(name)).order_by(Patient.id).limit(20))
    return [patient.as_dict() for patient in found]


@app.post("/patients")
@signed_in()
def create_patient() -> Answer:
    form = request.json
    patient = Patient(
        name=form["name"],
        born=date.fromisoformat(form["born"]),
        diagnosis=form["diagnosis"],
        ssn=form.get("ssn"),
    )
    db.add(patient)
    db.commit()
    return patient.as_dict(), 201


def find_patient(patient_id: int) -> Patient:
    return db.get(Patient, patient_id) or abort(404)


@app.get("/patients/<int:patient_id>")
@signed_in()
def read_patient(patient_id: int) -> Answer:
    return find_patient(patient_id).as_dict()


@app.patch("/patients/<int:patient_id>")
@signed_in()
def change_patient(patient_id: int) -> Answer:
    patient = find_patient(patient_id)
    if request.json["version"] != patient.version:
        abort(409)
    for field in {"name", "diagnosis"} & request.json.keys():
        setattr(patient, field, request.json[field])
    db.commit()
    return patient.as_dict()


@app.delete("/patients/<int:patient_id>")
@signed_in("doctor", "admin")
def delete_patient(patient_id: int) -> Answer:
    patient = find_patient(patient_id)
    notes = len(patient.notes)
    db.delete(patient)
    db.commit()
    return {"notes": notes}


@app.post("/patients/<int:patient_id>/notes")
@signed_in()
def add_note(patient_id: int) -> Answer:
    note = Note(patient_id=find_patient(patient_id).id, author=g.user.name, text=request.json["text"])
    db.add(note)
    db.commit()
    return {"id": note.id}, 201


@app.post("/patients/<int:patient_id>/merge")
@signed_in("doctor", "admin")
@audited("patient.merge", resource="patient:{patient_id}")
def merge_patient(patient_id: int) -> Answer:
    """The notes of a duplicate go to the other file, and the duplicate is deleted."""
    duplicate, patient = find_patient(patient_id), find_patient(request.json["into"])
    add_details(into=patient.id)
    notes = list(duplicate.notes)
    for note in notes:
        note.patient = patient
    db.delete(duplicate)
    db.flush()
    if duplicate.born != patient.born:
        abort(409)  # born on different days, they are two patients: all of this is rolled back, and leaves no event
    db.commit()
    return {"notes": len(notes)}


@app.post("/patients/<int:patient_id>/letter")
@signed_in()
def send_letter(patient_id: int) -> Answer:
    db.add(Note(patient_id=find_patient(patient_id).id, author=g.user.name, text="letter sent"))
    db.flush()
    raise ConnectionError("The post room does not answer.")  # 500: the note is rolled back, the request is an event
