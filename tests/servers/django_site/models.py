from django.db import models


class Note(models.Model):
    marker = models.CharField(max_length=100)

    class Meta:
        app_label = "django_site"
        db_table = "note"

    def __str__(self):
        return self.marker
