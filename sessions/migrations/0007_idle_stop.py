import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("gpu_sessions", "0006_session_notice"),
    ]

    operations = [
        migrations.AddField(
            model_name="session",
            name="idle_from",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="session",
            name="idle_minutes",
            field=models.PositiveSmallIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="session",
            name="idle_stops_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="session",
            name="idle_warned_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.CreateModel(
            name="GPUSample",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(db_index=True)),
                ("load", models.PositiveSmallIntegerField(null=True)),
                ("memory_mb", models.PositiveIntegerField(null=True)),
                (
                    "session",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="gpu_samples",
                        to="gpu_sessions.session",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["session", "at"], name="gpu_session_session_583c3a_idx")
                ],
            },
        ),
    ]
