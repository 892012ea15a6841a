"""For load balancers and people who watch: is the process alive, is the whole thing working?"""

from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from providers import registry
from providers.models import ProviderHealth
from providers.waits import span
from sessions import audit_watch, identity
from sessions.models import Heartbeat, Slot

from .polls import told

Part = dict[str, object]  # "ok", and facts for people: no secrets, no ids of accounts

WORKER_SILENCE = timedelta(seconds=20)
SLICE_SILENCE = timedelta(seconds=30)
READING_AGE = 900  # seconds (unscaled) after which offers are too old to be called working


@login_not_required
@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


@login_not_required
@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    parts = readiness(timezone.now())
    told.hear(parts)
    ready = all(part["ok"] for part in parts.values())
    return JsonResponse({"ready": ready, "parts": parts}, status=200 if ready else 503)


def readiness(now: datetime) -> dict[str, Part]:
    """Every part by name: database, worker, slices, identity, audit, providers."""
    checks: dict[str, Callable[[datetime], Part]] = {
        "database": database,
        "worker": worker,
        "slices": slices,
        "identity": who_we_are,
        "audit": audit_trail,
        "providers": providers,
    }
    return {name: _checked(check, now) for name, check in checks.items()}


def database(now: datetime) -> Part:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {"ok": True, "vendor": connection.vendor}


def worker(now: datetime) -> Part:
    beat = Heartbeat.objects.filter(name="worker").first()
    if not beat:
        return {"ok": False, "detail": "no worker has ever started"}
    return {"ok": now - beat.at < WORKER_SILENCE, "heartbeat_age_seconds": age(beat.at, now)}


def slices(now: datetime) -> Part:
    beats = Slot.objects.filter(beat_at__isnull=False).values_list("beat_at", flat=True)
    newest = max(beats, default=None)
    if not newest:
        return {"ok": False, "detail": "no slice is running"}
    return {"ok": now - newest < SLICE_SILENCE, "beat_age_seconds": age(newest, now)}


def who_we_are(now: datetime) -> Part:
    reason = identity.current().read_only
    return {"ok": not reason} | ({"detail": reason} if reason else {})


def audit_trail(now: datetime) -> Part:
    """As last verified; not yet verified is no fault."""
    verdict = audit_watch.verdict()
    if verdict is None:
        return {"ok": True, "detail": "not verified yet"}
    part: Part = {"ok": verdict.ok, "verified_age_seconds": age(verdict.at, now)}
    return part | ({} if verdict.ok else {"detail": verdict.problem})


def providers(now: datetime) -> Part:
    """Not ready without any provider: a dashboard that can rent nothing must say so (BUG-003)."""
    rows = {row.provider: row for row in ProviderHealth.objects.all()}
    each = {name: provider(rows.get(name), now) for name in registry.names()}
    for name in settings.PROVIDERS.keys() - each.keys():
        each[name] = {"ok": False, "detail": "has a key, but this version cannot use it"}
    ok = bool(each) and all(part["ok"] for part in each.values())
    detail = {} if each else {"detail": "no provider has a key"}
    return {"ok": ok, "each": each, "simulated": settings.SIMULATED} | detail


def provider(row: ProviderHealth | None, now: datetime) -> Part:
    if not row or not row.offers_read_at:
        return {"ok": False, "detail": "nothing was read yet"}
    detail = "the credential is not accepted" if row.auth_error else ""
    detail = detail or ("automatic destroys are frozen" if row.frozen_reason else "")
    fresh = now - row.offers_read_at < max(span(READING_AGE), timedelta(seconds=60))
    part: Part = {"ok": fresh and not detail, "reading_age_seconds": age(row.offers_read_at, now)}
    return part | ({"detail": detail} if detail else {})


def age(at: datetime, now: datetime) -> float:
    return round((now - at).total_seconds(), 1)


def _checked(check: Callable[[datetime], Part], now: datetime) -> Part:
    try:
        return check(now)
    except DatabaseError as error:
        return {"ok": False, "detail": f"the database does not answer ({type(error).__name__})"}
