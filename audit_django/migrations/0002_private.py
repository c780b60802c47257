from django.db import migrations

from audit_django.schema import CreateTables


class Migration(migrations.Migration):
    dependencies = [("audit_django", "0001_initial")]
    operations = [CreateTables()]  # what is missing: the table of values that may be erased, of a trail from before
