"""Whatever is done, and however: from an empty start the recorded changes lead to exactly the tables as they are."""

import random

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from audit_core.orm.changes import field_value
from tests.django.clinic.models import Doctor, Person, Room, Shift, Surgeon, Ward

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
STEPS = 60


class Program:
    """Random steps over a few related models; every program has its seed."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.steps = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]

    def run(self, steps, depth=0):
        for _ in range(steps):
            try:
                if depth < 3 and self.chance.random() < 0.15:
                    with transaction.atomic():
                        self.run(self.chance.randrange(1, 6), depth + 1)
                        transaction.set_rollback(self.chance.random() < 0.4)
                else:
                    with transaction.atomic() if depth else Nothing():
                        self.chance.choice(self.steps)()
            except IntegrityError:
                pass

    def number(self):
        return self.chance.randrange(12)

    def some(self, model, at_most=4):
        found = list(model.objects.order_by("pk"))
        return self.chance.sample(found, min(len(found), self.chance.randrange(1, at_most)))

    def do_create(self):
        self.chance.choice(
            [
                lambda: Room.objects.create(number=str(self.number()), beds=self.number()),
                lambda: Doctor.objects.create(name=f"d{self.number()}", ward=next(iter(self.some(Ward)), None)),
                lambda: Ward.objects.create(name=f"w{self.number()}"),
                lambda: Surgeon.objects.create(name=f"s{self.number()}", salary=self.number()),
                lambda: Person.objects.create(name=f"p{self.number()}"),
            ]
        )()

    def do_save(self):
        for one in self.some(self.chance.choice([Room, Doctor, Ward, Surgeon])):
            if isinstance(one, Room):
                one.beds = F("beds") + self.number()
            else:
                one.name = f"n{self.number()}"
            one.save()

    def do_save_unread(self):
        Room(number=str(self.number()), beds=self.number()).save()

    def do_delete(self):
        for one in self.some(self.chance.choice([Room, Doctor, Ward, Surgeon, Person]), 2):
            one.delete()

    def do_bulk_create(self):
        rooms = [Room(number=str(self.number()), beds=self.number()) for _ in range(4)]
        if self.chance.random() < 0.5:
            Room.objects.bulk_create(rooms, ignore_conflicts=True)
        else:
            rooms = list({room.number: room for room in rooms}.values())
            Room.objects.bulk_create(
                rooms, update_conflicts=True, update_fields=["beds"], unique_fields=["number"], batch_size=3
            )
        Doctor.objects.bulk_create([Doctor(name=f"b{self.number()}") for _ in range(2)])

    def do_bulk_update(self):
        doctors = self.some(Doctor)
        for doctor in doctors:
            doctor.name = f"u{self.number()}"
        Doctor.objects.bulk_update(doctors, ["name"])

    def do_update(self):
        self.chance.choice(
            [
                lambda: Room.objects.filter(beds__gt=self.number()).update(beds=F("beds") - 1),
                lambda: Room.objects.filter(number=str(self.number())).update(number=f"{self.number()}"),
                lambda: Surgeon.objects.filter(salary__lt=self.number()).update(name="x", salary=F("salary") + 1),
                lambda: Doctor.objects.filter(wards__name__contains="w").update(name=Concat("name", Value("!"))),
                lambda: Shift.objects.update(nights=self.number()),
            ]
        )()

    def do_update_references(self):
        for ward in self.some(Ward, 2):
            self.chance.choice(
                [
                    lambda ward=ward: ward.staff.set(self.some(Doctor)),
                    lambda ward=ward: ward.staff.clear(),
                    lambda ward=ward: ward.staff.add(*self.some(Doctor)),
                ]
            )()

    def do_delete_many(self):
        self.chance.choice(
            [
                lambda: Room.objects.filter(beds__lt=self.number() // 3).delete(),
                lambda: Doctor.objects.filter(name__endswith=str(self.number())).delete(),
                lambda: Person.objects.filter(name__contains=str(self.number())).delete(),
                lambda: Shift.objects.filter(nights__lt=3)._raw_delete("default"),
            ]
        )()

    def do_link(self):
        for doctor in self.some(Doctor, 3):
            self.chance.choice(
                [
                    lambda doctor=doctor: doctor.wards.add(*self.some(Ward)),
                    lambda doctor=doctor: doctor.wards.set(self.some(Ward)),
                    lambda doctor=doctor: doctor.wards.remove(*self.some(Ward)),
                    lambda doctor=doctor: doctor.wards.clear(),
                    lambda doctor=doctor: doctor.friends.add(*self.some(Doctor)),
                    lambda doctor=doctor: doctor.friends.clear(),
                    lambda doctor=doctor: doctor.pupils.set(self.some(Doctor)),
                    lambda doctor=doctor: doctor.rooms.set(self.some(Room), through_defaults={"nights": self.number()}),
                ]
            )()

    def do_link_from_the_other_side(self):
        for ward in self.some(Ward, 2):
            ward.doctors.set(self.some(Doctor))


class Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


KEYS = {"room": "number"}
LINKS = ("wards", "friends", "pupils")


def replayed(changes):
    rows, links = {}, set()
    for action, kind, key, changed in changes:
        if action in {"link", "unlink"}:
            ((field, (lost, got)),) = changed.items()
            for other in got or ():
                assert (key, field, other) not in links, "linked twice"
                links.add((key, field, other))
            for other in lost or ():
                links.remove((key, field, other))
            continue
        named = KEYS.get(kind, "id")
        was = str(changed[named][0]) if action == "update" and named in changed else key
        before = {} if action == "create" else rows.pop((kind, was))
        assert action != "create" or (kind, key) not in rows
        for name, (old, new) in changed.items():
            assert before.get(name) == old, (action, kind, key, name)
            before[name] = new
        if action != "delete":
            rows[kind, key] = before
        else:
            assert not any(value is not None for value in before.values())
    return {place: {n: v for n, v in row.items() if v is not None} for place, row in rows.items()}, links


def tables():
    rows, surgeons = {}, set(Surgeon.objects.values_list("pk", flat=True))
    for kind, model in (("room", Room), ("doctor", Doctor), ("ward", Ward), ("shift", Shift), ("surgeon", Surgeon)):
        for one in model.objects.values():
            values = {n: field_value(v) for n, v in one.items() if v is not None and not n.endswith("_ptr_id")}
            rows[kind, str(one[KEYS.get(kind, "id")])] = values
    for one in Person.objects.exclude(pk__in=surgeons).values():
        rows["person", str(one["id"])] = one
    links = set()
    for field in LINKS:
        through = getattr(Doctor, field).through
        source, target = (f.attname for f in through._meta.local_concrete_fields[1:])
        links |= {(str(a), field, str(b)) for a, b in through.objects.values_list(source, target)}
    return rows, links


@pytest.mark.parametrize("seed", range(8))
def test_the_changes_of_a_random_program_lead_to_the_tables_as_they_are(recorded, seed):
    Program(seed).run(STEPS)
    rows, links = replayed(recorded.changes())
    assert (rows, links) == tables()
    assert len(recorded.changes()) > STEPS / 2
