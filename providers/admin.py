"""The administration shows what the worker wrote; nobody edits readings by hand."""

from django.contrib import admin
from django.http import HttpRequest

from .models import CallHour, Experience, Lane, Offer, ProviderHealth, Snapshot


class NamedValues(admin.AllValuesFieldListFilter):
    """A filter without a link for "nothing", which would have no name."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.lookup_choices = [value for value in self.lookup_choices if value]


class ReadOnly(admin.ModelAdmin):
    """Superusers may look. Nobody may add, change or delete, one by one or in bulk."""

    actions = None
    list_per_page = 100
    show_full_result_count = False

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.is_active and request.user.is_superuser

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Offer)
class OfferAdmin(ReadOnly):
    list_display = ("__str__", "base_price_per_hour", "country", "listed", "changed_at")
    list_filter = ("provider", "listed", "gpu_name")
    search_fields = ("offer_id", "machine_id")


@admin.register(ProviderHealth)
class ProviderHealthAdmin(ReadOnly):
    list_display = ("provider", "balance", "offers_read_at", "offers_error", "frozen_reason")


@admin.register(Snapshot)
class SnapshotAdmin(ReadOnly):
    list_display = ("provider", "started_at", "complete", "error")
    list_filter = ("provider", "complete")


@admin.register(Lane)
class LaneAdmin(ReadOnly):
    list_display = ("provider", "operation", "next_at", "failures", "open_until")


@admin.register(Experience)
class ExperienceAdmin(ReadOnly):
    list_display = ("at", "kind", "provider", "gpu_name", "place", "machine_id", "offer_id")
    list_filter = ("provider", "kind", "gpu_name")
    search_fields = ("offer_id", "machine_id")
    ordering = ("-at",)


@admin.register(CallHour)
class CallHourAdmin(ReadOnly):
    list_display = ("provider", "operation", "hour", "calls", "errors", "rate_limited")
    list_filter = ("provider", "operation")
