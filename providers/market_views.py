"""Around the offers: the comparison, what a GPU cost before, and whether there is news."""

from dataclasses import replace

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from . import charts, gpus, history, picks, registry, stock
from .filters import clean, parse
from .search import version_text
from .usage import DISK_GB


@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    filters = parse(dict(request.GET.lists()))
    offers = picks.read(filters)
    context = {
        "filters": filters,
        "query": filters.query(),
        "offers": offers,
        "rows": picks.table(offers),
        "lost": len(filters.compare) - len(offers),
        "section": "offers",
    }
    return render(request, "providers/compare.html", context)


@require_safe
def prices(request: HttpRequest, gpu: str) -> HttpResponse:
    known = gpus.find(gpu)
    name = known.name if known else clean(gpu)
    hours = history.hours(name)
    if not hours and not known:
        raise Http404
    now = timezone.now()
    highest = max((p.median for points in hours.values() for p in points), default=0)
    context = {
        "gpu": name,
        "disk": DISK_GB,
        "charts": [
            (registry.title(provider), charts.chart(points, now, highest), points[-1])
            for provider, points in sorted(hours.items())
        ],
        "days": list(reversed(history.days([name]).get(name, []))),
        "section": "offers",
    }
    return render(request, "providers/prices.html", context)


@require_safe
def news(request: HttpRequest) -> HttpResponse:
    """204 while the stock is the one that the page shows; 286 tells htmx to stop asking."""
    if version_text(stock.version()) == request.GET.get("have", ""):
        return HttpResponse(status=204)
    query = request.GET.copy()
    query.pop("have", None)
    filters = replace(parse(dict(query.lists())), ignored=())
    context = {"query": filters.query(page=filters.page)}
    return render(request, "providers/_offers_news.html", context, status=286)
