"""acceptance: what the values of a change are, whatever kind of field they come from."""

import pytest
from django.core.files.base import ContentFile
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Lower
from django.db.models.sql import InsertQuery

from audit_core.orm.changes import field_value, unread
from tests.django.clinic.models import Bed, Letter, Locker, Parcel, Patient, Person, Room, Surgeon, Token, Ward

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_a_database_default_is_read_back(recorded):
    letter = Letter.objects.create(title="a")
    assert recorded.changes()[-1][3]["state"] == (None, "draft")
    letter.refresh_from_db()
    letter.state = Lower(Value("SENT"))
    letter.save()
    assert recorded.changes()[-1][3] == {"state": ("draft", "sent")}


def test_a_file_is_its_name(recorded, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    letter = Letter.objects.create(title="a")
    letter.file.save("a.txt", ContentFile(b"secret text"))
    letter.file.delete()
    changes = [change[3]["file"] for change in recorded.changes()[1:]]
    assert changes == [("", "letters/a.txt"), ("letters/a.txt", "")] or changes[0] == (None, "letters/a.txt")
    assert "secret text" not in str([event.details for event in recorded()])


def test_a_create_with_an_expression_and_a_key_that_is_given(recorded):
    Token.objects.create(key=Lower(Value("ABC")), uses=Value(3) + 1)
    assert recorded.changes()[-1][3]["uses"] == (None, 4)


def test_what_django_returns_to_the_object_is_what_it_returned_before(recorded):
    letter = Letter.objects.create(title="a")
    assert letter.pk == Letter.objects.get().pk
    assert letter.state == "draft" or not connection.features.can_return_columns_from_insert
    patient = Patient.objects.create(name="Ada", age=3)
    assert patient.shouted == "ADA"
    patient.age = F("age") + 1
    patient.save()
    patient.refresh_from_db()
    assert patient.age == 4


def test_an_object_that_is_forced_in_or_that_is_not_there(recorded):
    Room(number="1").save(force_insert=True)
    with pytest.raises(DatabaseError):
        Room(number="2").save(force_update=True)
    with pytest.raises(DatabaseError):
        Room(number="2").save(update_fields=["beds"])
    room = Room.objects.get()
    Room.objects.all().delete()
    room.save()  # is made anew
    assert [change[:3] for change in recorded.changes()] == [
        ("create", "room", "1"), ("delete", "room", "1"), ("create", "room", "1"),
    ]  # fmt: skip


def test_a_model_that_looks_before_it_saves(recorded, monkeypatch):
    monkeypatch.setattr(Room._meta, "select_on_save", True)
    room = Room.objects.create(number="1")
    room.beds = 4
    room.save()
    assert [change[0] for change in recorded.changes()] == ["create", "update"]


def test_a_save_that_rewrites_a_deferred_json_value_has_its_old_value(recorded):
    patient = Patient.objects.create(name="Ada", record={"a": [1]})
    loaded = Patient.objects.only("name").get(pk=patient.pk)
    loaded.record = {"a": [1, 2]}
    loaded.save()
    assert recorded.changes()[-1][3] == {"record": ({"a": [1]}, {"a": [1, 2]})}


def test_a_json_value_that_is_null_inside_and_outside(recorded):
    patient = Patient.objects.create(name="Ada", record=Value(None, models.JSONField()))
    Patient.objects.update(record={"a": None})
    patient.delete()
    assert [change[3].get("record") for change in recorded.changes()] == [
        None, (None, {"a": None}), ({"a": None}, None),
    ]  # fmt: skip


def test_an_object_moved_into_an_inherited_class_is_created_there(recorded):
    person = Person.objects.create(name="Ada")
    surgeon = Surgeon(person_ptr_id=person.pk, employee_ptr_id=person.pk, id=person.pk, name="Grey")
    surgeon.save()
    action, kind, key, changes = recorded.changes()[-1]
    assert (action, kind, key) == ("create", "surgeon", str(person.pk))
    assert changes["name"][1] == "Grey"
    assert changes["blade"] == (None, "10")


def test_a_composite_key_of_which_a_part_changes_is_another_row(recorded):
    bed = Bed.objects.create(room="1", place=1)
    bed.place = 2
    bed.save()
    assert [change[:3] for change in recorded.changes()] == [("create", "bed", "1,1"), ("create", "bed", "1,2")]


def test_a_base_manager_that_hides_rows_does_not_hide_changes(recorded, monkeypatch):
    class Hiding(models.Manager):
        def get_queryset(self):
            return super().get_queryset().filter(beds__lt=5)

    manager = Hiding()
    manager.model, manager.name = Room, "hiding"
    monkeypatch.setitem(Room._meta.__dict__, "base_manager", manager)
    room = Room.objects.create(number="1")
    room.beds = 9
    room.save()
    assert recorded.changes()[-1] == ("update", "room", "1", {"beds": (1, 9)})


def test_a_key_with_a_quote_a_percent_sign_and_what_looks_like_sql(recorded):
    hostile = "'; --%s%"
    room = Room.objects.create(number=hostile)
    room.beds = 2
    room.save()
    Room.objects.filter(number=hostile).update(beds=3)
    Room.objects.filter(number=hostile).delete()
    assert [(change[0], change[2]) for change in recorded.changes()] == [
        ("create", hostile), ("update", hostile), ("update", hostile), ("delete", hostile),
    ]  # fmt: skip


def test_changes_of_a_row_that_nobody_wrote_are_told_once_in_a_transaction_that_goes_on(recorded):
    with transaction.atomic():
        ward = Ward.objects.create(name="North")
        Ward.objects.update(name="South")
        ward.refresh_from_db()
        ward.name = "East"
        ward.save()
        Ward.objects.all().delete()
    assert [(change[0], change[3]["name"]) for change in recorded.changes()] == [
        ("create", (None, "North")), ("update", ("North", "South")), ("update", ("South", "East")),
        ("delete", ("East", None)),
    ]  # fmt: skip


def test_a_key_of_a_class_that_cannot_be_hashed_or_ordered(recorded):
    parcel = Parcel.objects.create(code="a")
    Parcel.objects.bulk_create([Parcel(code="c"), Parcel(code="b")])
    parcel.weight = 2
    parcel.save()
    Parcel.objects.filter(code="b").update(weight=3)
    Parcel.objects.filter(code="b").update(code="d")
    parcel.within.through.objects.bulk_create(
        parcel.within.through(from_parcel_id="a", to_parcel_id=code) for code in ("d", "c")
    )
    Parcel.within.through.objects.all()._raw_delete("default")
    Parcel.objects.filter(code="d")._raw_delete("default")  # Django's own deletion hashes what it deletes
    assert recorded.changes() == [
        ("create", "parcel", "a", {"code": (None, "a"), "weight": (None, 1)}),
        ("create", "parcel", "c", {"code": (None, "c"), "weight": (None, 1)}),
        ("create", "parcel", "b", {"code": (None, "b"), "weight": (None, 1)}),
        ("update", "parcel", "a", {"weight": (1, 2)}),
        ("update", "parcel", "b", {"weight": (1, 3)}),
        ("update", "parcel", "d", {"code": ("b", "d")}),
        ("link", "parcel", "a", {"within": (None, ["c", "d"])}),
        ("unlink", "parcel", "a", {"within": (["c", "d"], None)}),
        ("delete", "parcel", "d", {"code": ("d", None), "weight": (3, None)}),
    ]


def test_what_python_cannot_read_is_told_as_its_text_and_keeps_nobody_from_deleting_it(recorded):
    Locker.objects.create(number="1", items=[1])
    field, held = ("at", "infinity") if connection.vendor == "postgresql" else ("opened", "for ever")
    with connection.cursor() as cursor:
        number = "1" + "0" * 5_000  # more digits than Python reads
        cursor.execute(
            f"UPDATE clinic_locker SET {field} = %s, items = %s", [held, f'{{"password": "secret", "n": {number}}}']
        )
    with pytest.raises((ValueError, TypeError, DatabaseError)):
        Locker.objects.get()
    assert Locker.objects.update(**{field: None}) == 1
    assert Locker.objects.all().delete() == (1, {"clinic.Locker": 1})
    assert recorded.changes()[1] == ("update", "locker", "1", {field: (held, None)})
    assert recorded.changes()[2][3]["items"] == ("[unreadable]", None)


def test_what_a_field_refuses_to_give_the_application_is_refused_as_without_us(recorded, monkeypatch):
    def from_db_value(value, expression, connection):
        raise ValueError("refused")

    monkeypatch.setattr(Patient._meta.get_field("shouted").output_field, "from_db_value", from_db_value, raising=False)
    with pytest.raises(ValueError, match="refused"):
        assert Patient.objects.create(name="Ada").shouted  # without RETURNING it is read when it is asked for
    with pytest.raises(ValueError, match="refused"):
        Patient.objects.bulk_create([Patient(name="Ben")])[0].shouted  # noqa: B018 - the same


@pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases keep nothing of another type")
@pytest.mark.parametrize(
    ("field", "held", "told"),
    [("born", "'2024-02-31'", "2024-02-31"), ("name", "CAST(x'ff41' AS TEXT)", field_value(unread(b"\xffA")))],
)
def test_what_the_driver_of_sqlite_cannot_read_is_updated_and_deleted_as_without_us(recorded, field, held, told):
    Patient.objects.create(name="Ada", born="2024-02-28", record={"a": 1}, balance="1.50")
    unreadable = RawSQL(held, [])  # noqa: S611 - one of the two above
    Patient.objects.update(**{field: unreadable})
    with pytest.raises((ValueError, DatabaseError)):
        Patient.objects.get()
    assert Patient.objects.update(age=3) == 1
    Patient.objects.all()._raw_delete("default")
    with pytest.raises((ValueError, DatabaseError)):
        Patient.objects.create(**{"name": "Ben", field: unreadable})
    _, update, older, delete = recorded.changes()
    assert update[3][field][1] == told
    assert older[3] == {"age": (0, 3)}
    assert delete[3][field] == (told, None)
    assert (delete[3]["record"], delete[3]["balance"]) == (({"a": 1}, None), ("1.50", None))


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite keeps it as it is")
def test_a_day_that_the_application_asks_for_and_the_driver_refuses_is_refused_as_without_us(recorded):
    insert = InsertQuery(Locker)
    locker = Locker(number="1", at=RawSQL("'infinity'::timestamptz", []))
    insert.insert_values(Locker._meta.concrete_fields, [locker])
    with pytest.raises(DatabaseError, match="too large"):
        insert.get_compiler("default").execute_sql([Locker._meta.get_field("at")])
