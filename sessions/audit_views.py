"""The audit page: who did what, when, and how it went; and the same as a file."""

import csv
import io
import json
from collections.abc import Iterable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from . import audit_watch
from .audit_filters import PERIODS, AuditFilters, parse
from .audit_search import EXPORTED, matching, search
from .models import AuditEvent

COLUMNS = (
    "sequence", "at", "action", "actor", "reason", "session_code", "provider", "label",
    "request_id", "data", "previous_hash", "hash",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@require_safe
def audit_page(request: HttpRequest) -> HttpResponse:
    filters = asked(request)
    visible = AuditEvent.objects.visible_to(request.user)
    sees_all = request.user.has_perm("gpu_sessions.view_all_sessions")
    context = {
        "filters": filters,
        "found": search(visible, filters, timezone.now()),
        "query": filters.query(),
        "periods": [(label, value, value == filters.span) for value, label in PERIODS.items()],
        "sees_all": sees_all,
        "verdict": audit_watch.verdict() if sees_all else None,
        "most": EXPORTED,
    }
    context["older"] = filters.query(before=context["found"].older)
    part = request.htmx and not request.htmx.boosted and not request.htmx.history_restore_request
    return render(request, "sessions/_audit.html" if part else "sessions/audit.html", context)


@require_safe
def audit_export(request: HttpRequest, kind: str) -> HttpResponse:
    """Newest first, all that matches up to EXPORTED; with the hashes, to be checked elsewhere."""
    visible = AuditEvent.objects.visible_to(request.user)
    rows = matching(visible, asked(request), timezone.now()).order_by("-sequence")
    events = rows[:EXPORTED].iterator(chunk_size=2000)
    body, content_type = WRITERS[kind](events)
    response = HttpResponse(body, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="gpubroker-audit.{kind}"'
    return response


def asked(request: HttpRequest) -> AuditFilters:
    return parse(dict(request.GET.lists()))


def as_csv(events: Iterable[AuditEvent]) -> tuple[str, str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for event in events:
        writer.writerow([harmless(value) for value in values(event)])
    return text.getvalue(), "text/csv; charset=utf-8"


def harmless(value: str) -> str:
    """A marketplace's words must not become a formula in somebody's spreadsheet."""
    return f"'{value}" if value.startswith(FORMULA) else value


def values(event: AuditEvent) -> list[str]:
    plain = [getattr(event, name) for name in COLUMNS]
    plain[COLUMNS.index("at")] = event.at.isoformat()
    plain[COLUMNS.index("data")] = json.dumps(event.data, sort_keys=True)
    return list(map(str, plain))


def as_json(events: Iterable[AuditEvent]) -> tuple[str, str]:
    rows = [{name: getattr(event, name) for name in COLUMNS} for event in events]
    return json.dumps(rows, default=lambda at: at.isoformat(), indent=1), "application/json"


WRITERS = {"csv": as_csv, "json": as_json}
