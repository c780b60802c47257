# ruff: noqa: PT012 - what is rolled back takes more than one statement
"""Django beside triggers; run by test_triggers.py, in a project on PostgreSQL that has them."""

import datetime as dt
import io
import threading
import uuid
from contextlib import closing, contextmanager, nullcontext

import psycopg
import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.db.models import F
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from psycopg import sql

from audit_core.errors import BulkForbiddenError
from audit_django import get_trail
from audit_django.triggers.coverage import forget_coverage
from tests.django.clinic.models import (
    Bed,
    Doctor,
    Draft,
    Employee,
    Guest,
    Locker,
    Note,
    Patient,
    Person,
    Room,
    Surgeon,
    Token,
    Ward,
)
from tests.django.loops import run
from tests.django.test_program import STEPS, Program, replayed, tables

pytestmark = pytest.mark.django_db(transaction=True)
both_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])
ALIASES = ("default", "other")
LOGIN = ("postgres", "admin")


@pytest.fixture(scope="session", autouse=True)
def _triggers(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        for alias in ALIASES:
            if connections[alias].settings_dict["NAME"].startswith("test_"):  # the chosen tests have it
                manage("install", f"--database={alias}")


@pytest.fixture
def ann():
    with get_trail().actor("ann"):
        yield


def manage(*arguments):
    call_command("audit", "triggers", *arguments)


def raw(statement, *parameters, using="default"):
    with connections[using].cursor() as cursor:
        cursor.execute(statement, *parameters)


@contextmanager
def sent(patch):
    """Every statement that this thread sends, ours too, with its parameters; the sealer's thread is at work as well."""
    seen, execute, here = [], psycopg.Cursor.execute, threading.get_ident()

    def watched(self, query, params=None, **options):
        if threading.get_ident() == here:
            seen.append((str(query), params, type(self)))
        return execute(self, query, params, **options)

    with patch.context() as inner:
        inner.setattr(psycopg.Cursor, "execute", watched)
        yield seen


def said(seen):
    return [params for query, params, _ in seen if "audit.context" in query]


def events(recorded):
    return [event for event in recorded() if event.details.keys() & {"changes", "bulk"}]


def told(recorded):
    return [(e.resource_type, e.action, e.resource_id, e.actor_id) for e in events(recorded)]


# -- one change, one event


def many():
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO clinic_room VALUES (%s, 1)", [("7",), ("8",)])


def copy():
    with connection.cursor() as cursor, cursor.copy("COPY clinic_room FROM STDIN") as rows:
        rows.write_row(("7", 1))
        rows.write_row(("8", 1))


WAYS = [
    (lambda: Room(number="7").save(), "create:7"),
    (lambda: Room.objects.create(number="7"), "create:7"),
    (lambda: Room.objects.get_or_create(number="1"), ""),
    (lambda: Room.objects.update_or_create(number="1", defaults={"beds": 9}), "update:1"),
    (lambda: Room(number="1", beds=9).save(), "update:1"),
    (lambda: Room(number="1", beds=9).save(update_fields=["beds"]), "update:1"),
    (lambda: Room(number="1", beds=F("beds") + 1).save(), "update:1"),
    (lambda: Room(number="1", beds=1).save(), ""),  # it held that
    (lambda: Room.objects.update(beds=F("beds") + 1), "update:1 update:2"),
    (lambda: Room.objects.filter(number="1").update(number="3"), "update:3"),
    (lambda: Room.objects.get(number="1").delete(), "delete:1"),
    (lambda: Room.objects.all().delete(), "delete:1 delete:2"),
    (lambda: Room.objects.bulk_create([Room(number="7"), Room(number="8")]), "create:7 create:8"),
    (lambda: Room.objects.bulk_create([Room(number="1"), Room(number="8")], ignore_conflicts=True), "create:8"),
    (lambda: Room.objects.bulk_create([Room(number="1", beds=9), Room(number="8")], update_conflicts=True,
     update_fields=["beds"], unique_fields=["number"]), "create:8 update:1"),
    (lambda: Room.objects.bulk_update([Room(number="1", beds=9), Room(number="2", beds=9)], ["beds"], batch_size=1),
     "update:1 update:2"),
    (lambda: run(Room.objects.acreate(number="7")), "create:7"),
    (lambda: run(Room.objects.filter(number="1").adelete()), "delete:1"),
    (lambda: raw("UPDATE clinic_room SET beds = 9 WHERE number = %s", ["1"]), "update:1"),
    (lambda: raw(sql.SQL("DELETE FROM {} WHERE number = '1'").format(sql.Identifier("clinic_room"))), "delete:1"),
    (lambda: raw("-- by hand\n/* INSERT */ UPDATE clinic_room SET beds = 9 WHERE number = '1'"), "update:1"),
    (lambda: raw("WITH a AS (DELETE FROM clinic_room WHERE number = '1' RETURNING 1) SELECT * FROM a"), "delete:1"),
    (many, "create:7 create:8"),
    (copy, "create:7 create:8"),
    (lambda: call_command("loaddata", "-", format="json", verbosity=0), "create:7"),
]  # fmt: skip


@pytest.mark.parametrize("within", ["autocommit", "a transaction", "logged queries"])
def test_one_change_is_one_event_with_its_actor_whichever_way_it_comes(recorded, ann, settings, monkeypatch, within):
    settings.DEBUG = within == "logged queries"
    for place, (work, expected) in enumerate(WAYS):
        raw("DELETE FROM clinic_room; INSERT INTO clinic_room VALUES ('1', 1), ('2', 1)")
        monkeypatch.setattr("sys.stdin", io.StringIO('[{"model": "clinic.room", "pk": "7", "fields": {"beds": 1}}]'))
        before = len(told(recorded))
        with transaction.atomic() if within == "a transaction" else nullcontext():
            work()
        wanted = [("room", *one.split(":"), "ann") for one in expected.split()]
        assert sorted(told(recorded)[before:]) == sorted(wanted), place
    get_trail().flush()
    assert get_trail().chain.verify().findings == ()


@both_databases
def test_an_event_of_a_trigger_has_the_names_and_values_that_one_of_the_hooks_has(recorded):
    ward = Ward.objects.create(name="w")
    values = {
        "owner": ward, "opened": dt.timedelta(days=1, seconds=2, microseconds=3), "weight": 1.5,
        "content": b"\x00\xff", "address": "10.0.0.1", "since": dt.time(23, 59), "is_open": False,
        "at": dt.datetime(2026, 2, 3, 4, 5, 6, 7, dt.UTC), "tag": uuid.UUID(int=5),
        "items": {"a": [1, 1.5, None, "b"]},
    }  # fmt: skip
    found = []
    try:
        for triggers in (True, False):
            if not triggers:
                manage("drop", "--all")
            before = len(events(recorded))
            with get_trail().actor("ann", on_behalf_of="eve"):
                Locker.objects.create(number="1", **values)
                Locker.objects.update(owner=None, weight=None, items=[], number="2")
                Locker.objects.all().delete()
                Bed.objects.create(room="7, west", place=1)
                Bed.objects.all().delete()
                patient = Patient(pk=5, name="Zoë", born=dt.date(2024, 2, 29), balance="1.5", password="hunter2")
                patient.save()
                Guest.objects.get(pk=5).delete()
                Room.objects.using("other").create(number="7")
                Room.objects.using("other").all().delete()
            some = events(recorded)[before:]
            for event in some:
                for name in ("changed_at", "pin"):  # the time, and what the hooks hash
                    event.details["changes"].pop(name, None)
            found.append(
                [(e.action, e.resource_type, e.resource_id, e.details, e.actor_id, e.on_behalf_of) for e in some]
            )
        assert found[0] == found[1]
        assert len(found[0]) == 9
    finally:
        for alias in ALIASES:
            manage("install", f"--database={alias}")


@pytest.mark.parametrize("seed", range(3))
def test_the_changes_of_a_random_program_lead_to_the_tables_as_they_are(recorded, seed):
    Program(seed).run(STEPS)
    rows, links = replayed(recorded.changes())
    for key in [key for kind, key in rows if kind == "surgeon"]:  # a row of each of its tables
        parts = [rows.pop((kind, key)) for kind in ("person", "employee", "surgeon")]
        rows["surgeon", key] = {n: v for part in parts for n, v in part.items() if not n.endswith("_ptr_id")}
    assert (rows, links) == tables()


# -- who acts


def test_a_transaction_that_only_reads_has_no_query_of_ours_and_one_that_writes_has_one(recorded, ann, monkeypatch):
    Room.objects.create(number="1")
    with sent(monkeypatch) as seen, transaction.atomic():
        list(Room.objects.select_for_update())
        raw("WITH a AS (SELECT 1) SELECT * FROM a")
        assert not said(seen)
        assert len(seen) == 2
        Room.objects.create(number="2")
        Room.objects.update(beds=3)
        Draft.objects.create(text="of a model that is not audited")
    assert len(said(seen)) == 1


def test_who_acts_is_bound_and_stands_in_no_sql(recorded, monkeypatch):
    with sent(monkeypatch) as seen, get_trail().actor("O'Hara"):
        Room.objects.create(number="1")
    ((text,),) = said(seen)
    assert "O'Hara" in text
    assert not any("Hara" in query for query, *_ in seen)
    (kind,) = {kind for query, _, kind in seen if "audit.context" in query}
    assert not issubclass(kind, psycopg.ClientCursor)  # it binds on the server
    assert told(recorded) == [("room", "create", "1", "O'Hara")]


def test_the_statements_of_the_orm_are_its_own(recorded, ann, monkeypatch):
    Room.objects.create(number="1")
    with sent(monkeypatch) as seen:
        Room.objects.update(beds=3)
        Room.objects.filter(number="1")._raw_delete("default")
    orm = [query for query, *_ in seen if "audit.context" not in query]
    assert len(orm) == 2
    assert not any("RETURNING" in query or "audit_" in query for query in orm)


def test_where_nobody_says_a_statement_stays_alone(recorded):
    with CaptureQueriesContext(connection) as queries:
        Room.objects.create(number="1")
        raw("UPDATE clinic_room SET beds = 3")
    assert not [query for query in queries if query["sql"] in {"BEGIN", "COMMIT"}]
    assert [(event.actor_id, event.actor_type) for event in events(recorded)] == [LOGIN, LOGIN]


def test_the_actor_is_whoever_acts_at_each_statement_of_a_transaction(recorded):
    with transaction.atomic():
        for name in ("ann", "bob"):
            with get_trail().actor(name):
                Room.objects.create(number=name)
        Room.objects.create(number="1")
    assert [actor for *_, actor in told(recorded)] == ["ann", "bob", "postgres"]


@pytest.mark.parametrize("undone", [True, False])
def test_the_actor_is_right_after_a_savepoint(recorded, undone):
    with transaction.atomic():
        with get_trail().actor("ann"):
            Room.objects.create(number="1")
        with transaction.atomic(), get_trail().actor("bob"):
            Room.objects.create(number="2")
            transaction.set_rollback(undone)
        for number, name in (("3", "bob"), ("4", "ann")):
            with get_trail().actor(name):
                Room.objects.create(number=number)
        Room.objects.create(number="5")
    wanted = [("1", "ann"), ("2", "bob"), ("3", "bob"), ("4", "ann"), ("5", "postgres")]
    assert [(key, actor) for *_, key, actor in told(recorded)] == [p for p in wanted if not (undone and p[0] == "2")]


def test_what_is_rolled_back_leaves_neither_event_nor_actor(recorded, ann):
    with pytest.raises(IntegrityError), transaction.atomic():
        Room.objects.create(number="1")
        Room(number="1").save(force_insert=True)
    with pytest.raises(IntegrityError):
        raw("INSERT INTO clinic_room VALUES ('2', NULL)")
    with transaction.atomic():
        Room.objects.create(number="3")
    assert told(recorded) == [("room", "create", "3", "ann")]


def test_a_failed_transaction_is_told_as_django_tells_it(recorded, ann):
    with pytest.raises(DatabaseError), transaction.atomic():
        with pytest.raises(DatabaseError):
            raw("SELECT 1 / 0")
        Room.objects.create(number="1")
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        transaction.set_rollback(True)
        Room.objects.create(number="1")
    assert told(recorded) == []


def test_what_runs_on_commit_has_its_actor(recorded):
    with get_trail().actor("ann"), transaction.atomic():
        Room.objects.create(number="1")
        transaction.on_commit(lambda: Room.objects.create(number="2"))
    assert [(key, actor) for *_, key, actor in told(recorded)] == [("1", "ann"), ("2", "ann")]


def test_without_autocommit_a_transaction_lasts_until_the_commit(recorded, ann):
    transaction.set_autocommit(False)
    try:
        raw("INSERT INTO clinic_room VALUES ('1', 1)")
        transaction.rollback()
        raw("INSERT INTO clinic_room VALUES ('2', 1)")
        transaction.commit()
        raw("INSERT INTO clinic_room VALUES ('3', 1)")
        raw("COMMIT")
        raw("INSERT INTO clinic_room VALUES ('4', 1)")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert [(key, actor) for *_, key, actor in told(recorded)] == [("2", "ann"), ("3", "ann"), ("4", "ann")]


def test_a_request_has_its_user_and_leaves_nothing_on_the_connection(recorded, client, django_user_model):
    ada = django_user_model.objects.create_superuser("ada", password="correct horse")
    client.force_login(ada)
    before = len(events(recorded))
    assert client.post("/admin/clinic/room/add/", {"number": "7", "beds": "2"}).status_code == 302
    raw("UPDATE clinic_room SET beds = 3")  # the connection is the same
    created, updated = events(recorded)[before:]
    request = next(event for event in recorded() if "/admin/" in event.action)
    assert (created.actor_id, created.actor_type, created.request_id) == (str(ada.pk), "admin", request.request_id)
    assert (created.ip_address, created.resource_type) == ("127.0.0.1", "room")
    assert (updated.actor_id, updated.actor_type, updated.request_id) == (*LOGIN, None)


def test_an_async_view_has_its_user(recorded, django_user_model):
    ada = django_user_model.objects.create_user("ada", password="correct horse")

    async def visit():
        client = AsyncClient()
        await client.aforce_login(ada)
        return await client.post("/apatients/?name=Eve")

    assert run(visit()).status_code == 201
    (created,) = [event for event in events(recorded) if event.resource_type == "patient"]
    assert created.request_id
    assert created.actor_type in {"user", "anonymous"}  # nobody had asked who it is


def test_a_request_that_only_reads_has_no_query_of_ours(recorded, client, monkeypatch):
    client.get("/indifferent/")
    with sent(monkeypatch) as seen:
        client.get("/indifferent/")
    assert not said(seen)
    assert not [query for query, *_ in seen if "pg_trigger" in query]


# -- whatever changes rows


def test_cascades_of_the_database_are_told_with_the_actor(recorded, ann):
    raw("ALTER TABLE clinic_room ADD COLUMN patient_id bigint REFERENCES clinic_patient ON DELETE CASCADE")
    try:
        patient = Patient.objects.create(name="Eve")
        raw("INSERT INTO clinic_room VALUES ('1', 1, %s)", [patient.pk])
        raw("DELETE FROM clinic_patient")
        assert sorted(told(recorded)[2:]) == [
            ("patient", "delete", str(patient.pk), "ann"), ("room", "delete", "1", "ann"),
        ]  # fmt: skip
    finally:
        raw("ALTER TABLE clinic_room DROP COLUMN patient_id")


def test_cascades_of_django_are_told_once(recorded, ann):
    patient = Patient.objects.create(name="Eve", room=Room.objects.create(number="1"))
    key = str(patient.pk)
    note = Note.objects.create(patient=patient, text="x")
    Room.objects.all().delete()
    patient.delete()
    assert told(recorded)[3:] == [
        ("patient", "update", key, "ann"), ("room", "delete", "1", "ann"), ("note", "delete", str(note.pk), "ann"),
        ("patient", "delete", key, "ann"),
    ]  # fmt: skip


def test_truncate_is_told(recorded, ann):
    Note.objects.create(patient=Patient.objects.create(name="Eve"), text="x")
    raw("TRUNCATE clinic_patient CASCADE")
    assert sorted(told(recorded)[2:]) == [("note", "delete", None, "ann"), ("patient", "delete", None, "ann")]


def test_somebody_in_psql_is_told_by_his_login(recorded):
    with closing(psycopg.connect(get_trail().url, autocommit=True)) as psql:
        psql.execute("SET application_name = 'psql'; INSERT INTO clinic_room VALUES ('1', 1)")
    (event,) = events(recorded)
    assert (event.actor_id, event.actor_type) == LOGIN
    assert event.details["connection"]["application_name"] == "psql"


def test_above_the_limit_one_summary_is_told(recorded, ann):
    Room.objects.bulk_create([Room(number=str(number)) for number in range(1_001)])
    (event,) = events(recorded)
    assert (event.action, event.resource_type, event.details["bulk"]) == ("create", "room", {"rows": 1_001})


@both_databases
def test_another_database_is_told_of_with_its_name(recorded, ann):
    with transaction.atomic("other"), transaction.atomic():
        Room.objects.using("other").create(number="1")
        Room.objects.create(number="2")
    with transaction.atomic("other"):
        Room.objects.using("other").create(number="3")
        transaction.set_rollback(True, "other")
    raw("UPDATE clinic_room SET beds = 3", using="other")
    found = [(event.resource_id, event.actor_id, event.details.get("database")) for event in events(recorded)]
    assert sorted(found) == [("1", "ann", "other"), ("1", "ann", "other"), ("2", "ann", None)]


# -- what the hooks tell


def test_links_are_told_once_as_links(recorded, ann):
    doctor, ward = Doctor.objects.create(name="Grey"), Ward.objects.create(name="w")
    before = len(told(recorded))
    doctor.wards.add(ward)
    ward.doctors.set([])
    doctor.friends.add(Doctor.objects.create(name="Shepherd"))
    doctor.friends.clear()
    doctor.rooms.add(Room.objects.create(number="1"), through_defaults={"nights": 2})
    doctor.wards.set([ward])
    doctor.delete()
    found = [(kind, action) for kind, action, *_ in told(recorded)[before:]]
    assert found[:10] == [
        ("doctor", "link"), ("doctor", "unlink"), ("doctor", "create"), ("doctor", "link"), ("doctor", "link"),
        ("doctor", "unlink"), ("doctor", "unlink"), ("room", "create"), ("shift", "create"), ("doctor", "link"),
    ]  # fmt: skip
    assert sorted(found[10:]) == [("doctor", "delete"), ("doctor", "unlink"), ("shift", "delete")]
    assert {actor for *_, actor in told(recorded)} == {"ann"}


def test_links_whose_table_has_triggers_are_left_to_them(recorded, ann):
    doctor, ward = Doctor.objects.create(name="Grey"), Ward.objects.create(name="w")
    manage("install", "--tables", "clinic_doctor_wards")
    try:
        doctor.wards.add(ward)
        doctor.wards.clear()
    finally:
        manage("drop", "--tables", "clinic_doctor_wards")
    assert [one[:2] for one in told(recorded)[2:]] == [
        ("clinic_doctor_wards", "create"), ("clinic_doctor_wards", "delete"),
    ]  # fmt: skip


def test_an_inherited_object_is_an_event_for_each_of_its_tables(recorded, ann):
    surgeon = Surgeon.objects.create(name="Grey", salary=3)
    surgeon.blade = "11"
    surgeon.save()
    Surgeon.objects.update(name="Meredith", blade="12")
    surgeon.delete()
    assert [one[:2] for one in told(recorded)] == [
        ("person", "create"), ("employee", "create"), ("surgeon", "create"), ("surgeon", "update"),
        ("surgeon", "update"), ("person", "update"), ("surgeon", "delete"), ("employee", "delete"),
        ("person", "delete"),
    ]  # fmt: skip


def test_an_inherited_object_is_told_by_the_hooks_where_a_table_of_it_has_no_triggers(recorded, ann):
    manage("drop", "--tables", "clinic_employee")
    try:
        employee = Employee.objects.create(name="Grey", salary=3)
        Employee.objects.update(name="Meredith")
        Person.objects.create(name="Bob")
        employee.delete()
        Person.objects.all().delete()
    finally:
        manage("install")
    found = events(recorded)
    assert [(event.resource_type, event.action) for event in found] == [
        ("person", "create"), ("employee", "create"), ("person", "update"), ("employee", "update"),
        ("person", "create"), ("person", "delete"), ("employee", "delete"), ("person", "delete"),
    ]  # fmt: skip
    of_employee = [event.details["changes"] for event in found if event.resource_type == "employee"]
    assert [changes["name"] for changes in of_employee] == [
        {"old": None, "new": "Grey"}, {"old": "Grey", "new": "Meredith"}, {"old": "Meredith", "new": None},
    ]  # fmt: skip


def test_without_the_setting_both_tell(recorded, ann, settings):
    settings.AUDIT = {**settings.AUDIT, "TRIGGERS": False}
    Room.objects.create(number="1")
    assert sorted(told(recorded)) == [("room", "create", "1", "ann"), ("room", "create", "1", "postgres")]
    found = [message for message in run_checks(databases=["default"]) if message.id == "audit.W006"]
    assert "clinic_room" in found[0].msg


def test_the_hooks_tell_again_where_the_triggers_are_gone(recorded, ann, monkeypatch):
    monkeypatch.setattr("audit_django.triggers.coverage.KNOWN_SECONDS", 0.0)
    raw("ALTER TABLE clinic_room DISABLE TRIGGER audit_update")
    try:
        Room.objects.create(number="1")
        Room.objects.update(beds=3)
    finally:
        raw("ALTER TABLE clinic_room ENABLE TRIGGER audit_update")
        forget_coverage()
    assert [one[1] for one in told(recorded)] == ["create", "create", "update"]  # a disabled trigger leaves one of two


@pytest.mark.parametrize(
    "work",
    [
        lambda: Room.objects.update(beds=3),
        lambda: Room.objects.all().delete(),
        lambda: Room.objects.bulk_create([Room(number="7")]),
        lambda: Room.objects.bulk_update([Room(number="1", beds=3)], ["beds"]),
    ],
)
def test_forbidden_bulk_operations_are_refused_on_tables_with_triggers_too(recorded, settings, work):
    Room.objects.create(number="1")
    settings.AUDIT = {**settings.AUDIT, "BULK": "forbid"}
    with pytest.raises(BulkForbiddenError):
        work()
    assert len(told(recorded)) == 1
    Surgeon.objects.create(name="Grey").delete()  # one by one is as before
    Doctor.objects.create(name="Grey").wards.add(Ward.objects.create(name="w"))
    Room(number="1", beds=5).save()


def test_several_statements_in_one_string_have_the_actor_of_their_transaction(recorded, ann):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '5s'; INSERT INTO clinic_room VALUES ('7', 1)")
    (event,) = events(recorded)
    assert (event.resource_type, event.actor_id) == ("room", "ann")


# -- what is kept out


def test_a_field_that_is_hashed_never_leaves_its_table(recorded, capsys):
    manage("install")
    assert "clinic_locker.digits is told as [redacted], not as its hash" in capsys.readouterr().err
    with transaction.atomic():
        Locker.objects.create(number="1", pin="hunter2")
        with connection.cursor() as cursor:
            cursor.execute("SELECT event FROM audit.audit_outbox WHERE event LIKE '%locker%'")
            assert "hunter2" not in str(cursor.fetchall())
            cursor.execute("SELECT string_agg(prosrc, '') FROM pg_proc WHERE proname LIKE 'audit_%'")
            (source,) = cursor.fetchone()
    from audit_core.keys import load_hash_key

    key = load_hash_key()
    assert key.hex() not in source
    (event,) = events(recorded)
    assert event.details["changes"]["pin"] == {"old": None, "new": "[redacted]"}


def test_a_field_whose_class_has_it_hashed_is_named_whatever_the_settings_say(settings, capsys):
    settings.AUDIT = {**settings.AUDIT, "REDACT": {}}
    manage("install", "--tables", "prison.Inmate")
    assert "prison_inmate.ailment is told as [redacted], not as its hash" in capsys.readouterr().err


def test_a_rule_that_is_new_is_found_and_followed_and_what_the_command_line_said_stays(recorded, settings, capsys):
    manage("install", "--tables", "clinic.Patient", "--exclude-column", "clinic.Patient.balance")
    settings.AUDIT = {**settings.AUDIT, "REDACT": {"patient.name": "mask"}}
    try:
        with pytest.raises(CommandError):
            manage("check")
        wrong = "public.clinic_patient.name is told as it is, and by the application's rules masked"
        assert wrong in capsys.readouterr().out
        (warning,) = [one for one in run_checks(databases=["default"]) if one.id == "audit.W005"]
        assert "clinic_patient" in warning.msg
        manage("install")
        manage("check")
        Patient.objects.create(name="Wolfeschlegelstein")
        (event,) = events(recorded)
        assert event.details["changes"]["name"]["new"] == "••••tein"
        assert "balance" not in event.details["changes"]
    finally:
        manage("install", "--tell", "clinic.Patient.balance", "--tell", "clinic.Patient.name")


def test_models_that_are_not_audited_have_no_triggers(recorded):
    Draft.objects.create(text="x")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE tgname = 'audit_create'"
        )
        names = {name for (name,) in cursor.fetchall()}
    assert names.isdisjoint({"clinic_draft", "django_session", "clinic_doctor_wards", "django_migrations"})
    assert {"clinic_shift", "auth_user", "clinic_locker"} < names


@both_databases
def test_a_missing_trigger_is_found(recorded, capsys):
    assert "audit.W005" not in {message.id for message in run_checks(databases=list(ALIASES))}
    raw("DROP TRIGGER audit_delete ON clinic_room")
    try:
        (warning,) = [one for one in run_checks(databases=["default"]) if one.id == "audit.W005"]
        assert "has lost its trigger audit_delete" in warning.msg
        assert "manage.py audit triggers install --database=default" in warning.hint
    finally:
        manage("install")


def test_a_key_that_is_a_secret_never_leaves_its_table(recorded):
    Token.objects.create(key="s3cret")
    assert [event.resource_id for event in events(recorded)] == ["[redacted]"]


def test_an_unknown_database_is_one_sentence(recorded):
    with pytest.raises(CommandError, match="There is no database 'elsewhere'"):
        manage("check", "--database=elsewhere")
