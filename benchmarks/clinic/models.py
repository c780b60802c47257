from django.conf import settings
from django.db import models


class Patient(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "clinic"


class Draft(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "clinic"


class Visit(models.Model):
    patient = models.CharField(max_length=50)
    number = models.IntegerField()
    reason = models.TextField()
    paid = models.DecimalField(max_digits=8, decimal_places=2)
    on = models.DateField()
    open = models.BooleanField(default=True)
    notes = models.JSONField(default=dict)
    changed_at = models.DateTimeField(auto_now=True)
    if "simple_history" in settings.INSTALLED_APPS:
        from simple_history.models import HistoricalRecords

        history = HistoricalRecords()

    class Meta:
        app_label = "clinic"


if "pghistory" in settings.INSTALLED_APPS:
    import pghistory

    pghistory.track(pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent())(Visit)
