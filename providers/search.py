"""Offers that match: one query for all counts, one for the page."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Count, DecimalField, F, Min, Q, QuerySet
from django.db.models.expressions import Combinable, ExpressionWrapper
from django.db.models.functions import Cast

from .filters import MANY, Filters
from .models import Offer

PAGE = 50
ROUNDING = Decimal("0.0000005")  # SQLite adds prices as floats; far below a displayed digit
PRICE = DecimalField(max_digits=20, decimal_places=9)
COLUMNS = {"gpu": "gpu_name", "provider": "provider", "country": "country", "count": "gpu_count"}


@dataclass(frozen=True, kw_only=True)
class Option:
    """One value of a facet: how many offers it would show, and from which price."""

    value: str
    count: int
    cheapest: Decimal | None
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Result:
    offers: list[Offer]  # of one page, each with .price (USD per hour, disk included)
    matching: int
    listed: int
    page: int
    pages: int
    hidden: dict[str, int]  # filter -> offers that it alone hides; "gone" and "disk" count too
    facets: dict[str, list[Option]]


@dataclass(frozen=True)
class Group:
    """Offers alike in every facet, counted under each leave-one-out of the other filters."""

    values: dict[str, object]
    counts: dict[str, int]
    cheapest: Decimal | None

    def passes(self, chosen: dict[str, tuple], *, except_for: str = "") -> bool:
        return all(
            self.values[name] in wanted
            for name, wanted in chosen.items()
            if wanted and name != except_for
        )


def price(disk_gb: int) -> ExpressionWrapper:
    """USD per hour with this disk, computed by the database."""
    total = F("base_price_per_hour") + F("disk_price_per_gb_hour") * disk_gb
    return ExpressionWrapper(total, output_field=PRICE)


def search(filters: Filters, now: datetime, failed: Q | None = None) -> Result:
    """`failed`: offers that the filter `unfailed` hides; None = nothing has failed."""
    conditions = _conditions(filters, now)
    if filters.unfailed and failed is not None:
        conditions["unfailed"] = ~failed
    chosen = {name: getattr(filters, name) for name in MANY}
    chosen["count"] = (filters.count,) if filters.count else ()
    groups = list(_groups(filters, conditions))
    passing = [group for group in groups if group.passes(chosen)]
    matching = sum(group.counts["all"] for group in passing)
    pages = max(1, -(-matching // PAGE))
    page = min(filters.page, pages)
    return Result(
        offers=_page(filters, _together(conditions.values()), chosen, page) if matching else [],
        matching=matching,
        listed=sum(group.counts["listed"] for group in groups),
        page=page,
        pages=pages,
        hidden=_hidden(groups, passing, chosen, conditions, matching),
        facets={name: _options(name, groups, chosen) for name in COLUMNS},
    )


def _conditions(filters: Filters, now: datetime) -> dict[str, Q]:
    """Every condition that is not a facet, by the name of its filter."""
    found = {
        "gone": Q(evicted_until__isnull=True) | Q(evicted_until__lte=now),
        "disk": Q(disk_gb_max__gte=filters.disk),
    }
    if filters.memory:
        # 24 GB cards report 24,564 MB or less: a tenth of tolerance keeps the name true
        found["memory"] = Q(gpu_memory_mb__gte=filters.memory * 1024 * 9 // 10)
    if filters.price:
        ceiling = filters.price + ROUNDING
        found["price"] = Q(base_price_per_hour__lte=ceiling, price__lte=ceiling)
    if filters.reliability:
        found["reliability"] = Q(reliability__gte=float(filters.reliability) / 100)
    if filters.verified:
        found["verified"] = Q(verified=True)
    return found


def _together(conditions: Iterable[Q]) -> Q:
    return Q(*conditions)


def _listed(filters: Filters) -> QuerySet[Offer]:
    return Offer.objects.filter(listed=True).annotate(price=price(filters.disk))


def _groups(filters: Filters, conditions: dict[str, Q]) -> Iterable[Group]:
    everything = _together(conditions.values())
    counts = {"n_listed": Count("pk"), "n_all": Count("pk", filter=everything)}
    for name in conditions:
        others = _together(q for other, q in conditions.items() if other != name)
        counts[f"n_{name}"] = Count("pk", filter=others)
    rows = (
        _listed(filters)
        .values(*COLUMNS.values())
        .annotate(**counts, cheapest=Min("price", filter=everything))
        .order_by()
    )
    for row in rows:
        yield Group(
            {name: row[column] for name, column in COLUMNS.items()},
            {name.removeprefix("n_"): row[name] for name in counts},
            row["cheapest"],
        )


def _hidden(
    groups: list[Group],
    passing: list[Group],
    chosen: dict[str, tuple],
    conditions: dict[str, Q],
    matching: int,
) -> dict[str, int]:
    hidden = {name: sum(g.counts[name] for g in passing) - matching for name in conditions}
    for facet, wanted in chosen.items():
        if wanted:
            others = (g for g in groups if g.passes(chosen, except_for=facet))
            hidden[facet] = sum(g.counts["all"] for g in others) - matching
    return {name: number for name, number in hidden.items() if number}


def _options(facet: str, groups: list[Group], chosen: dict[str, tuple]) -> list[Option]:
    """All values that are listed, and those asked for; the most offers first, counts by number."""
    counts: Counter[object] = Counter()
    cheapest: dict[object, Decimal] = {}
    for group in groups:
        value = group.values[facet]
        passes = group.passes(chosen, except_for=facet)
        counts[value] += group.counts["all"] if passes else 0
        if passes and group.cheapest is not None:
            cheapest[value] = min(group.cheapest, cheapest.get(value, group.cheapest))
    wanted = chosen[facet]
    values = [value for value in {*counts, *wanted} if value != ""]
    values.sort(key=lambda v: (v if facet == "count" else 0, -counts[v], str(v)))
    return [
        Option(
            value=str(value),
            count=counts[value],
            cheapest=cheapest.get(value),
            chosen=value in wanted,
        )
        for value in values
    ]


def _page(filters: Filters, everything: Q, chosen: dict[str, tuple], page: int) -> list[Offer]:
    wanted = {f"{COLUMNS[name]}__in": values for name, values in chosen.items() if values}
    offers = _listed(filters).filter(everything, **wanted).defer("details", "fingerprint")
    first = (page - 1) * PAGE
    return list(offers.order_by(*_order(filters.sort), "price", "pk")[first : first + PAGE])


def _order(sort: str) -> list[Combinable]:
    per_gpu = ExpressionWrapper(F("price") / Cast(F("gpu_count"), PRICE), output_field=PRICE)
    memory = F("gpu_memory_mb") * F("gpu_count")
    per_memory = ExpressionWrapper(F("price") / Cast(memory, PRICE), output_field=PRICE)
    return {
        "price": [],
        "gpu": [per_gpu.asc()],
        "memory": [per_memory.asc()],
        "size": [memory.desc()],
        "reliability": [F("reliability").desc(nulls_last=True)],
        "network": [F("inet_down_mbps").desc(nulls_last=True)],
    }[sort]
