"""The clinic's tables. The staff are Django's users."""

from __future__ import annotations

from typing import Any

from django.db import models


class Patient(models.Model):
    name = models.CharField(max_length=200)
    born = models.DateField()
    diagnosis = models.TextField()
    ssn = models.CharField(max_length=20, blank=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.pk,
            "name": self.name,
            "born": str(self.born),
            "diagnosis": self.diagnosis,
            "version": self.version,
        }


class Note(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="notes")
    author = models.CharField(max_length=200)
    text = models.TextField()

    def __str__(self) -> str:
        return self.text[:40]
