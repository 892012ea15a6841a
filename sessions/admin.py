"""The administration: look at everything, change nothing that the engine or the law relies on."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django_q.models import Failure, OrmQ, Schedule, Success

from providers.admin import NamedValues, ReadOnly

from . import audit_watch
from .models import (
    Attempt,
    AuditEvent,
    Deployment,
    GPUSample,
    Heartbeat,
    Session,
    Sighting,
    Slot,
    SSHKey,
)

for queue_model in (Failure, OrmQ, Schedule, Success):  # a schedule row runs any function
    if admin.site.is_registered(queue_model):
        admin.site.unregister(queue_model)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnly):
    list_display = ("sequence", "at", "action", "actor", "session_code", "provider", "reason")
    list_filter = (("at", admin.DateFieldListFilter), "action", ("provider", NamedValues), "actor")
    search_fields = (
        "session_code__exact", "label__exact", "request_id__exact", "actor__exact",
        "action__startswith", "reason__icontains",
    )  # fmt: skip
    search_help_text = "Session code, label, request id, actor (user:7), action, or reason"
    date_hierarchy = "at"
    ordering = ("-sequence",)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With the newest verdict of the chain on top."""
        more = {"verdict": audit_watch.verdict()} | (extra_context or {})
        return super().changelist_view(request, more)


@admin.register(Session)
class SessionAdmin(ReadOnly):
    list_display = ("code", "owner", "state", "outcome", "reason", "provider", "gpu_name",
                    "created_at", "expires_at", "ended_at")  # fmt: skip
    list_filter = ("state", "outcome", ("reason", NamedValues), "provider")
    list_select_related = ("owner",)
    search_fields = ("code__exact", "owner__username", "gpu_name")
    exclude = ("checker_key", "generated_key")
    ordering = ("-created_at",)


@admin.register(Attempt)
class AttemptAdmin(ReadOnly):
    list_display = ("label", "session", "provider", "instance_id", "outcome", "resolution",
                    "sent_at", "gone_at")  # fmt: skip
    list_filter = ("resolution", ("outcome", NamedValues), "provider")
    list_select_related = ("session",)
    search_fields = ("label__exact", "instance_id__exact", "session__code__exact")
    ordering = ("-created_at",)


@admin.register(Deployment)
class DeploymentAdmin(ReadOnly):
    list_display = ("deployment_id", "created_at")
    exclude = ("secret",)


@admin.register(Sighting)
class SightingAdmin(ReadOnly):
    list_display = ("label", "provider", "instance_id", "first_seen_at", "last_seen_at", "gone_at")
    list_filter = ("provider",)
    search_fields = ("label__exact", "instance_id__exact")


@admin.register(SSHKey)
class SSHKeyAdmin(ReadOnly):
    list_display = ("name", "owner", "fingerprint", "created_at")
    list_select_related = ("owner",)
    search_fields = ("name", "fingerprint__exact", "owner__username")


@admin.register(GPUSample)
class GPUSampleAdmin(ReadOnly):
    list_display = ("session", "at", "load", "memory_mb")
    list_select_related = ("session",)
    search_fields = ("session__code__exact",)
    ordering = ("-at",)


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnly):
    list_display = ("name", "at", "data")


@admin.register(Slot)
class SlotAdmin(ReadOnly):
    list_display = ("number", "generation", "beat_at")
