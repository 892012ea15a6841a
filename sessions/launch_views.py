"""From an offer to a session: the terms, what they cost at most, and the order."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from providers import memory, registry
from providers.filters import parse
from providers.models import Offer, ProviderHealth
from providers.usage import DISK_GB, HOURS, MAX_HOURS

from . import asks, limits, relaunch
from .dry_run import LaunchTerms, dry_run
from .forms import LaunchForm, focus_first_error, requirements, suggested_ceiling
from .models import Session
from .states import Fallback
from .views import again_later


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """USD. `most` is the ceiling for all hours: what fallback offers may cost as well."""

    per_hour: Decimal
    gpu_per_hour: Decimal
    disk_per_hour: Decimal
    disk_gb: int
    hours: int
    ends_at: datetime
    expected: Decimal
    most: Decimal
    ceiling: Decimal
    too_low: bool  # the ceiling is under the price of this very offer
    balance_hours: Decimal | None  # how long the balance lasts at this price


@require_http_methods(["GET", "HEAD", "POST"])
def launch(request: HttpRequest, provider: str, offer_id: str) -> HttpResponse:
    offer = _offer(provider, offer_id)
    if offer is None:
        return _gone(request)
    if request.method != "POST":
        start = _start(request, offer)
        return _page(request, offer, LaunchForm(owner=request.user, offer=offer, initial=start))
    form = LaunchForm(request.POST, owner=request.user, offer=offer)
    if form.is_valid():
        try:
            session = _launch(request, form)
        except limits.TooMany as refusal:
            form.add_error(None, f"{refusal.message} Nothing was rented.")
            return again_later(_page(request, offer, form, 429, too_many=True), refusal)
        if session:
            return redirect("session", session.pk)
    return _page(request, offer, form, status=422)


@require_safe
def estimate(request: HttpRequest, provider: str, offer_id: str) -> HttpResponse:
    """The price box again, for the numbers as they stand in the form."""
    offer = _offer(provider, offer_id)
    if offer is None:
        return render(request, "sessions/_launch_gone.html", status=410)
    context = _numbers(request.GET, offer) | {"beside": True}
    return render(request, "sessions/_launch_estimate.html", context)


def _launch(request: HttpRequest, form: LaunchForm) -> Session | None:
    """The session, or None with the refusal in the form."""
    try:
        with transaction.atomic():
            session = asks.launch(request.user, form.order())
            form.register_new_key()
    except asks.LaunchRefused as refusal:
        form.add_error(refusal.field if refusal.field in form.fields else None, refusal.message)
        return None
    return session


def _offer(provider: str, offer_id: str) -> Offer | None:
    """The offer when it can still be launched."""
    if "\0" in offer_id:  # PostgreSQL does not take it
        return None
    offer = Offer.objects.filter(provider=provider, offer_id=offer_id, listed=True).first()
    if offer is None or provider not in registry.names():
        return None
    gone = offer.evicted_until and offer.evicted_until > timezone.now()
    return None if gone else offer


def _gone(request: HttpRequest) -> HttpResponse:
    """A second click on a form that was sent already leads to its session."""
    key = request.POST.get("idempotency_key", "").replace("\0", "")
    before = Session.objects.filter(owner=request.user, idempotency_key=key).first()
    if before:
        return redirect("session", before.pk)
    context = {
        "back": parse(dict(request.GET.lists())).query(),
        "script": request.POST.get("startup_script", "").strip(),
    }
    return render(request, "sessions/launch_gone.html", context, status=410)


def _start(request: HttpRequest, offer: Offer) -> dict[str, object]:
    """The terms of an earlier session, ?again=<id>; else the filters that led here."""
    before = relaunch.mine(request.user, request.GET.get("again", ""))
    return _filtered(request, offer) | (relaunch.terms(before, offer) if before else {})


def _filtered(request: HttpRequest, offer: Offer) -> dict[str, object]:
    filters = parse(dict(request.GET.lists()))
    least = registry.capabilities(offer.provider).offer_min_disk_gb
    disk = min(max(filters.disk, least), offer.disk_gb_max)
    price = offer.price_per_hour(disk)
    return {
        "disk_gb": disk,
        "hours": filters.hours,
        "max_price_per_hour": suggested_ceiling(price),
        "verified_only": filters.verified,
        "same_country": bool(filters.country),
        "min_reliability": filters.reliability,
    }


def _page(
    request: HttpRequest,
    offer: Offer,
    form: LaunchForm,
    status: int = 200,
    *,
    too_many: bool = False,
) -> HttpResponse:
    focus_first_error(form)
    numbers = request.POST if form.is_bound else form.initial
    context = _numbers(numbers, offer) | {
        "form": form,
        "too_many": too_many,
        "title": registry.title(offer.provider),
        "max_hours": MAX_HOURS,
        "standing": memory.recall(timezone.now()).standing(offer),
        "back": parse(dict(request.GET.lists())).query(),
    }
    return render(request, "sessions/launch.html", context, status=status)


def _numbers(values: Mapping[str, object], offer: Offer) -> dict[str, object]:
    """What follows from the form's values as they stand, however wrong."""
    now = timezone.now()
    health = ProviderHealth.objects.filter(provider=offer.provider).first()
    disk = _whole(values.get("disk_gb"), DISK_GB, offer.disk_gb_max)
    hours = _whole(values.get("hours"), HOURS, MAX_HOURS)
    price = offer.price_per_hour(disk)
    ceiling = _money(values.get("max_price_per_hour")) or suggested_ceiling(price)
    balance = health.balance if health else None
    numbers = Estimate(
        per_hour=price,
        gpu_per_hour=offer.base_price_per_hour,
        disk_per_hour=price - offer.base_price_per_hour,
        disk_gb=disk,
        hours=hours,
        ends_at=now + timedelta(hours=hours),
        expected=price * hours,
        most=ceiling * hours,
        ceiling=ceiling,
        too_low=ceiling < price,
        balance_hours=max(balance, Decimal(0)) / price if balance is not None and price else None,
    )
    terms = LaunchTerms(
        disk_gb=disk,
        max_price_per_hour=ceiling,
        fallback=_fallback(values),
        requirements=requirements(_wishes(values), offer),
    )
    return {
        "offer": offer,
        "estimate": numbers,
        "balance": balance,
        "read_at": health.offers_read_at if health else None,
        "dry_run": dry_run(offer, terms, now),
        "terms": terms,
    }


def _fallback(values: Mapping[str, object]) -> str:
    given = values.get("fallback")
    return given if given in Fallback.values else Fallback.SAME_GPU


def _wishes(values: Mapping[str, object]) -> dict[str, object]:
    share = _money(values.get("min_reliability"))
    return {
        "verified_only": values.get("verified_only"),
        "same_country": values.get("same_country"),
        "min_reliability": share if share and share <= 100 else None,
    }


def _whole(text: object, default: int, highest: int) -> int:
    value = _money(text)
    return min(int(value), highest) if value and value >= 1 else default


def _money(text: object) -> Decimal | None:
    try:
        value = round(Decimal(str(text)), 6)  # digits of a price; PostgreSQL takes not any number
    except InvalidOperation:
        return None
    return value if value.is_finite() and 0 < value < 1_000_000 else None
