# ruff: noqa: PT012 - what is rolled back takes more than one statement
"""acceptance: many-to-many links from either side, and what related managers change in bulk."""

import pytest
from django.db import transaction
from django.db.models.signals import m2m_changed

from tests.django.clinic.models import Doctor, Letter, Remark, Room, Shift, Ward

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def hospital(recorded):
    """A doctor, three wards, and what is recorded from now on."""
    doctor = Doctor.objects.create(name="Grey")
    wards = [Ward.objects.create(name=name) for name in "abc"]
    before = len(recorded.changes())
    return doctor, wards, lambda: recorded.changes()[before:]


@pytest.fixture(params=[False, True], ids=["no listener", "a listener"])
def listener(request):
    """Django adds links in another way where somebody listens."""

    def listen(**_):
        pass

    if request.param:
        m2m_changed.connect(listen, sender=Doctor.wards.through)
    yield
    m2m_changed.disconnect(listen, sender=Doctor.wards.through)


def keys(*objects):
    return sorted(str(one.pk) for one in objects)


def link(owner, field, *others):
    return ("link", "doctor", str(owner.pk), {field: (None, keys(*others))})


def unlink(owner, field, *others):
    return ("unlink", "doctor", str(owner.pk), {field: (keys(*others), None)})


def test_add_remove_set_and_clear_tell_exactly_what_was_linked_and_unlinked(hospital, listener):
    doctor, (a, b, c), changes = hospital
    doctor.wards.add(a, b)
    doctor.wards.add(b, c.pk)
    doctor.wards.add(a)
    doctor.wards.remove(a, a.pk)
    doctor.wards.remove(a)
    doctor.wards.set([a, b])
    doctor.wards.set([a, b])
    doctor.wards.set([c], clear=True)
    doctor.wards.clear()
    doctor.wards.clear()
    assert changes() == [
        link(doctor, "wards", a, b), link(doctor, "wards", c), unlink(doctor, "wards", a),
        unlink(doctor, "wards", c), link(doctor, "wards", a),
        unlink(doctor, "wards", a, b), link(doctor, "wards", c), unlink(doctor, "wards", c),
    ]  # fmt: skip


def test_from_the_other_side_it_is_the_same_event_of_the_class_that_declares_the_field(hospital, listener):
    doctor, (a, b, _), changes = hospital
    other = Doctor.objects.create(name="Yang")
    a.doctors.add(doctor, other)
    a.doctors.remove(other)
    b.doctors.set([doctor])
    a.doctors.clear()
    assert sorted(changes()[1:3]) == sorted([link(doctor, "wards", a), link(other, "wards", a)])
    assert changes()[3:] == [unlink(other, "wards", a), link(doctor, "wards", b), unlink(doctor, "wards", a)]


def test_a_new_object_of_a_related_manager_is_a_create_and_a_link(hospital):
    doctor, _, changes = hospital
    ward = doctor.wards.create(name="d")
    doctor.wards.get_or_create(name="d")
    again, _ = doctor.wards.update_or_create(name="e")
    assert changes() == [
        ("create", "ward", str(ward.pk), {"id": (None, str(ward.pk)), "name": (None, "d")}),
        link(doctor, "wards", ward),
        ("create", "ward", str(again.pk), {"id": (None, str(again.pk)), "name": (None, "e")}),
        link(doctor, "wards", again),
    ]


def test_a_symmetrical_field_links_both_ends(hospital):
    doctor, _, changes = hospital
    friend = Doctor.objects.create(name="Yang")
    doctor.friends.add(friend)
    friend.friends.add(doctor)
    friend.friends.remove(doctor)
    assert changes()[1:3] == [link(doctor, "friends", friend), link(friend, "friends", doctor)]
    assert sorted(changes()[3:]) == sorted([unlink(doctor, "friends", friend), unlink(friend, "friends", doctor)])


def test_a_field_that_refers_to_its_own_class_has_a_direction(hospital):
    doctor, _, changes = hospital
    pupil = Doctor.objects.create(name="Yang")
    doctor.pupils.add(pupil)
    pupil.teachers.clear()
    doctor.teachers.add(pupil)
    assert changes()[1:] == [
        link(doctor, "pupils", pupil), unlink(doctor, "pupils", pupil), link(pupil, "pupils", doctor),
    ]  # fmt: skip


def test_the_rows_of_a_hand_made_table_are_resources_of_their_own(hospital):
    doctor, _, changes = hospital
    rooms = Room.objects.bulk_create([Room(number="1"), Room(number="2")])
    doctor.rooms.add(*rooms, through_defaults={"nights": 3})
    doctor.rooms.add(*rooms)
    Shift.objects.filter(room=rooms[0]).update(nights=4)
    doctor.rooms.set([rooms[0]])
    doctor.rooms.clear()
    made = {change[2] for change in changes()[2:4]}
    found = [(change[0], change[1]) for change in changes()[2:]]
    assert found == [("create", "shift")] * 2 + [("update", "shift")] + [("delete", "shift")] * 2
    assert changes()[2][3].keys() == {"id", "doctor_id", "room_id", "nights"}
    assert changes()[4][3] == {"nights": (3, 4)}
    assert made == {change[2] for change in changes()[5:]}


def test_a_deleted_object_loses_its_links_in_the_same_transaction(hospital):
    doctor, (a, b, _), changes = hospital
    doctor.wards.add(a, b)
    a.delete()
    doctor.delete()
    assert changes()[1][3] == {"wards": ([changes()[2][2]], None)}
    assert [change[:2] for change in changes()[1:]] == [
        ("unlink", "doctor"), ("delete", "ward"), ("unlink", "doctor"), ("delete", "doctor"),
    ]  # fmt: skip


def test_links_that_are_rolled_back_leave_nothing(hospital):
    doctor, (a, b, _), changes = hospital
    with transaction.atomic():
        doctor.wards.add(a)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            doctor.wards.set([b])
            raise ZeroDivisionError
    assert changes() == [link(doctor, "wards", a)]


def test_rows_of_the_automatic_table_that_are_written_by_hand_are_links_too(hospital):
    doctor, (a, b, _), changes = hospital
    through = Doctor.wards.through
    row = through.objects.create(doctor=doctor, ward=a)
    through.objects.filter(pk=row.pk).update(ward=b)
    row.delete()
    assert changes() == [
        link(doctor, "wards", a), unlink(doctor, "wards", a), link(doctor, "wards", b), unlink(doctor, "wards", b),
    ]  # fmt: skip


def test_links_in_another_database_lie_there(recorded):
    doctor = Doctor.objects.using("other").create(name="Grey")
    ward = Ward.objects.using("other").create(name="a")
    doctor.wards.add(ward)
    assert recorded.changes()[-1] == link(doctor, "wards", ward)
    assert recorded()[-1].details["database"] == "other"


def test_above_the_limit_links_are_one_summary(hospital, recorded, settings):
    doctor, wards, _ = hospital
    settings.AUDIT = {**settings.AUDIT, "BULK_LIMIT": 2}
    doctor.wards.add(*wards)
    doctor.wards.clear()
    assert [(e.action, e.resource_type, e.details["bulk"]["rows"]) for e in recorded() if "bulk" in e.details] == [
        ("link", "doctor", 3), ("unlink", "doctor", 3),
    ]  # fmt: skip


def test_links_to_what_is_not_audited_are_changes_of_what_is(recorded):
    from django.contrib.auth.models import Permission, User
    from django.contrib.contenttypes.models import ContentType

    permission = Permission.objects.create(content_type=ContentType.objects.get_for_model(Doctor), codename="cut")
    user = User.objects.create(username="ada")
    user.user_permissions.add(permission)
    assert recorded.changes()[-1] == (
        "link", "user", str(user.pk), {"user_permissions": (None, [str(permission.pk)])},
    )  # fmt: skip


@pytest.mark.parametrize("bulk", [True, False])
def test_reverse_managers_of_a_foreign_key_are_updates_of_the_rows_that_hold_it(hospital, bulk):
    doctor, (a, b, _), changes = hospital
    other = Doctor.objects.create(name="Yang")
    a.staff.add(doctor, other, bulk=bulk)
    a.staff.remove(other, bulk=bulk)
    b.staff.set([doctor], bulk=bulk)
    b.staff.clear(bulk=bulk)
    moves = [(change[0], change[2], change[3]["ward_id"]) for change in changes()[1:]]
    one, two, first, second = str(doctor.pk), str(other.pk), str(a.pk), str(b.pk)
    assert sorted(moves[:2], key=str) == sorted(
        [("update", one, (None, first)), ("update", two, (None, first))], key=str
    )
    assert moves[2:] == [
        ("update", two, (first, None)), ("update", one, (first, second)), ("update", one, (second, None)),
    ]  # fmt: skip


def test_generic_relations_and_generic_foreign_keys(hospital):
    doctor, _, changes = hospital
    remark = doctor.remarks.create(text="a")
    other = Remark.objects.create(about=Doctor.objects.create(name="Yang"), text="b")
    doctor.remarks.add(other)
    other.refresh_from_db()
    doctor.remarks.set([remark])
    doctor.delete()
    found = [(change[0], change[1], change[3].get("object_id")) for change in changes()]
    key = changes()[0][3]["object_id"][1]
    assert found == [
        ("create", "remark", (None, key)), ("create", "doctor", None), ("create", "remark", (None, key + 1)),
        ("update", "remark", (key + 1, key)), ("delete", "remark", (key, None)), ("delete", "remark", (key, None)),
        ("delete", "doctor", None),
    ]  # fmt: skip


def test_protect_set_null_and_set_default(hospital):
    from django.db.models import ProtectedError

    doctor, (a, *_), changes = hospital
    a.staff.add(doctor)
    Letter.objects.create(title="a", author=doctor)
    with pytest.raises(ProtectedError):
        doctor.delete()
    reader = Doctor.objects.create(name="Yang")
    letter = Letter.objects.create(title="b", reader=reader)
    before = len(changes())
    reader.delete()
    a.delete()
    assert [(*change[:2], change[3] if change[0] == "update" else {}) for change in changes()[before:]] == [
        ("update", "letter", {"reader_id": (reader_id(changes), None)}), ("delete", "doctor", {}),
        ("update", "doctor", {"ward_id": (changes()[-1][2], None)}), ("delete", "ward", {}),
    ]  # fmt: skip
    letter.refresh_from_db()
    assert letter.reader is None


def reader_id(changes):
    return next(change[3]["reader_id"][1] for change in changes() if "reader_id" in change[3])


def test_adding_a_link_costs_one_event_insert_and_no_query_that_is_counted(hospital, django_assert_num_queries):
    doctor, (a, *_), changes = hospital
    with transaction.atomic(), django_assert_num_queries(1):
        doctor.wards.add(a)
    assert len(changes()) == 1
