# ruff: noqa: PT012 - what is rolled back takes more than one statement
"""acceptance: what an ORM changes, for save and delete."""

import datetime as dt
import gc
import threading
from contextlib import nullcontext

import pytest
from django import VERSION
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import F, Value
from django.db.models.functions import Upper

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError
from audit_core.testing import recording
from audit_django import get_trail
from audit_django.capture import statements
from audit_django.trail import close_trail
from tests.django.clinic.models import Bed, Draft, Employee, Guest, Note, Patient, Person, Room, Surgeon, Token, Ward
from tests.django.loops import run

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_a_create_names_the_resource_and_every_field_that_is_not_null(recorded):
    patient = Patient.objects.create(name="Ada", age="36", born=dt.date(1815, 12, 10), balance="1.5")
    ((action, kind, key, changes),) = recorded.changes()
    assert (action, kind, key) == ("create", "patient", str(patient.pk))
    assert changes == {
        "id": (None, patient.pk),
        "name": (None, "Ada"),
        "age": (None, 36),
        "born": (None, "1815-12-10"),
        "balance": (None, "1.50"),
        "record": (None, {}),
        "password": (None, "[redacted]"),
        "shouted": (None, "ADA"),
    }


def test_an_update_holds_the_old_and_the_new_value_of_what_changed(recorded):
    patient = Patient.objects.create(name="Ada", age=36)
    patient.name, patient.age = "Grace", "37"
    patient.save()
    assert recorded.changes()[1:] == [
        ("update", "patient", str(patient.pk), {"name": ("Ada", "Grace"), "age": (36, 37), "shouted": ("ADA", "GRACE")})
    ]


def test_a_key_that_is_a_secret_is_told_as_the_same_hash_in_every_event(recorded):
    token = Token.objects.create(key="s3cr3t")
    token.uses = 1
    token.save()
    token.delete()
    changes = recorded.changes()
    assert [(action, key) for action, _, key, _ in changes] == [
        (action, get_trail().redactor.keyed_hash("s3cr3t")) for action in ("create", "update", "delete")
    ]
    assert "s3cr3t" not in str(changes)


def test_a_delete_holds_what_the_row_held(recorded):
    patient = Patient.objects.create(name="Ada")
    key = str(patient.pk)
    patient.name = "not saved"
    patient.delete()
    action, kind, its_key, changes = recorded.changes()[-1]
    assert (action, kind, its_key) == ("delete", "patient", key)
    assert changes["name"] == ("Ada", None)
    assert changes["password"] == ("[redacted]", None)


def test_update_fields_records_only_what_was_really_written(recorded):
    patient = Patient.objects.create(name="Ada", age=36)
    patient.name, patient.age = "Grace", 37
    patient.save(update_fields=["age"])
    assert recorded.changes()[-1][3] == {"age": (36, 37)}


def test_a_deferred_object_records_only_what_was_really_written(recorded):
    patient = Patient.objects.create(name="Ada", age=36)
    loaded = Patient.objects.only("age").get(pk=patient.pk)
    loaded.age = 40
    loaded.save()
    assert recorded.changes()[-1][3] == {"age": (36, 40)}


@pytest.mark.parametrize(
    ("field", "expression", "expected"),
    [("age", F("age") + 1, (36, 37)), ("name", Upper(Value("grace")), ("Ada", "GRACE"))],
)
def test_a_value_computed_by_the_database_is_read_back(recorded, field, expression, expected):
    patient = Patient.objects.create(name="Ada", age=36)
    setattr(patient, field, expression)
    patient.save()
    assert recorded.changes()[-1][3][field] == expected


def test_a_savepoint_that_is_rolled_back_leaves_nothing_of_what_was_undone_and_all_of_the_rest(recorded):
    with transaction.atomic():
        Room.objects.create(number="1")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Room.objects.create(number="2")
            raise ZeroDivisionError
        Room.objects.create(number="3")
    assert [change[2] for change in recorded.changes()] == ["1", "3"]


def test_an_outer_rollback_leaves_nothing(recorded):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        with transaction.atomic():
            Room.objects.create(number="1")
        raise ZeroDivisionError
    assert recorded.changes() == []
    Room.objects.create(number="2")
    assert [change[2] for change in recorded.changes()] == ["2"]


def test_after_an_integrity_error_the_connection_goes_on(recorded):
    Room.objects.create(number="1")
    with pytest.raises(IntegrityError):
        Room.objects.create(number="1")
    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Room.objects.create(number="1")
        Room.objects.create(number="2")
    assert [change[2] for change in recorded.changes()] == ["1", "2"]


def test_text_uuid_and_composite_keys(recorded):
    ward = Ward.objects.create(name="North")
    Room.objects.create(number="7,b")
    bed = Bed.objects.create(room="7,b", place=2)
    bed.free = False
    bed.save()
    bed.delete()
    assert [(change[0], change[1], change[2]) for change in recorded.changes()] == [
        ("create", "ward", str(ward.pk)),
        ("create", "room", "7,b"),
        ("create", "bed", "7\\,b,2"),
        ("update", "bed", "7\\,b,2"),
        ("delete", "bed", "7\\,b,2"),
    ]


def test_a_changed_key_is_another_row_to_django_and_so_another_create(recorded):
    room = Room.objects.create(number="1")
    room.number = "2"
    room.save()
    assert [change[:3] for change in recorded.changes()] == [("create", "room", "1"), ("create", "room", "2")]


def test_inheritance_is_one_event_per_object_with_the_fields_of_all_its_tables(recorded):
    surgeon = Surgeon.objects.create(name="Meredith", salary=1)
    surgeon.name, surgeon.blade = "Grey", "11"
    surgeon.save()
    surgeon.salary = F("salary") + 1
    surgeon.save(update_fields=["salary"])
    key = str(surgeon.pk)
    surgeon.delete()
    full = {"id": int(key), "name": "Meredith", "salary": 1, "blade": "10"}
    assert recorded.changes() == [
        ("create", "surgeon", key, {name: (None, value) for name, value in full.items()}),
        ("update", "surgeon", key, {"name": ("Meredith", "Grey"), "blade": ("10", "11")}),
        ("update", "surgeon", key, {"salary": (1, 2)}),
        (
            "delete",
            "surgeon",
            key,
            {"id": (int(key), None), "name": ("Grey", None), "salary": (2, None), "blade": ("11", None)},
        ),
    ]
    assert not Person.objects.exists()


def test_deleting_a_parent_row_is_one_event_for_the_object(recorded):
    surgeon = Surgeon.objects.create(name="Meredith")
    Person.objects.get(pk=surgeon.pk).delete()
    assert [change[:2] for change in recorded.changes()] == [("create", "surgeon"), ("delete", "surgeon")]


def test_keep_parents_deletes_only_the_fields_of_its_own_table(recorded):
    employee = Employee.objects.create(name="Meredith", salary=5)
    employee.delete(keep_parents=True)
    assert recorded.changes()[-1][3] == {"salary": (5, None)}
    assert Person.objects.count() == 1


def test_a_proxy_has_the_name_of_its_model(recorded):
    guest = Guest.objects.create(name="Ada")
    guest.name = "Grace"
    guest.save()
    guest.delete()
    assert [change[:2] for change in recorded.changes()] == [
        ("create", "patient"), ("update", "patient"), ("delete", "patient"),
    ]  # fmt: skip


def test_cascades_are_one_event_each(recorded):
    patient = Patient.objects.create(name="Ada")
    for text in ("a", "b"):
        Note.objects.create(patient=patient, text=text)
    patient.delete()
    assert sorted(change[:2] for change in recorded.changes()[3:]) == [
        ("delete", "note"), ("delete", "note"), ("delete", "patient"),
    ]  # fmt: skip


def test_a_reference_that_is_set_to_null_is_an_update_of_its_row(recorded):
    room = Room.objects.create(number="7")
    patient = Patient.objects.create(name="Ada", room=room)
    room.delete()
    assert recorded.changes()[2:] == [
        ("update", "patient", str(patient.pk), {"room_id": ("7", None)}),
        ("delete", "room", "7", {"number": ("7", None), "beds": (1, None)}),
    ]


def test_queryset_delete_is_one_event_per_row(recorded):
    for number in range(450):
        Room.objects.create(number=str(number))
    Room.objects.filter(number__lt="3").delete()
    deleted = [change[2] for change in recorded.changes() if change[0] == "delete"]
    assert sorted(deleted) == sorted(str(number) for number in range(450) if str(number) < "3")
    assert Room.objects.count() == 450 - len(deleted)


def test_a_queryset_delete_that_finds_nothing_is_no_event(recorded):
    assert Room.objects.filter(number="nowhere").delete()[0] == 0
    assert recorded.changes() == []


def test_get_or_create_and_update_or_create(recorded):
    Room.objects.get_or_create(number="7")
    Room.objects.get_or_create(number="7")
    Room.objects.update_or_create(number="7", defaults={"beds": 4})
    assert [change[0] for change in recorded.changes()] == ["create", "update"]


def test_the_async_orm(recorded):
    async def work():
        room = await Room.objects.acreate(number="7")
        room.beds = 3
        await room.asave()
        await room.adelete()

    run(work())
    assert [change[0] for change in recorded.changes()] == ["create", "update", "delete"]


def test_a_change_in_another_database_lies_in_its_own_outbox_and_is_sealed(recorded):
    room = Room.objects.using("other").create(number="7")
    room.beds = 3
    room.save()
    room.delete()
    with pytest.raises(ZeroDivisionError), transaction.atomic(using="other"):
        Room.objects.using("other").create(number="8")
        raise ZeroDivisionError
    assert [change[:3] for change in recorded.changes()] == [
        ("create", "room", "7"), ("update", "room", "7"), ("delete", "room", "7"),
    ]  # fmt: skip
    get_trail().flush()
    assert all(event.sealed for event in recorded())


def test_a_resource_has_one_name_everywhere_and_another_database_is_a_detail(recorded):
    Room.objects.create(number="7")
    Room.objects.using("other").create(number="7")
    here, there = recorded("create")
    assert (here.resource_type, here.resource_id) == (there.resource_type, there.resource_id) == ("room", "7")
    assert "database" not in here.details
    assert there.details["database"] == "other"


def test_excluded_models_and_djangos_own_leave_no_event(recorded):
    from django.contrib.contenttypes.models import ContentType
    from django.contrib.sessions.models import Session

    Draft.objects.create(text="not yet").delete()
    ContentType.objects.create(app_label="a", model="b").delete()
    Session.objects.create(session_key="k" * 32, session_data="", expire_date=dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    Session.objects.all().delete()
    assert recorded() == []


def test_fixtures_are_changes_too_table_by_table(recorded, tmp_path):
    from django.core import serializers
    from django.core.management import call_command

    surgeon = Surgeon(id=5, person_ptr_id=5, employee_ptr_id=5, name="Grey", salary=1, blade="12")
    objects = [Person(id=5, name="Grey"), Employee(person_ptr_id=5, name="Grey", salary=1), surgeon]
    file = tmp_path / "fixture.json"
    file.write_text(serializers.serialize("json", objects))
    call_command("loaddata", str(file), verbosity=0)
    assert [(change[0], change[1], change[3]) for change in recorded.changes()] == [
        ("create", "person", {"id": (None, 5), "name": (None, "Grey")}),
        ("create", "employee", {"salary": (None, 1)}),
        ("create", "surgeon", {"blade": (None, "12")}),
    ]


def test_our_queries_are_not_counted_among_the_applications(recorded, django_assert_num_queries):
    room = Room.objects.create(number="7")
    room.beds = 3
    with transaction.atomic():
        with django_assert_num_queries(1):
            room.save()
        with django_assert_num_queries(1):
            Ward(name="North").save()
    assert len(recorded.changes()) == 3


def test_as_many_queries_are_counted_in_autocommit_as_without_us(recorded, django_assert_num_queries):
    room, token = Room(number="7"), Token.objects.create(key="k")
    with django_assert_num_queries(1), pytest.raises(IntegrityError):
        Token.objects.create(key="k")
    with django_assert_num_queries(1):
        Room.objects.create(number="6")
    with django_assert_num_queries(1):
        Room.objects.update(beds=F("beds") + 1)
    with django_assert_num_queries(1):
        token.delete()
    with django_assert_num_queries(3 if VERSION < (6, 1) else 1):  # a transaction of Django's own
        Room.objects.bulk_create([room, Room(number="8")])
    with django_assert_num_queries(3):
        Room.objects.bulk_update([room], ["beds"])
    assert [change[0] for change in recorded.changes()] == ["create", "create", "update", "delete", "create", "create"]


def test_what_a_field_writes_by_itself_counts_as_without_us(recorded, django_assert_num_queries, monkeypatch):
    monkeypatch.setattr(Room._meta.get_field("beds"), "pre_save", _writing_a_ward)
    with django_assert_num_queries(2):
        Room.objects.create(number="1")
    assert [change[:2] for change in recorded.changes()] == [("create", "ward"), ("create", "room")]


def test_a_field_that_opens_a_durable_block_is_refused_in_autocommit(recorded, monkeypatch):
    def pre_save(room, add):
        with transaction.atomic(durable=True):
            return 1

    monkeypatch.setattr(Room._meta.get_field("beds"), "pre_save", pre_save)
    with pytest.raises(RuntimeError, match="durable"):
        Room.objects.create(number="1")


def _writing_a_ward(room, add):
    """Once for each room: Django asks once, and from 6.1 on several times."""
    if not vars(room).setdefault("has_ward", False):
        room.has_ward = True
        Ward.objects.create(name="North")
    return 1


# -- with autocommit off


@pytest.fixture
def by_hand(recorded):
    """The application commits by itself."""
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@pytest.mark.parametrize("writes_another", [False, True])
def test_with_autocommit_off_a_statement_that_fails_leaves_the_transaction_to_the_application(
    recorded, by_hand, monkeypatch, writes_another
):
    if writes_another:
        monkeypatch.setattr(Room._meta.get_field("beds"), "pre_save", _writing_a_ward)
    Room.objects.create(number="1")
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT ours")
    with pytest.raises(IntegrityError):
        Room.objects.create(number="1")
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK TO SAVEPOINT ours")
    Room.objects.create(number="2")
    transaction.commit()
    rooms = [change[:3] for change in recorded.changes() if change[1] == "room"]
    assert rooms == [("create", "room", "1"), ("create", "room", "2")]
    assert len(recorded.changes()) == 2 + Ward.objects.count() == 2 + 2 * writes_another


@pytest.mark.parametrize("is_in_a_block", [False, True])
def test_with_autocommit_off_a_change_whose_event_cannot_be_written_does_not_commit(
    recorded, by_hand, monkeypatch, is_in_a_block
):
    surgeon = Surgeon.objects.create(name="Grey")
    monkeypatch.setattr(AuditTrail, "tell", _raise)
    with pytest.raises(RuntimeError), transaction.atomic(savepoint=False) if is_in_a_block else nullcontext():
        Room.objects.create(number="1")
    connection.needs_rollback = False
    for change in (surgeon.delete, lambda: Surgeon.objects.create(name="Ann")):
        with pytest.raises(RuntimeError):
            change()
        connection.needs_rollback = False  # of Django's own block, and no matter to commit()
    transaction.commit()
    assert [person.name for person in Person.objects.all()] == ["Grey"]
    assert not Room.objects.exists()
    monkeypatch.undo()
    assert [change[:2] for change in recorded.changes()] == [("create", "surgeon")]


def test_with_autocommit_off_a_change_that_we_cannot_read_does_not_commit(recorded, by_hand, monkeypatch):
    Room.objects.create(number="1")
    transaction.commit()
    monkeypatch.setattr(statements, "Row", _raise)
    with pytest.raises(RuntimeError):
        Room.objects.update(beds=5)
    transaction.commit()
    assert Room.objects.get().beds == 1
    assert len(recorded.changes()) == 1


def test_with_autocommit_off_nothing_commits_before_the_application_does(recorded, by_hand):
    Room.objects.create(number="1")
    transaction.rollback()
    assert not Room.objects.exists()


def test_with_autocommit_off_what_watches_hears_what_is_undone(by_hand, monkeypatch):
    monkeypatch.setattr(Room._meta.get_field("beds"), "pre_save", _writing_a_ward)
    with recording() as seen:
        Room.objects.create(number="1")
        with pytest.raises(IntegrityError):
            Room.objects.create(number="1")
        assert [event.action for event in seen] == ["create", "create"]


def _raise(*args, **kwargs):
    raise RuntimeError("nothing can be told")


# -- with the change or not at all


@pytest.fixture
def refusing_outbox():
    """A database whose outbox takes nothing more, though the change itself would succeed."""

    def refuse(using):
        with connections[using].cursor() as cursor:
            for statement in REFUSING[connection.vendor][0]:
                cursor.execute(statement)
        refusing.append(using)

    refusing = []
    yield refuse
    for using in refusing:
        with connections[using].cursor() as cursor:
            cursor.execute(REFUSING[connection.vendor][1])


REFUSING = {
    "sqlite": (
        ["CREATE TRIGGER refuse BEFORE INSERT ON audit_outbox BEGIN SELECT RAISE(ABORT, 'disk full'); END"],
        "DROP TRIGGER refuse",
    ),
    "postgresql": (
        [
            """CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'disk full' USING ERRCODE = 'disk_full'; END $$""",
            "CREATE TRIGGER refuse BEFORE INSERT ON audit.audit_outbox FOR EACH ROW EXECUTE FUNCTION refuse()",
        ],
        "DROP TRIGGER refuse ON audit.audit_outbox",
    ),
}


@pytest.mark.parametrize("using", ["default", "other"])
def test_in_autocommit_a_change_whose_event_cannot_be_written_does_not_commit(recorded, refusing_outbox, using):
    room = Room.objects.using(using).create(number="1")
    surgeon = Surgeon.objects.using(using).create(name="Grey")
    before = len(recorded.changes())
    refusing_outbox(using)
    with pytest.raises(Exception, match="disk full"):
        Room.objects.using(using).create(number="2")
    room.beds = 9
    with pytest.raises(Exception, match="disk full"):
        room.save()
    surgeon.name = "Meredith"
    with pytest.raises(Exception, match="disk full"):
        surgeon.save()
    with pytest.raises(Exception, match="disk full"):
        Room.objects.using(using).filter(number="1").delete()
    assert list(Room.objects.using(using).values_list("number", "beds")) == [("1", 1)]
    assert Person.objects.using(using).get().name == "Grey"
    assert len(recorded.changes()) == before


def test_in_a_transaction_a_change_whose_event_cannot_be_written_breaks_the_transaction(recorded, refusing_outbox):
    refusing_outbox("default")
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        with pytest.raises(Exception, match="disk full"):
            Room.objects.create(number="2")
        Room.objects.count()
    assert not Room.objects.exists()


def test_a_missing_outbox_is_one_sentence_with_the_cure(recorded):
    schema = "audit." if connection.vendor == "postgresql" else ""
    close_trail()  # a server's is found once
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {schema}audit_outbox RENAME TO gone")
    try:
        with pytest.raises(ConfigurationError, match=r"manage\.py migrate"):
            Room.objects.create(number="1")
        assert not Room.objects.exists()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {schema}gone RENAME TO audit_outbox")


def test_post_save_still_fires_after_the_commit_as_before(recorded):
    from django.db.models.signals import post_save

    seen = []

    def look(**_):
        seen.append(connection.in_atomic_block)

    post_save.connect(look, sender=Room)
    try:
        Room.objects.create(number="1")
    finally:
        post_save.disconnect(look, sender=Room)
    assert seen == [False]


def test_a_failed_save_of_an_inherited_object_leaves_nothing_behind(recorded):
    surgeon = Surgeon.objects.create(name="Grey")
    surgeon.name = None
    with pytest.raises(IntegrityError):
        surgeon.save()
    surgeon.name = "Meredith"
    surgeon.save()
    assert [change[3].get("name") for change in recorded.changes()] == [(None, "Grey"), ("Grey", "Meredith")]


def is_quiet():
    if (gate := get_trail()._places.gate) is None:  # where nobody waits for anybody
        return True
    with gate.alone() as free:
        return free


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_open_after_a_save_in_an_on_commit_hook(recorded, fails):
    seen = []

    def hook():
        Room.objects.create(number="2")
        seen.append(is_quiet())
        if fails:
            raise LookupError

    try:
        with transaction.atomic():
            Room.objects.create(number="1")
            transaction.on_commit(hook)
    except LookupError:
        assert fails
    assert is_quiet()
    assert seen == [get_trail()._places.gate is None]  # where there is a gate, the outermost block has not ended yet
    assert [change[2] for change in recorded.changes()] == [str(room.pk) for room in Room.objects.order_by("number")]


def test_nothing_stays_open_after_a_thread_that_ended_in_a_transaction(recorded):
    if connection.vendor == "postgresql":
        pytest.skip("its server keeps the transaction open until the connection ends")

    def work():
        block = transaction.atomic()
        block.__enter__()  # and nothing ends it
        Room.objects.create(number="1")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    gc.collect()
    assert is_quiet()
    assert recorded.changes() == []
