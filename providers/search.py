"""Offers that match: counts from the stock in memory, the rows of one page from the database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import reduce
from operator import and_, or_

from django.db.models import Q

from . import stock
from .filters import MANY, Filters
from .models import Offer
from .stock import Behind, Table, Version
from .table import FACETS, NANO, Bits, Index, Test, lowest, nth
from .usage import Usage

PAGE = 50
Away = Mapping[str, list[int]]  # filter -> primary keys that it hides, as the database knows now


@dataclass(frozen=True, kw_only=True)
class Option:
    """One value of a facet: how many offers it would show, and from which price."""

    value: str
    count: int
    cheapest: Decimal | None
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class GPU:
    """The matching offers of one GPU. Prices in USD per GPU and hour, unusual ones left out."""

    name: str
    memory_mb: int
    count: int
    lowest: Decimal | None
    middle: Decimal | None
    per_gb: Decimal | None  # the lowest, for each GB of GPU memory
    providers: list[str]


@dataclass(frozen=True, kw_only=True)
class Result:
    offers: list[Offer]  # of one page, with what Usage.apply adds, and .unusual
    matching: int
    listed: int
    page: int
    pages: int
    hidden: dict[str, int]  # filter -> offers that it alone hides; "gone" and "disk" count too
    facets: dict[str, list[Option]]
    gpus: list[GPU] = field(default_factory=list)  # instead of offers, where they are asked for
    unusual: int = 0  # of the matching
    version: str = ""  # of the stock that was counted
    behind: Behind = field(default_factory=dict)


@dataclass(frozen=True)
class Masks:
    """The offers that pass each condition, and each facet with a choice, in one index."""

    index: Index
    sets: dict[str, Bits]

    def together(self, *, except_for: str = "") -> Bits:
        others = (bits for name, bits in self.sets.items() if name != except_for)
        return reduce(and_, others, self.index.everything)


NONE = Q(pk__in=[])


class OfferWent(Exception):
    """A row of the newest table is not listed any more."""


def search(filters: Filters, now: datetime, failed: Q = NONE) -> Result:
    """`failed` is what "unfailed" hides. A row that went while we looked means that the table is
    old: take the next one. That one, and one that is known to be old, leave such rows out."""
    away = {"gone": stock.evicted(now)}
    if filters.unfailed:
        away["unfailed"] = _pks(failed)
    table, behind = stock.current()
    try:
        return _search(table, filters, away, behind, strict=not behind)
    except OfferWent:
        table.doubted = True
        table, behind = stock.current()
        return _search(table, filters, away, behind, strict=False)


def _pks(condition: Q) -> list[int]:
    return list(Offer.objects.filter(condition, listed=True).values_list("pk", flat=True))


def _search(table: Table, filters: Filters, away: Away, behind: Behind, *, strict: bool) -> Result:
    chosen = chosen_values(filters)
    masks = _masks(table.index(filters.usage, "price"), filters, chosen, away)
    everything = masks.together()
    matching = everything.bit_count()
    pages = max(1, -(-matching // PAGE))
    page = min(filters.page, pages)
    ordered = masks
    if filters.by_gpu or filters.sort != "price":
        sort = "gpu" if filters.by_gpu else filters.sort
        ordered = _masks(table.index(filters.usage, sort), filters, chosen, away)
    return Result(
        offers=[] if filters.by_gpu else _page(ordered, page, filters.usage, strict),
        gpus=_gpus(ordered) if filters.by_gpu else [],
        matching=matching,
        listed=len(table.offers),
        page=page,
        pages=1 if filters.by_gpu else pages,
        hidden=_hidden(masks, matching),
        facets={name: _options(name, masks, chosen[name]) for name in FACETS},
        unusual=matching - (everything & masks.index.usual).bit_count(),
        version=version_text(table.version),
        behind=behind,
    )


def version_text(version: Version) -> str:
    """Short enough for an address."""
    return f"{sum(number for number, _ in version.values()) % 2**62:x}"


def chosen_values(filters: Filters) -> dict[str, tuple]:
    chosen = {name: getattr(filters, name) for name in MANY}
    return chosen | {"count": (filters.count,) if filters.count else ()}


def _masks(index: Index, filters: Filters, chosen: Mapping[str, tuple], away: Away) -> Masks:
    sets = {name: index.everything & ~index.of(pks) for name, pks in away.items()}
    for name, (wanted, test) in _conditions(filters).items():
        sets[name] = index.where(name, wanted, test)
    for name, values in chosen.items():
        if values:
            sets[name] = reduce(or_, (index.facet(name).get(value, 0) for value in values))
    return Masks(index, sets)


def _conditions(filters: Filters) -> dict[str, tuple[object, Test]]:
    """Every condition that is not a facet, by the name of its filter: what is wanted, its test."""
    found = {"disk": (filters.disk, _at_least("disk_gb_max", filters.disk))}
    if filters.memory:
        # 24 GB cards report 24,564 MB or less: a tenth of tolerance keeps the name true
        least = filters.memory * 1024 * 9 // 10
        found["memory"] = (filters.memory, _at_least("gpu_memory_mb", least))
    if filters.price:
        ceiling = int(filters.price * NANO)
        found["price"] = (ceiling, lambda index: [price <= ceiling for price in index.prices])
    if filters.reliability:
        least = float(filters.reliability / 100)  # 99.9 is 0.999
        found["reliability"] = (filters.reliability, _at_least("reliability", least))
    if filters.verified:
        found["verified"] = (True, lambda index: index.columns["verified"])
    return found


def _at_least(column: str, least: float) -> Test:
    def test(index: Index) -> list[bool]:
        return [value is not None and value >= least for value in index.columns[column]]

    return test


def _hidden(masks: Masks, matching: int) -> dict[str, int]:
    hidden = {name: masks.together(except_for=name).bit_count() - matching for name in masks.sets}
    return {name: number for name, number in hidden.items() if number}


def _options(facet: str, masks: Masks, wanted: tuple) -> list[Option]:
    """All values that are listed, and those asked for; the most offers first, counts by number."""
    index, others = masks.index, masks.together(except_for=facet)
    found = {value: bits & others for value, bits in index.facet(facet).items()}
    found |= {value: 0 for value in wanted if value not in found}
    options = [
        Option(
            value=str(value),
            count=bits.bit_count(),
            cheapest=_price(index, index.cheapest(bits)),
            chosen=value in wanted,
        )
        for value, bits in found.items()
        if value != ""
    ]
    options.sort(key=lambda o: (int(o.value) if facet == "count" else 0, -o.count, o.value))
    return options


def _price(index: Index, row: int | None) -> Decimal | None:
    return None if row is None else index.prices[row] / NANO


def _page(masks: Masks, page: int, usage: Usage, strict: bool) -> list[Offer]:
    index = masks.index
    rows = index.page(masks.together(), (page - 1) * PAGE, PAGE)
    pks = {index.columns["pk"][row]: row for row in rows}
    listed = Offer.objects.filter(pk__in=pks, listed=True).defer("details", "fingerprint")
    found = {offer.pk: offer for offer in listed}
    if strict and len(found) < len(pks):
        raise OfferWent
    offers = [found[pk] for pk in pks if pk in found]
    for offer in offers:
        usage.apply(offer)
        offer.unusual = pks[offer.pk] in index.columns.odd
    return offers


def _gpus(masks: Masks) -> list[GPU]:
    """The cheapest first; those without a usual price last."""
    everything, index = masks.together(), masks.index
    found = [
        _gpu(index, str(name), bits & everything)
        for name, bits in index.facet("gpu").items()
        if bits & everything
    ]
    return sorted(found, key=lambda gpu: (gpu.lowest is None, gpu.lowest or 0, gpu.name))


def _gpu(index: Index, name: str, bits: Bits) -> GPU:
    usual = bits & index.usual
    number = usual.bit_count()
    places = [nth(usual, at) for at in (0, (number - 1) // 2, number // 2) if number]
    prices = [_per_gpu(index, index.order[place]) for place in places]
    memory = index.columns["gpu_memory_mb"][index.order[lowest(usual or bits)]]
    return GPU(
        name=name,
        memory_mb=memory,
        count=bits.bit_count(),
        lowest=prices[0] if prices else None,
        middle=(prices[1] + prices[2]) / 2 if prices else None,
        per_gb=prices[0] * 1024 / memory if prices and memory else None,
        providers=[str(p) for p, offers in index.facet("provider").items() if offers & bits],
    )


def _per_gpu(index: Index, row: int) -> Decimal:
    return index.prices[row] / NANO / (index.columns["gpu_count"][row] or 1)
