from django.db import migrations

from sessions import commits


class Migration(migrations.Migration):
    dependencies = [("gpu_sessions", "0005_switches")]

    operations = [migrations.RunPython(commits.install, commits.remove)]
