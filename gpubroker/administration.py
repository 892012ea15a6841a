"""The administration's front page: what is reviewed stands before what is managed."""

from django.contrib.admin import AdminSite
from django.http import HttpRequest

APPS = ("gpu_sessions", "providers", "auth", "axes")  # anything else follows
MODELS = ("AuditEvent", "Session", "Attempt", "Sighting", "ProviderHealth")


class Administration(AdminSite):
    site_header = "gpubroker administration"
    site_title = "gpubroker"
    index_title = "Audit, records and people"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict]:
        apps = super().get_app_list(request, app_label)
        for app in apps:
            app["models"].sort(key=lambda model: _place(MODELS, model["object_name"]))
        return sorted(apps, key=lambda app: _place(APPS, app["app_label"]))


def _place(order: tuple[str, ...], name: str) -> int:
    return order.index(name) if name in order else len(order)
