# ruff: noqa: DJ008, RUF012 - nobody reads their names; a Meta's lists are Django's form
import uuid

from django.contrib import admin
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.db import models
from django.db.models.functions import Upper


class Ward(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=50)


class Room(models.Model):
    number = models.CharField(primary_key=True, max_length=10)
    beds = models.IntegerField(default=1)


class Token(models.Model):
    key = models.CharField(primary_key=True, max_length=40)
    uses = models.IntegerField(default=0)


class Patient(models.Model):
    name = models.CharField(max_length=50)
    age = models.IntegerField(default=0)
    born = models.DateField(null=True)
    balance = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    record = models.JSONField(default=dict)
    password = models.CharField(max_length=50, default="")
    room = models.ForeignKey(Room, models.SET_NULL, null=True)
    shouted = models.GeneratedField(
        expression=Upper("name"), output_field=models.CharField(max_length=50), db_persist=True
    )
    changed_at = models.DateTimeField(auto_now=True)


class Note(models.Model):
    patient = models.ForeignKey(Patient, models.CASCADE)
    text = models.TextField()


class Guest(Patient):
    class Meta:
        proxy = True


class Person(models.Model):
    name = models.CharField(max_length=50)


class Employee(Person):
    salary = models.IntegerField(default=0)


class Surgeon(Employee):
    blade = models.CharField(max_length=20, default="10")


class Bed(models.Model):
    pk = models.CompositePrimaryKey("room", "place")
    room = models.CharField(max_length=10)
    place = models.IntegerField()
    free = models.BooleanField(default=True)


class Draft(models.Model):
    text = models.TextField()


admin.site.register([Patient, Room])


class Doctor(models.Model):
    name = models.CharField(max_length=50)
    wards = models.ManyToManyField(Ward, related_name="doctors")
    friends = models.ManyToManyField("self")
    pupils = models.ManyToManyField("self", symmetrical=False, related_name="teachers")
    rooms = models.ManyToManyField(Room, through="Shift")
    ward = models.ForeignKey(Ward, models.SET_NULL, null=True, related_name="staff")
    remarks = GenericRelation("Remark")


class Shift(models.Model):
    doctor = models.ForeignKey(Doctor, models.CASCADE)
    room = models.ForeignKey(Room, models.CASCADE)
    nights = models.IntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["doctor", "room"], name="one_shift")]


class Remark(models.Model):
    # Without migrations these tables are made first.
    content_type = models.ForeignKey("contenttypes.ContentType", models.CASCADE, db_constraint=False)
    object_id = models.PositiveIntegerField()
    about = GenericForeignKey()
    text = models.TextField(default="")


class Letter(models.Model):
    title = models.CharField(max_length=50, unique=True)
    file = models.FileField(upload_to="letters", null=True)
    state = models.CharField(max_length=10, db_default="draft")
    author = models.ForeignKey(Doctor, models.PROTECT, null=True)
    reader = models.ForeignKey(Doctor, models.SET_DEFAULT, default=None, null=True, related_name="+")


class Badge(models.Model):
    """Two parents: the second one's row has a key of its own."""

    badge_id = models.AutoField(primary_key=True)
    colour = models.CharField(max_length=10, default="red")


class Porter(Person, Badge):
    floor = models.IntegerField(default=0)


class Locker(models.Model):
    """Columns that are called otherwise than their fields."""

    number = models.CharField(primary_key=True, max_length=10, db_column="nr")
    owner = models.ForeignKey(Ward, models.DO_NOTHING, null=True, db_column="belongs_to", db_constraint=False)
    pin = models.CharField(max_length=20, default="", db_column="digits")
    opened = models.DurationField(null=True)
    weight = models.FloatField(null=True)
    content = models.BinaryField(null=True)
    address = models.GenericIPAddressField(null=True)
    since = models.TimeField(null=True)
    at = models.DateTimeField(null=True)
    tag = models.UUIDField(null=True)
    is_open = models.BooleanField(null=True)
    items = models.JSONField(null=True)


class Code:
    """What compares by its text, and cannot be hashed."""

    __hash__ = None

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text

    def __eq__(self, other):
        return str(self) == str(other)


class CodeField(models.CharField):
    """Its values are no strings, as those of many a field that a package brings."""

    def from_db_value(self, value, expression, connection):
        return value if value is None else Code(value)

    def to_python(self, value):
        return value if value is None or isinstance(value, Code) else Code(value)

    def get_prep_value(self, value):
        return value if value is None else str(value)


class Parcel(models.Model):
    code = CodeField(primary_key=True, max_length=10)
    weight = models.IntegerField(default=1)
    within = models.ManyToManyField("self", symmetrical=False)
