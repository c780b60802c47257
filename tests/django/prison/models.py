# ruff: noqa: DJ001, DJ008 - a value that is absent is one of the cases; nobody reads their names
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models

from audit_django import redacted, unaudited


@redacted(passport="mask")
class Numbered(models.Model):
    passport = models.CharField(max_length=20, null=True)

    class Meta:
        abstract = True


class Visitor(models.Model):
    name = models.CharField(max_length=20, null=True)


@redacted(ailment="hash", scan="exclude", seen="exclude", visitors="exclude", ssn="keep")
class Inmate(Numbered):
    name = models.CharField(max_length=20, null=True)
    ailment = models.CharField(max_length=20, null=True)
    scan = models.CharField(max_length=20, null=True)
    seen = models.IntegerField(null=True)
    ssn = models.CharField(max_length=20, null=True)
    visitors = models.ManyToManyField(Visitor)


@redacted(cell="replace")
class Lifer(Inmate):
    cell = models.CharField(max_length=20, null=True)


@redacted(name="replace")
class Newcomer(Inmate):
    class Meta:
        proxy = True


class Letter(models.Model):
    inmate = models.ForeignKey(Inmate, models.CASCADE, null=True)
    text = models.CharField(max_length=20, null=True)


@unaudited
class Sketch(models.Model):
    text = models.CharField(max_length=20, null=True)


class FineSketch(Sketch):
    colour = models.CharField(max_length=20, null=True)


class OwnSession(AbstractBaseSession):
    pass


def is_no_letter(model):
    return model is not Letter


class Imported(models.Model):
    class Meta:
        managed = False
