"""The offers page: rows only, never a call to a provider."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from . import gpus, history, memory, picks, registry, waits
from .charts import Spark, spark
from .countries import country_name
from .filters import SORTS, VIEWS, Filters, parse, plain_number
from .models import Offer, ProviderHealth
from .search import GPU, Result, search
from .usage import HOURS, MAX_HOURS

STALE_TTLS = 3  # readings missed until the age of an offer is a warning


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One active filter and the query string without it."""

    label: str
    without: str
    hides: int = 0  # offers that this filter alone keeps away


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """How old the offers of one provider are, and whether that is as it should be."""

    name: str
    title: str
    read_at: datetime | None
    error: str
    note: str
    state: str  # ok, warn, bad: also the colour


@require_safe
def offers(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    filters = _understood(parse(dict(request.GET.lists())))
    known = memory.recall(now)
    result = search(filters, now, known.failed_today())
    for offer in result.offers:
        offer.standing = known.standing(offer)
    picks.mark(result.offers, filters)
    context = {
        "filters": filters,
        "query": filters.query(),
        "result": result,
        "chips": chips(filters, result),
        "sorts": SORTS,
        "max_hours": MAX_HOURS,
        "in_all": (filters.hours, filters.traffic) != (HOURS, 0),  # a total is wanted
        "views": [(label, value, filters.query(view=value)) for value, label in VIEWS.items()],
        "gpus": gpu_rows(filters, result),
        "picks": picks.read(filters),
        "here": filters.query(page=filters.page),
        "freshness": [shown(freshness(health, now), result) for health in health_rows()],
        "unconfigured": not registry.names(),
    } | _pages(filters, result)
    if not _wants_fragment(request):
        return render(request, "providers/offers.html", context)
    response = render(request, "providers/_offers.html", context | {"fragment": True})
    address = f"{request.path}?{context['here']}".rstrip("?")
    if request.htmx.current_url_abs_path != address:
        response["HX-Push-Url"] = address
    return response


def gpu_rows(filters: Filters, result: Result) -> list[tuple[GPU, Spark | None, str]]:
    """Each GPU, its 30 days, and the query string of its offers."""
    past = history.days(gpu.name for gpu in result.gpus) if result.gpus else {}
    return [
        (gpu, spark(past.get(gpu.name, [])), filters.query(view="", gpu=(gpu.name,)))
        for gpu in result.gpus
    ]


def _wants_fragment(request: HttpRequest) -> bool:
    htmx = request.htmx
    return bool(htmx) and not htmx.boosted and not htmx.history_restore_request


def _pages(filters: Filters, result: Result) -> dict[str, str | None]:
    return {
        "previous": filters.query(page=result.page - 1) if result.page > 1 else None,
        "next": filters.query(page=result.page + 1) if result.page < result.pages else None,
    }


def _understood(filters: Filters) -> Filters:
    """GPU names by their one spelling; what nobody ever offered is left out and said."""
    names = {wanted: _gpu_name(wanted) for wanted in filters.gpu}
    unknown = set(names.values()) - set(
        Offer.objects.filter(gpu_name__in=names.values()).values_list("gpu_name", flat=True)
    )
    unknown -= {gpu.name for gpu in gpus.GPUS}
    strange = [name for name in filters.provider if name not in registry.ADAPTERS]
    ignored = [f"No GPU is called “{name}”." for name in sorted(unknown)]
    ignored += [f"No provider is called “{name}”." for name in strange]
    return replace(
        filters,
        gpu=tuple(dict.fromkeys(name for name in names.values() if name not in unknown)),
        provider=tuple(name for name in filters.provider if name not in strange),
        ignored=filters.ignored + tuple(ignored),
    )


def _gpu_name(wanted: str) -> str:
    known = gpus.find(wanted)
    return known.name if known else wanted


def chips(filters: Filters, result: Result) -> list[Chip]:
    labels = {
        "count": f"{filters.count} GPU{'s' if filters.count != 1 else ''}",
        "memory": f"≥ {filters.memory} GB GPU memory",
        "price": f"≤ ${plain_number(filters.price)}/h",
        "reliability": f"≥ {plain_number(filters.reliability)} % reliable",
        "verified": "verified only",
        "unfailed": "none that failed here in 24 h",
    }
    found = []
    for name in filters.active:
        if name in labels:
            hides = result.hidden.get(name, 0)
            found.append(Chip(label=labels[name], without=filters.without(name), hides=hides))
            continue
        for value in getattr(filters, name):
            found.append(Chip(label=_label(name, value), without=filters.without(name, value)))
    return found


def _label(facet: str, value: str) -> str:
    if facet == "provider":
        return registry.title(value)
    return country_name(value) if facet == "country" else value


def health_rows() -> list[ProviderHealth]:
    """One row for each configured provider, also where the worker has not made it yet."""
    names = registry.names()
    rows = {row.provider: row for row in ProviderHealth.objects.filter(provider__in=names)}
    return [rows.get(name) or ProviderHealth(provider=name) for name in names]


def shown(fresh: Freshness, result: Result) -> Freshness:
    """Of the offers that are on the page: newer ones may have been read a moment ago."""
    return replace(fresh, read_at=result.behind.get(fresh.name, fresh.read_at))


def freshness(health: ProviderHealth, now: datetime) -> Freshness:
    ttl = registry.capabilities(health.provider).offers_ttl_seconds
    late = now - timedelta(seconds=waits.seconds(ttl) * STALE_TTLS)
    error = health.auth_error or health.offers_error
    state = "warn" if error or (health.offers_read_at and health.offers_read_at < late) else "ok"
    return Freshness(
        name=health.provider,
        title=registry.title(health.provider),
        read_at=health.offers_read_at,
        error=error,
        note=health.offers_note,
        state="bad" if error and not health.offers_read_at else state,
    )
