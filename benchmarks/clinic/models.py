from django.db import models


class Patient(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "clinic"
