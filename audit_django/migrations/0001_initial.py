from django.db import migrations

from audit_django.schema import CreateTables


class Migration(migrations.Migration):
    initial = True  # of tables that belong to no model
    operations = [CreateTables()]
