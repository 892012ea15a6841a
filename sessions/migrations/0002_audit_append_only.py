from django.db import migrations

from sessions import audit_triggers


class Migration(migrations.Migration):
    dependencies = [("gpu_sessions", "0001_initial")]

    operations = [migrations.RunPython(audit_triggers.install, audit_triggers.remove)]
