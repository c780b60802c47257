# ruff: noqa: PT012 - what is rolled back takes more than one statement
"""acceptance: bulk operations, row by row up to a limit, summed up above it, or forbidden."""

from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Case, Count, Exists, F, OuterRef, Subquery, Value, When
from django.db.models.functions import Concat, Upper

from audit_core.errors import BulkForbiddenError
from audit_django import get_trail
from tests.django.clinic.models import (
    Badge,
    Bed,
    Doctor,
    Employee,
    Guest,
    Letter,
    Note,
    Patient,
    Person,
    Porter,
    Room,
    Surgeon,
    Token,
    Ward,
)  # fmt: skip
from tests.django.loops import run

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def limit(settings):
    def set_to(number):
        settings.AUDIT = {**settings.AUDIT, "BULK_LIMIT": number}

    return set_to


@pytest.fixture
def forbidden(settings):
    settings.AUDIT = {**settings.AUDIT, "BULK": "forbid"}


def make_rooms(*numbers):
    return Room.objects.bulk_create([Room(number=number) for number in numbers])


def summaries(recorded):
    return [
        (event.action, event.resource_type, event.details["bulk"]) for event in recorded() if "bulk" in event.details
    ]


# -- bulk_create


@pytest.mark.parametrize("batch_size", [None, 2])
def test_bulk_create_is_one_create_per_row_with_the_keys_that_the_database_made(recorded, batch_size):
    patients = Patient.objects.bulk_create([Patient(name=n, age="3") for n in ("Ada", "Eve", "Bob")], batch_size)
    assert [(change[0], change[2], change[3]["name"], change[3]["age"]) for change in recorded.changes()] == [
        ("create", str(one.pk), (None, one.name), (None, 3)) for one in patients
    ]
    assert None not in {one.pk for one in patients}
    assert recorded.changes()[0][3]["shouted"] == (None, "ADA")


def test_bulk_create_of_objects_with_and_without_keys(recorded):
    made = Patient.objects.bulk_create([Patient(pk=7001, name="Ada"), Patient(name="Eve")])
    assert {change[2] for change in recorded.changes()} == {"7001", str(made[1].pk)}
    assert len(recorded.changes()) == 2


def test_bulk_create_takes_a_generator_and_reads_back_expressions(recorded):
    Room.objects.bulk_create(Room(number=Upper(Value(number))) for number in "ab")
    assert [change[2] for change in recorded.changes()] == ["A", "B"]


def test_bulk_create_that_ignores_conflicts_tells_only_of_the_rows_that_it_made(recorded):
    make_rooms("1", "2")
    Room.objects.bulk_create([Room(number=n, beds=9) for n in ("1", "3", "2")], ignore_conflicts=True)
    Room.objects.bulk_create([Room(number="1")], ignore_conflicts=True)
    assert [change[2] for change in recorded.changes()] == ["1", "2", "3"]


def test_bulk_create_that_updates_conflicts_tells_updates_with_old_and_new(recorded):
    letters = Letter.objects.bulk_create([Letter(title="a", state="sent"), Letter(title="b")])
    upserted = [Letter(title="a", state="read"), Letter(title="c"), Letter(title="b", state="draft")]
    Letter.objects.bulk_create(upserted, update_conflicts=True, update_fields=["state"], unique_fields=["title"])
    changes = recorded.changes()[2:]
    assert ("update", "letter", str(letters[0].pk), {"state": ("sent", "read")}) in changes
    assert sorted(change[0] for change in changes) == ["create", "update"]
    assert [change[3]["title"] for change in changes if change[0] == "create"] == [(None, "c")]


def test_an_upsert_that_has_a_key_twice_updates_what_it_has_made(recorded):
    if connection.vendor == "postgresql":
        pytest.skip("it refuses that")
    twice = [Letter(title="a", state=state) for state in ("sent", "read")]
    Letter.objects.bulk_create(twice, update_conflicts=True, update_fields=["state"], unique_fields=["title"])
    assert [(change[0], change[3]["state"]) for change in recorded.changes()] == [
        ("create", (None, "sent")), ("update", ("sent", "read")),
    ]  # fmt: skip


def test_an_upsert_finds_rows_by_what_a_field_makes_of_its_value(recorded, monkeypatch):
    def in_capitals(letter, add):
        letter.title = letter.title.upper()
        return letter.title

    monkeypatch.setattr(Letter._meta.get_field("title"), "pre_save", in_capitals)
    for state in ("sent", "read"):
        letters = [Letter(title="a", state=state)]
        Letter.objects.bulk_create(letters, update_conflicts=True, update_fields=["state"], unique_fields=["title"])
    assert [change[0] for change in recorded.changes()] == ["create", "update"]
    assert recorded.changes()[1][3] == {"state": ("sent", "read")}


def test_an_upsert_by_a_composite_key(recorded):
    Bed.objects.bulk_create([Bed(room="1", place=1), Bed(room="1", place=2)])
    beds = [Bed(room="1", place=2, free=False), Bed(room="1", place=3)]
    Bed.objects.bulk_create(beds, update_conflicts=True, update_fields=["free"], unique_fields=["room", "place"])
    assert [change[:3] for change in recorded.changes()[2:]] == [("update", "bed", "1,2"), ("create", "bed", "1,3")]


def test_a_bulk_create_that_fails_leaves_nothing(recorded):
    with pytest.raises(IntegrityError):
        make_rooms("1", "1")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        make_rooms("2")
        raise ZeroDivisionError
    assert recorded.changes() == []
    assert not Room.objects.exists()


def test_without_returning_rows_are_read_by_their_keys_and_else_summed_up(recorded, monkeypatch):
    if connection.vendor == "postgresql":
        pytest.skip("it always returns them")
    for name in ("can_return_rows_from_bulk_insert", "can_return_columns_from_insert"):
        monkeypatch.setattr(type(connection.features), name, False)
    patient = Patient.objects.create(name="Ada")
    make_rooms("1", "2")
    Patient.objects.bulk_create([Patient(name="Eve"), Patient(name="Bob")])
    assert [change[:3] for change in recorded.changes()] == [
        ("create", "patient", str(patient.pk)), ("create", "room", "1"), ("create", "room", "2"),
    ]  # fmt: skip
    assert summaries(recorded) == [("create", "patient", {"rows": 2})]


# -- update


def test_queryset_update_is_one_update_per_row_with_old_and_new(recorded):
    make_rooms("1", "2", "3")
    assert Room.objects.filter(number__gt="1").update(beds=4) == 2
    assert sorted(recorded.changes()[3:]) == [
        ("update", "room", "2", {"beds": (1, 4)}), ("update", "room", "3", {"beds": (1, 4)}),
    ]  # fmt: skip


def test_queryset_update_of_what_holds_the_value_already_is_no_event(recorded):
    make_rooms("1", "2")
    Room.objects.filter(number="1").update(beds=2)
    assert Room.objects.update(beds=2) == 2
    assert Room.objects.filter(number="nowhere").update(beds=7) == 0
    assert Room.objects.none().update(beds=7) == 0
    assert Room.objects.filter(number__in=[]).update(beds=7) == 0
    assert [change[2] for change in recorded.changes() if change[0] == "update"] == ["1", "2"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (F("age") + 1, 37),
        (Case(When(name="Ada", then=Value(5)), default=Value(6)), 5),
        (Subquery(Note.objects.filter(patient=OuterRef("pk")).values("patient").annotate(n=Count("*")).values("n")), 1),
    ],
)
def test_queryset_update_resolves_expressions(recorded, expression, expected):
    patient = Patient.objects.create(name="Ada", age=36)
    Note.objects.create(patient=patient, text="a")
    Patient.objects.update(age=expression)
    assert recorded.changes()[-1] == ("update", "patient", str(patient.pk), {"age": (36, expected)})


def test_queryset_update_tells_of_generated_columns_and_converted_values(recorded):
    patient = Patient.objects.create(name="Ada")
    Patient.objects.update(name="eve", balance="1.5")
    assert recorded.changes()[-1][3] == {
        "name": ("Ada", "eve"), "shouted": ("ADA", "EVE"), "balance": ("0.00", "1.50"),
    }  # fmt: skip
    patient.refresh_from_db()
    assert patient.balance == Decimal("1.50")


def test_queryset_update_by_related_filters_annotations_and_an_order(recorded):
    ada, eve = Patient.objects.create(name="Ada"), Patient.objects.create(name="Eve")
    for text in ("a", "b"):
        Note.objects.create(patient=ada, text=text)
    Patient.objects.filter(note__text__in=["a", "b"]).update(age=1)
    Patient.objects.annotate(n=Count("note")).filter(n=0).order_by("name").update(age=2)
    Patient.objects.filter(Exists(Note.objects.filter(patient=OuterRef("pk"), text="a"))).update(name="Grace")
    Patient.objects.filter(pk__in=Patient.objects.order_by("-name")[:1]).exclude(name="Eve").update(age=3)
    Note.objects.filter(patient__name="Grace", text="a").update(text=Concat("text", Value("!")))
    found = [(kind, key, changes) for action, kind, key, changes in recorded.changes() if action == "update"]
    assert [found[0][:2], found[0][2]] == [("patient", str(ada.pk)), {"age": (0, 1)}]
    assert found[1] == ("patient", str(eve.pk), {"age": (0, 2)})
    assert found[2] == ("patient", str(ada.pk), {"name": ("Ada", "Grace"), "shouted": ("ADA", "GRACE")})
    assert found[3] == ("patient", str(ada.pk), {"age": (1, 3)})
    assert found[4][2] == {"text": ("a", "a!")}
    assert len(found) == 5


def test_queryset_update_of_a_key_names_the_new_key_and_holds_the_old_one(recorded):
    make_rooms("1", "2")
    Room.objects.filter(number="1").update(number="9", beds=3)
    assert recorded.changes()[-1] == ("update", "room", "9", {"number": ("1", "9"), "beds": (1, 3)})
    Room.objects.update(number=Concat("number", Value("x")))
    assert sorted(change[2] for change in recorded.changes()[-2:]) == ["2x", "9x"]
    Bed.objects.bulk_create([Bed(room="1", place=1), Bed(room="2", place=2)])
    Bed.objects.update(place=F("place") + 10)
    assert sorted(change[2:] for change in recorded.changes()[-2:]) == [
        ("1,11", {"place": (1, 11)}), ("2,12", {"place": (2, 12)}),
    ]  # fmt: skip


def test_queryset_update_of_an_inherited_model_is_one_event_per_object(recorded):
    surgeons = [Surgeon.objects.create(name=name) for name in ("Grey", "Yang")]
    before = len(recorded.changes())
    assert Surgeon.objects.filter(name="Grey").update(name="Meredith", blade="11", salary=F("salary") + 1) == 1
    Surgeon.objects.update(name="X")
    Person.objects.update(name="Y")
    Employee.objects.filter(name="Y").update(salary=5)
    key = str(surgeons[0].pk)
    changes = recorded.changes()[before:]
    assert changes[0] == (
        "update",
        "surgeon",
        key,
        {"name": ("Grey", "Meredith"), "blade": ("10", "11"), "salary": (0, 1)},
    )
    assert sorted(change[:2] for change in changes[1:]) == [
        ("update", "employee"), ("update", "employee"), ("update", "person"), ("update", "person"),
        ("update", "surgeon"), ("update", "surgeon"),
    ]  # fmt: skip
    assert {name for change in changes[1:3] for name in change[3]} == {"name"}


def test_an_object_with_two_parents_is_one_object(recorded):
    porter = Porter.objects.create(name="Bob")
    porter.colour = "blue"
    porter.save(update_fields=["colour"])
    porter.name, porter.colour, porter.floor = "Rob", "green", 3
    porter.save()
    Badge.objects.create()
    Porter.objects.update(colour="black")
    key = str(porter.pk)
    porter.delete()
    changes = recorded.changes()
    assert [change[:3] for change in changes if change[1] == "porter"] == [
        ("create", "porter", key), ("update", "porter", key), ("update", "porter", key), ("update", "porter", key),
        ("delete", "porter", key),
    ]  # fmt: skip
    assert [change[1] for change in changes].count("badge") == 1
    assert [change[3]["colour"] for change in changes if change[1] == "porter"] == [
        (None, "red"), ("red", "blue"), ("blue", "green"), ("green", "black"), ("black", None),
    ]  # fmt: skip
    assert "person" not in {change[1] for change in changes}


def test_a_proxys_query_set_has_the_name_of_its_model(recorded):
    Guest.objects.bulk_create([Guest(name="Ada")])
    Guest.objects.update(name="Eve")
    Guest.objects.all().delete()
    assert [change[:2] for change in recorded.changes()] == [
        ("create", "patient"), ("update", "patient"), ("delete", "patient"),
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [None, 1])
def test_bulk_update_is_one_update_per_row_that_changed(recorded, batch_size):
    rooms = make_rooms("1", "2", "3")
    rooms[0].beds, rooms[1].beds = 5, F("beds") + 1
    assert Room.objects.bulk_update(rooms, ["beds"], batch_size) == 3
    assert sorted(recorded.changes()[3:]) == [
        ("update", "room", "1", {"beds": (1, 5)}), ("update", "room", "2", {"beds": (1, 2)}),
    ]  # fmt: skip


def test_get_or_create_and_update_or_create_of_a_related_manager(recorded):
    patient = Patient.objects.create(name="Ada")
    patient.note_set.get_or_create(text="a")
    patient.note_set.get_or_create(text="a")
    patient.note_set.update_or_create(text="a", defaults={"text": "b"})
    assert [change[:2] for change in recorded.changes()[1:]] == [("create", "note"), ("update", "note")]


# -- delete


def test_raw_and_fast_deletes_are_one_event_per_row(recorded):
    Token.objects.bulk_create([Token(key=str(n), uses=n) for n in range(5)])
    Token.objects.filter(uses__lt=2)._raw_delete("default")
    assert Token.objects.filter(uses__lt=4).delete() == (2, {"clinic.Token": 2})
    deleted = [change[3]["uses"] for change in recorded.changes() if change[0] == "delete"]
    assert sorted(deleted) == [(0, None), (1, None), (2, None), (3, None)]


def test_a_delete_by_related_filters(recorded):
    for name in ("Ada", "Eve"):
        Note.objects.create(patient=Patient.objects.create(name=name), text=name)
    Note.objects.filter(patient__name="Ada").delete()
    assert [change[3]["text"] for change in recorded.changes() if change[0] == "delete"] == [("Ada", None)]


def test_what_a_signal_writes_during_a_deletion_is_told_too(recorded):
    from django.db.models.signals import pre_delete

    def handler(**_):
        Room.objects.update(beds=F("beds") + 1)

    make_rooms("1")
    patient = Patient.objects.create(name="Ada")
    pre_delete.connect(handler, sender=Patient)
    try:
        patient.delete()
    finally:
        pre_delete.disconnect(handler, sender=Patient)
    assert [change[:2] for change in recorded.changes()[2:]] == [("update", "room"), ("delete", "patient")]


# -- the limit


def test_above_the_limit_a_bulk_create_is_one_summary(recorded, limit):
    limit(2)
    make_rooms("1", "2")
    with get_trail().actor("importer", type="service"):
        make_rooms("3", "4", "5")
    assert [change[2] for change in recorded.changes()] == ["1", "2"]
    assert summaries(recorded) == [("create", "room", {"rows": 3})]
    assert recorded()[-1].actor_id == "importer"


def test_a_summary_counts_the_rows_that_were_really_made(recorded, limit):
    limit(1)
    make_rooms("1")
    Room.objects.bulk_create([Room(number="1"), Room(number="2"), Room(number="3")], ignore_conflicts=True)
    assert summaries(recorded) == [("create", "room", {"rows": 2})]


def test_a_summary_of_an_upsert_says_that_rows_may_have_been_there(recorded, limit):
    limit(1)
    letters = [Letter(title=title, state="sent") for title in "ab"]
    Letter.objects.bulk_create(letters, update_conflicts=True, update_fields=["state"], unique_fields=["title"])
    criteria = "on conflict (title) update (state)"
    assert summaries(recorded) == [("create", "letter", {"rows": 2, "criteria": criteria})]


@pytest.mark.parametrize("batch_size", [None, 2])
def test_above_the_limit_bulk_update_is_one_summary_whatever_its_batches(recorded, limit, batch_size):
    rooms = make_rooms(*"12345")
    limit(4)
    Room.objects.bulk_update(rooms, ["beds"], batch_size)
    assert summaries(recorded) == [("update", "room", {"rows": 5})]


def test_above_the_limit_an_update_is_one_summary_with_its_criteria(recorded, limit):
    limit(1)
    for name in ("Ada", "Adam", "Eve"):
        Patient.objects.create(name=name, password="s3cr3t")
    before = len(recorded.changes())
    query = Patient.objects.filter(name__startswith="A", password="s3cr3t").exclude(age__gt=50)
    assert query.update(age=F("age") + 7, password="hunter2") == 2
    assert len(recorded.changes()) == before
    ((action, kind, told),) = summaries(recorded)
    assert (action, kind, told["rows"]) == ("update", "patient", 2)
    assert told["criteria"] == "(name startswith :name AND password exact :password AND NOT age gt :age)"
    assert told["parameters"] == {"name": "A", "password": "[redacted]", "age": 50}
    assert told["values"] == {"age": "(age + :age)", "password": "[redacted]"}
    assert "s3cr3t" not in str(recorded()[-1])


def test_the_criteria_of_a_summary_look_into_subqueries_and_functions(recorded, limit):
    limit(0)
    Note.objects.annotate(loud=Upper("text")).filter(
        loud="A", patient__in=Patient.objects.filter(password="s3cr3t")
    ).update(text=Upper(Value("s3cr3t")))
    assert summaries(recorded) == []
    Note.objects.bulk_create([Note(patient=Patient.objects.create(name="Ada", password="s3cr3t"), text="a")])
    Note.objects.annotate(loud=Upper("text")).filter(
        loud="A", patient__in=Patient.objects.filter(password="s3cr3t")
    ).update(text=Upper(Value("b")))
    told = summaries(recorded)[-1][2]
    assert told["criteria"] == "(Upper(text) exact :text AND patient_id in (patient: password exact :patient.password))"
    assert told["parameters"] == {"text": "A", "patient.password": "[redacted]"}
    assert told["values"] == {"text": "Upper(:text)"}
    assert "s3cr3t" not in str([event.details for event in recorded()])


def test_above_the_limit_an_update_of_an_inherited_model_is_one_summary(recorded, limit):
    for name in ("Grey", "Yang"):
        Surgeon.objects.create(name=name)
    limit(1)
    Surgeon.objects.update(name="X", blade="12")
    ((action, kind, told),) = summaries(recorded)
    assert (action, kind, told["rows"]) == ("update", "surgeon", 2)
    assert told["values"] == {"name": "X", "blade": "12"}
    assert set(Surgeon.objects.values_list("name", "blade")) == {("X", "12")}


def test_above_the_limit_a_deletion_is_one_summary_for_each_model(recorded, limit):
    patient = Patient.objects.create(name="Ada")
    Note.objects.bulk_create([Note(patient=patient, text=str(n)) for n in range(4)])
    Patient.objects.bulk_create([Patient(name="Eve"), Patient(name="Eve")])
    limit(2)
    Patient.objects.filter(age=0).delete()
    assert sorted((action, kind, told["rows"], told["criteria"]) for action, kind, told in summaries(recorded)) == [
        ("delete", "note", 4, "patient_id in :patient_id"), ("delete", "patient", 3, "age exact :age"),
    ]  # fmt: skip
    assert [change[0] for change in recorded.changes()] == ["create"] * 7


def test_an_update_below_the_limit_holds_no_more_rows_than_that(recorded, limit):
    make_rooms("1", "2", "3")
    limit(3)
    Room.objects.update(beds=2)
    assert len(recorded.changes()) == 6
    assert summaries(recorded) == []


# -- forbidden


@pytest.mark.parametrize(
    ("operation", "work"),
    [
        ("bulk_create", lambda room: make_rooms("2")),
        ("bulk_update", lambda room: Room.objects.bulk_update([room], ["beds"])),
        ("QuerySet.update", lambda room: Room.objects.update(beds=2)),
        ("QuerySet.delete", lambda room: Room.objects.all().delete()),
        ("QuerySet.delete", lambda room: Room.objects.all()._raw_delete("default")),
    ],
)
def test_where_bulk_operations_are_forbidden_nothing_is_written(recorded, forbidden, operation, work):
    room = Room.objects.create(number="1")
    with pytest.raises(BulkForbiddenError, match=rf"{operation} of 'room' was refused: .* one by one"):
        work(room)
    assert list(Room.objects.values_list("number", "beds")) == [("1", 1)]
    assert len(recorded.changes()) == 1


def test_where_bulk_operations_are_forbidden_one_object_is_saved_linked_and_deleted_as_before(recorded, forbidden):
    ward = Ward.objects.create(name="North")
    room = Room.objects.create(number="1")
    patient = Patient.objects.create(name="Ada", room=room)
    Note.objects.create(patient=patient, text="a")
    doctor = Doctor.objects.create(name="Grey")
    doctor.wards.add(ward)
    doctor.wards.clear()
    Surgeon.objects.create(name="Yang").delete()
    room.delete()
    patient.delete()
    assert [change[0] for change in recorded.changes()].count("delete") == 4


def test_where_bulk_operations_are_forbidden_models_that_are_not_audited_are_free(recorded, forbidden):
    from tests.django.clinic.models import Draft

    Draft.objects.bulk_create([Draft(text="a"), Draft(text="b")])
    Draft.objects.update(text="c")
    Draft.objects.all().delete()
    assert recorded() == []


# -- asynchronous


def test_the_async_forms(recorded):
    async def work():
        rooms = await Room.objects.abulk_create([Room(number="1"), Room(number="2")])
        rooms[0].beds = 4
        await Room.objects.abulk_update(rooms, ["beds"])
        await Room.objects.aupdate(beds=5)
        await Room.objects.aupdate_or_create(number="2", defaults={"beds": 6})
        await Room.objects.filter(number="1").adelete()
        doctor = await Doctor.objects.acreate(name="Grey")
        ward = await Ward.objects.acreate(name="North")
        await doctor.wards.aadd(ward)
        await doctor.wards.aset([])

    run(work())
    assert [change[0] for change in recorded.changes()] == [
        "create", "create", "update", "update", "update", "update", "delete", "create", "create", "link", "unlink",
    ]  # fmt: skip
