# ruff: noqa: PT012 - what is rolled back takes more than one statement
"""What must be captured of Django's ORM, line by line, on SQLite here and on PostgreSQL by ``test_postgres.py``.

Captured means: one event for each object, the right action, old and new, the right actor, if and only if it commits.
What concerns a project as a whole (commands, servers, test runners) is in ``test_project.py`` and ``test_postgres.py``.
"""

import asyncio
import threading
import uuid

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import F, Value
from django.db.models.functions import Upper
from django.test import Client

from audit_core.errors import BulkForbiddenError
from audit_core.testing import Recorded, recording
from audit_django import get_trail
from tests.django.clinic.models import (
    Bed,
    Doctor,
    Draft,
    Guest,
    Letter,
    Note,
    Patient,
    Person,
    Remark,
    Room,
    Surgeon,
    Ward,
)
from tests.django.loops import run

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def lines(recorded, since=0):
    return [(action, f"{kind}:{key}") for action, kind, key, _ in recorded.changes()[since:]]


def fields(recorded, since=0):
    return [changes for *_, changes in recorded.changes()[since:]]


# --- Both ORMs


def test_create_update_and_delete_have_their_resource_and_old_and_new_values(recorded):
    room = Room.objects.create(number="7")
    room.beds = 3
    room.save()
    room.delete()
    assert recorded.changes() == [
        ("create", "room", "7", {"number": (None, "7"), "beds": (None, 1)}),
        ("update", "room", "7", {"beds": (1, 3)}),
        ("delete", "room", "7", {"number": ("7", None), "beds": (3, None)}),
    ]


def test_an_update_that_sets_a_field_and_sets_it_back_is_no_event(recorded):
    room = Room.objects.create(number="7")
    room.beds = 3
    room.beds = 1
    room.save()
    Room.objects.update(beds=1)
    Room.objects.update_or_create(number="7", defaults={"beds": 1})
    assert lines(recorded) == [("create", "room:7")]


def test_where_only_some_are_written_only_what_was_really_written_is_told(recorded):
    patient = Patient.objects.create(name="Ada", age=1)
    patient.name, patient.age = "never written", 2
    patient.save(update_fields=["age"])
    some = Patient.objects.only("age").get()
    some.age = 3
    some.save()
    assert fields(recorded, 1) == [{"age": (1, 2)}, {"age": (2, 3)}]


def test_a_value_computed_by_the_database_is_the_resolved_one(recorded):
    letter = Letter.objects.create(title=Upper(Value("fresh")))
    patient = Patient.objects.create(name="Ada", age=1)
    patient.age, patient.name = F("age") + 1, Upper("name")
    patient.save()
    Patient.objects.update(age=F("age") * 10)
    assert (
        fields(recorded)[0] | {"id": (None, letter.pk), "title": (None, "FRESH"), "state": (None, "draft")}
        == fields(recorded)[0]
    )
    assert fields(recorded)[1]["shouted"] == (None, "ADA")
    assert fields(recorded, 2) == [{"age": (1, 2), "name": ("Ada", "ADA")}, {"age": (2, 20)}]


def test_a_deferred_field_that_is_overwritten_has_its_old_value(recorded):
    Patient.objects.create(name="Ada", age=1, record={"a": 1})
    patient = Patient.objects.defer("age", "record").get()
    patient.age, patient.record = 2, {"a": 2}
    patient.save()
    assert fields(recorded, 1) == [{"age": (1, 2), "record": ({"a": 1}, {"a": 2})}]


def test_a_json_value_changed_in_place_has_old_and_new(recorded):
    Patient.objects.create(name="Ada", record={"a": [1]})
    patient = Patient.objects.get()
    patient.record["a"].append(2)
    patient.save()
    patient.record["b"] = None
    Patient.objects.bulk_update([patient], ["record"])
    assert fields(recorded, 1) == [
        {"record": ({"a": [1]}, {"a": [1, 2]})},
        {"record": ({"a": [1, 2]}, {"a": [1, 2], "b": None})},
    ]


def test_of_a_row_that_another_transaction_changed_the_old_value_is_what_the_row_held(recorded):
    room = Room.objects.create(number="7", beds=1)
    with connection.cursor() as other:
        other.execute("UPDATE clinic_room SET beds = 5")
    room.beds = 9
    room.save()
    with connection.cursor() as other:
        other.execute("UPDATE clinic_room SET beds = 6")
    room.delete()
    assert fields(recorded, 1) == [{"beds": (5, 9)}, {"number": ("7", None), "beds": (6, None)}]


def test_an_object_saved_without_having_been_read_has_the_rows_old_values(recorded):
    Room.objects.create(number="7", beds=1)
    surgeon = Surgeon.objects.create(name="Grey", salary=1)
    Room(number="7", beds=2).save()
    Room(number="7").delete()
    Surgeon(
        pk=surgeon.pk, employee_ptr_id=surgeon.pk, person_ptr_id=surgeon.pk, name="Who", salary=1, blade="11"
    ).save()
    assert fields(recorded, 2) == [
        {"beds": (1, 2)},
        {"number": ("7", None), "beds": (2, None)},
        {"name": ("Grey", "Who"), "blade": ("10", "11")},
    ]


def test_several_saves_in_one_transaction_are_one_event_each_in_order(recorded):
    with transaction.atomic():
        room = Room.objects.create(number="7", beds=1)
        for beds in (2, 3):
            room.beds = beds
            room.save()
        room.delete()
    assert [(action, changes["beds"]) for action, _, _, changes in recorded.changes()] == [
        ("create", (None, 1)), ("update", (1, 2)), ("update", (2, 3)), ("delete", (3, None))
    ]  # fmt: skip


def test_nothing_of_what_was_undone_by_a_savepoint_an_error_or_a_rollback_and_all_of_the_rest(recorded):
    with transaction.atomic():
        Room.objects.create(number="kept")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Room.objects.create(number="undone")
            with transaction.atomic(savepoint=False):
                Room.objects.update(beds=9)
                raise ZeroDivisionError
        with pytest.raises(IntegrityError), transaction.atomic():
            Room.objects.bulk_create([Room(number="undone"), Room(number="kept")])
        sid = getattr(transaction, "savepoint_create", transaction.savepoint)()
        Room.objects.create(number="undone")
        transaction.savepoint_rollback(sid)
        with transaction.atomic():
            Room.objects.create(number="released")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Room.objects.create(number="gone")
        raise ZeroDivisionError
    with pytest.raises(IntegrityError):
        Room.objects.create(number="kept")  # in autocommit
    Room.objects.create(number="last")
    assert lines(recorded) == [("create", f"room:{number}") for number in ("kept", "released", "last")]
    assert set(Room.objects.values_list("number", "beds")) == {("kept", 1), ("released", 1), ("last", 1)}


def test_two_threads_at_once_one_rolled_back_do_not_mix(recorded):
    start = threading.Barrier(2)

    def work(name, keep):
        start.wait()
        for number in range(5):
            with get_trail().actor(name), transaction.atomic():
                Room.objects.create(number=f"{name}{number}")
                transaction.set_rollback(not keep)
        connections.close_all()

    threads = [threading.Thread(target=work, args=arguments) for arguments in (("kept", True), ("undone", False))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines(recorded) == [("create", f"room:kept{number}") for number in range(5)]
    assert {event.actor_id for event in recorded()} == {"kept"}


def test_composite_text_and_uuid_keys_and_a_changed_key_have_a_stable_id(recorded):
    ward = Ward.objects.create(id=uuid.UUID(int=5), name="a")
    bed = Bed.objects.create(room="x,y", place=1)
    bed.free = False
    bed.save()
    Room.objects.create(number="7")
    Room.objects.filter(number="7").update(number="8")
    ward.delete()
    key = "00000000-0000-0000-0000-000000000005"
    assert recorded.changes()[2:] == [
        ("update", "bed", "x\\,y,1", {"free": (True, False)}),
        ("create", "room", "7", {"number": (None, "7"), "beds": (None, 1)}),
        ("update", "room", "8", {"number": ("7", "8")}),
        ("delete", "ward", key, {"id": (key, None), "name": ("a", None)}),
    ]
    assert lines(recorded)[:2] == [("create", f"ward:{key}"), ("create", "bed:x\\,y,1")]


def test_an_inherited_object_is_one_event_with_the_fields_of_all_its_tables(recorded):
    surgeon = Surgeon.objects.create(name="Grey", salary=1)
    surgeon.name, surgeon.blade = "Who", "11"
    surgeon.save()
    Surgeon.objects.update(salary=2)
    Person.objects.get().delete()
    made = {"id": surgeon.pk, "name": "Grey", "salary": 1, "blade": "10"}
    left = {"id": surgeon.pk, "name": "Who", "salary": 2, "blade": "11"}
    assert fields(recorded) == [
        {name: (None, value) for name, value in made.items()},
        {"name": ("Grey", "Who"), "blade": ("10", "11")},
        {"salary": (1, 2)},
        {name: (value, None) for name, value in left.items()},
    ]
    assert lines(recorded) == [
        (action, f"surgeon:{surgeon.pk}") for action in ("create", "update", "update", "delete")
    ]  # fmt: skip


def test_many_to_many_links_from_either_side_and_through_the_table_are_the_keys_that_changed(recorded):
    doctor = Doctor.objects.create(name="Grey")
    one, two, three = (Ward.objects.create(id=uuid.UUID(int=n), name=str(n)) for n in (1, 2, 3))
    key = [None, *(str(ward.pk) for ward in (one, two, three))]
    before = len(recorded.changes())
    doctor.wards.add(one)
    doctor.wards.add(one, two)
    two.doctors.remove(doctor)
    doctor.wards.set([two, three])
    three.doctors.clear()
    Doctor.wards.through.objects.create(doctor=doctor, ward=one)
    doctor.wards.clear()
    Room.objects.create(number="7")
    doctor.rooms.add("7", through_defaults={"nights": 3})
    doctor.rooms.clear()
    assert [(action, changes) for action, kind, _, changes in recorded.changes()[before:] if kind == "doctor"] == [
        ("link", {"wards": (None, [key[1]])}),
        ("link", {"wards": (None, [key[2]])}),
        ("unlink", {"wards": ([key[2]], None)}),
        ("unlink", {"wards": ([key[1]], None)}),
        ("link", {"wards": (None, [key[2], key[3]])}),
        ("unlink", {"wards": ([key[3]], None)}),
        ("link", {"wards": (None, [key[1]])}),
        ("unlink", {"wards": ([key[1], key[2]], None)}),
    ]
    shifts = [(action, changes) for action, kind, _, changes in recorded.changes()[before:] if kind == "shift"]
    held = {"doctor_id": doctor.pk, "room_id": "7", "nights": 3}
    assert [(action, {name: changes[name] for name in held}) for action, changes in shifts] == [
        ("create", {name: (None, value) for name, value in held.items()}),
        ("delete", {name: (value, None) for name, value in held.items()}),
    ]


def test_cascades_done_by_the_orm_are_one_event_each(recorded):
    doctor = Doctor.objects.create(name="Grey")
    remark = Remark.objects.create(about=doctor)
    letter = Letter.objects.create(title="to her", reader=doctor)
    room = Room.objects.create(number="7")
    patient = Patient.objects.create(name="Ada", room=room)
    notes = [Note.objects.create(patient=patient, text=text) for text in "ab"]
    key, before = doctor.pk, len(recorded.changes())
    expected = [
        *(("delete", one._meta.model_name, str(one.pk)) for one in (doctor, remark, room, patient, *notes)),
        *(("update", one._meta.model_name, str(one.pk)) for one in (letter, patient)),
    ]
    doctor.delete()
    room.delete()
    patient.delete()
    found = recorded.changes()[before:]
    assert sorted(line[:3] for line in found) == sorted(expected)
    assert [changes for action, *_, changes in found if action == "update"] == [
        {"reader_id": (key, None)}, {"room_id": ("7", None)}
    ]  # fmt: skip
    assert [changes["text"] for _, kind, _, changes in found if kind == "note"] == [("a", None), ("b", None)]


NEW = {"1": 9, "2": 9}
CREATED = [("create", "room", n, {"number": (None, n), "beds": (None, 9)}) for n in NEW]
UPDATED = [("update", "room", n, {"beds": (int(n), 9)}) for n in NEW]
DELETED = [("delete", "room", n, {"number": (n, None), "beds": (int(n), None)}) for n in NEW]


def rooms():
    return [Room(number=number, beds=beds) for number, beds in NEW.items()]


def upsert():
    Room.objects.bulk_create(rooms(), update_conflicts=True, unique_fields=["number"], update_fields=["beds"])


BULK = {
    "bulk_create": (lambda: Room.objects.bulk_create(rooms()), CREATED),
    "bulk_create in batches": (lambda: Room.objects.bulk_create(rooms(), batch_size=1), CREATED),
    "upsert that creates": (upsert, CREATED),
    "ignored conflicts": (lambda: Room.objects.bulk_create(rooms(), ignore_conflicts=True), CREATED),
    "bulk_update": (lambda: Room.objects.bulk_update(rooms(), ["beds"]), UPDATED),
    "upsert that updates": (upsert, UPDATED),
    "update": (lambda: Room.objects.update(beds=9), UPDATED),
    "update of what is related": (lambda: Room.objects.filter(patient__isnull=True).update(beds=9), UPDATED),
    "delete": (lambda: Room.objects.all().delete(), DELETED),
    "raw delete": (lambda: Room.objects.all()._raw_delete("default"), DELETED),
}


@pytest.mark.parametrize("operation", BULK)
def test_bulk_operations_are_told_per_row_with_old_and_new_up_to_a_limit_and_can_be_forbidden(
    recorded, settings, operation
):
    write, expected = BULK[operation]
    for number in () if expected is CREATED else NEW:
        Room.objects.create(number=number, beds=int(number))
    before = len(recorded.changes())
    settings.AUDIT = {**settings.AUDIT, "BULK": "forbid"}
    with pytest.raises(BulkForbiddenError):
        write()
    settings.AUDIT = {**settings.AUDIT, "BULK": "record"}
    with get_trail().actor("importer"):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            write()
            raise ZeroDivisionError
        write()
    assert sorted(recorded.changes()[before:]) == expected
    assert {event.actor_id for event in recorded()[before:]} == {"importer"}


def test_above_the_limit_a_bulk_operation_is_one_summary_with_criteria_count_and_actor(recorded, settings):
    settings.AUDIT = {**settings.AUDIT, "BULK_LIMIT": 2}
    with get_trail().actor("importer"):
        Room.objects.bulk_create([Room(number=number) for number in "abc"])
        Room.objects.filter(number__gte="a").update(beds=F("beds") + 1)
        Room.objects.filter(beds=2).delete()
    assert [(e.action, e.resource_type, e.resource_id, e.actor_id) for e in recorded()] == [
        (action, "room", None, "importer") for action in ("create", "update", "delete")
    ]
    created, updated, deleted = (event.details["bulk"] for event in recorded())
    assert created == {"rows": 3}
    assert "beds" in updated.pop("values")["beds"]
    assert updated == {"rows": 3, "criteria": "number gte :number", "parameters": {"number": "a"}}
    assert deleted == {"rows": 3, "criteria": "beds exact :beds", "parameters": {"beds": 2}}


def test_the_actor_is_who_acts_when_the_event_is_recorded_and_none_is_left_over(recorded, client):
    boss = User.objects.create_superuser("boss")
    before = len(recorded())

    async def task(name):
        with get_trail().actor(name):
            await Room.objects.acreate(number=name)

    async def tasks():
        await asyncio.gather(*(task(f"task{number}") for number in range(3)))

    def thread():
        Room.objects.create(number="thread")
        connections.close_all()

    client.force_login(boss)
    client.post("/admin/clinic/room/add/", {"number": "request", "beds": "1"})
    run(tasks())
    with get_trail().actor("7", type="admin", on_behalf_of="9"):
        Room.objects.create(number="on_behalf")
        started = threading.Thread(target=thread)
        started.start()
        started.join()
    Room.objects.create(number="after")
    made = [event for event in recorded()[before:] if (event.action, event.resource_type) == ("create", "room")]
    assert {event.resource_id: (event.actor_id, event.actor_type, event.on_behalf_of) for event in made} == {
        "request": (str(boss.pk), "admin", None),
        **{f"task{number}": (f"task{number}", "user", None) for number in range(3)},
        "on_behalf": ("7", "admin", "9"),
        "thread": (None, "system", None),
        "after": (None, "system", None),
    }


def test_models_are_excluded_and_fields_redacted_at_any_depth(recorded):
    Draft.objects.create(text="left out").delete()
    patient = Patient.objects.create(name="Ada", password="hunter2", record={"deep": {"er": [{"api_key": "hunter2"}]}})
    patient.password = "hunter3"
    patient.save()
    created, updated = fields(recorded)
    assert created["password"] == (None, "[redacted]")
    assert created["record"] == (None, {"deep": {"er": [{"api_key": "[redacted]"}]}})
    assert updated == {"password": ("[redacted]", "[redacted]")}
    assert "hunter" not in str(recorded())


def test_another_database_than_the_trails_has_the_outbox_itself(recorded):
    with transaction.atomic(using="other"):
        Room.objects.using("other").create(number="7")
        with connections["other"].cursor() as cursor:
            table = "audit.audit_outbox" if connection.vendor == "postgresql" else "audit_outbox"
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchone() == (1,)
        with pytest.raises(ZeroDivisionError), transaction.atomic(using="other"):
            Room.objects.using("other").create(number="8")
            raise ZeroDivisionError
    get_trail().flush()
    assert lines(recorded) == [("create", "room:7")]
    assert [(event.sealed, event.details["database"]) for event in recorded()] == [(True, "other")]


def test_deleting_a_user_or_a_content_type_changes_no_event(recorded):
    user = User.objects.create(username="ada")
    with get_trail().actor(user.pk):
        Remark.objects.create(about=user).delete()
    before = recorded()
    user.delete()
    ContentType.objects.all().delete()
    after = recorded()[: len(before)]
    assert [(e.event_id, e.actor_id, e.resource_id, e.details) for e in after] == [
        (e.event_id, e.actor_id, e.resource_id, e.details) for e in before
    ]
    get_trail().flush()
    assert get_trail().chain.verify().findings == ()


def test_no_query_of_ours_where_nothing_is_written_and_one_insert_for_a_save(
    recorded, client, monkeypatch, django_assert_num_queries
):
    carried = []
    monkeypatch.setattr(Recorded, "carried", lambda self, events, connection: carried.append(len(events)))
    with recording(), django_assert_num_queries(0):
        client.get("/indifferent/")
    list(Room.objects.all())
    assert (carried, recorded()) == ([], [])
    with recording():
        Surgeon.objects.create(name="three tables")
        Room.objects.bulk_create([Room(number=str(number)) for number in range(20)])
    assert carried == [1, 20]


# --- Django besides


def test_a_change_and_its_event_commit_together_in_autocommit_too(recorded, monkeypatch):
    """Where the event cannot be written the change is not there, and where the change fails there is no event."""

    def refuse(*arguments):  # after the event was written, and before the commit
        raise OSError("disk full")

    Room.objects.create(number="1")
    with monkeypatch.context() as patch, recording():
        patch.setattr(Recorded, "carried", refuse)
        with pytest.raises(OSError, match="disk full"):
            Room.objects.create(number="2")
        with pytest.raises(OSError, match="disk full"):
            Room.objects.update(beds=9)
        with pytest.raises(OSError, match="disk full"):
            Room.objects.all().delete()
    with pytest.raises(IntegrityError):
        Room.objects.create(number="1")
    assert list(Room.objects.values_list("number", "beds")) == [("1", 1)]
    assert lines(recorded) == [("create", "room:1")]


def test_the_async_orm_from_acreate_to_adelete(recorded):
    async def work():
        room = await Room.objects.acreate(number="7")
        room.beds = 2
        await room.asave()
        await Room.objects.filter(number="7").aupdate(beds=3)
        await Room.objects.aupdate_or_create(number="7", defaults={"beds": 4})
        await Room.objects.abulk_create([Room(number="8")])
        doctor = await Doctor.objects.acreate(name="Grey")
        ward = await Ward.objects.acreate(name="North")
        await doctor.wards.aset([ward])
        await room.adelete()

    run(work())
    assert [(action, kind) for action, kind, *_ in recorded.changes()] == [
        ("create", "room"), *[("update", "room")] * 3, ("create", "room"), ("create", "doctor"), ("create", "ward"),
        ("link", "doctor"), ("delete", "room"),
    ]  # fmt: skip
    assert [changes["beds"] for changes in fields(recorded)[1:4]] == [(1, 2), (2, 3), (3, 4)]


def test_admin_actions_have_their_actor(recorded):
    boss, client = User.objects.create_superuser("boss"), Client()
    client.force_login(boss)
    client.post("/admin/clinic/room/add/", {"number": "1", "beds": "1"})
    client.post("/admin/clinic/room/1/change/", {"number": "1", "beds": "7"})
    chosen = {"action": "delete_selected", "_selected_action": ["1"], "post": "yes"}
    assert client.post("/admin/clinic/room/", chosen).status_code == 302
    found = [event for event in recorded() if event.resource_type == "room" and "changes" in event.details]
    assert [(e.action, e.resource_id, e.actor_id, e.actor_type) for e in found] == [
        (action, "1", str(boss.pk), "admin") for action in ("create", "update", "delete")
    ]


def test_login_logout_and_failed_login_are_events(recorded, client):
    ada = User.objects.create_user("ada", password="engine")
    for password in ("wrong", "engine"):
        client.post("/login/", {"username": "ada", "password": password}, content_type="application/json")
    client.post("/logout/")
    found = [(e.action, e.outcome, e.actor_id) for e in recorded() if e.action.startswith("user.")]
    assert found == [
        ("user.login_failed", "denied", None),
        ("user.login", "success", str(ada.pk)),
        ("user.logout", "success", str(ada.pk)),
    ]
    assert "wrong" not in str(recorded())


def test_several_databases_have_one_name_for_a_resource(recorded):
    room = Room.objects.create(number="7")
    room.save(using="other")
    Room.objects.using("other").update(beds=2)
    room.delete(using="other")
    assert lines(recorded) == [(action, "room:7") for action in ("create", "create", "update", "delete")]
    assert [event.details.get("database") for event in recorded()] == [None, "other", "other", "other"]


def test_an_object_of_a_substitute_class_has_the_name_of_its_model(recorded):
    """A class with ``Meta.proxy``; a swapped user model is a project of its own, in ``test_surroundings.py``."""
    guest = Guest.objects.create(name="Ada")
    Guest.objects.update(age=2)
    guest.delete()
    assert [(action, kind) for action, kind, *_ in recorded.changes()] == [
        ("create", "patient"), ("update", "patient"), ("delete", "patient")
    ]  # fmt: skip


def test_fixtures_are_changes(recorded, tmp_path):
    path = tmp_path / "rooms.json"
    path.write_text('[{"model": "clinic.room", "pk": "7", "fields": {"beds": 2}}]')
    call_command("loaddata", str(path), verbosity=0)
    path.write_text(path.read_text().replace('"beds": 2', '"beds": 3'))
    call_command("loaddata", str(path), verbosity=0)
    assert recorded.changes() == [
        ("create", "room", "7", {"number": (None, "7"), "beds": (None, 2)}),
        ("update", "room", "7", {"beds": (2, 3)}),
    ]


# --- In the user's own tests and tools


@pytest.mark.django_db(databases=["default", "other"])
def test_what_was_recorded_can_be_asserted_inside_a_transaction_that_never_commits():
    with recording() as events:
        patient = Patient.objects.create(name="Ada")
        Patient.objects.update(age=F("age") + 1)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Room.objects.create(number="undone")
            raise ZeroDivisionError
    events.assert_recorded("create", ("patient", patient.pk), changes={"name": (None, "Ada")})
    events.assert_recorded("update", ("patient", patient.pk), changes={"age": (0, 1)})
    assert len(events) == 2
