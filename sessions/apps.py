from django.apps import AppConfig


class SessionsConfig(AppConfig):
    name = "sessions"
    label = "gpu_sessions"  # Django's own contrib app owns the label "sessions"
    verbose_name = "GPU sessions"
    default_auto_field = "django.db.models.BigAutoField"
