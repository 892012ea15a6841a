"""Offers side by side: which were picked, and what tells them apart."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from operator import or_

from django.db.models import Q

from .filters import Filters
from .models import Offer
from .templatetags import prices


@dataclass(frozen=True, kw_only=True)
class Row:
    """One property of all picked offers."""

    name: str
    values: list[str]
    best: list[bool]  # nobody's where all are alike or nobody knows

    @property
    def alike(self) -> bool:
        return len(self.values) > 1 and len(set(self.values)) == 1

    @property
    def cells(self) -> list[tuple[str, bool]]:
        return list(zip(self.values, self.best, strict=True))


def key(offer: Offer) -> str:
    return f"{offer.provider}:{offer.offer_id}"


def mark(offers: Iterable[Offer], filters: Filters) -> None:
    """What the template needs to pick each: .picked, and .pick, the query string after it."""
    for offer in offers:
        one = key(offer)
        offer.picked = one in filters.compare
        offer.pick = filters.picked(one)


def read(filters: Filters) -> list[Offer]:
    """The picked offers that are still known, in the order of the picks."""
    if not filters.compare:
        return []
    pairs = [one.split(":", 1) for one in filters.compare]
    wanted = reduce(or_, (Q(provider=name, offer_id=number) for name, number in pairs))
    found = {key(offer): offer for offer in Offer.objects.filter(wanted)}
    offers = [found[one] for one in filters.compare if one in found]
    for offer in offers:
        filters.usage.apply(offer)
        offer.per_gpu = offer.price / (offer.gpu_count or 1)
        offer.fits = filters.disk <= offer.disk_gb_max
    mark(offers, filters)
    return offers


Value = Callable[[Offer], float | Decimal | None]


def table(offers: Sequence[Offer]) -> list[Row]:
    """Every property; the best of each is marked where there is a better and a worse."""
    return [
        _row("$/h all in", offers, lambda o: prices.hourly(o.price), lambda o: -o.price),
        _row(
            "$ per GPU and hour", offers, lambda o: prices.hourly(o.per_gpu), lambda o: -o.per_gpu
        ),
        _row(
            "$ per GB of GPU memory and hour",
            offers,
            lambda o: f"{prices.per_gigabyte(o.price, _memory(o)):.4f}",
            lambda o: -prices.per_gigabyte(o.price, _memory(o)),
        ),
        _row("GPUs", offers, lambda o: f"{o.gpu_count}× {o.gpu_name}"),
        _row("GPU memory", offers, lambda o: prices.gigabytes(_memory(o)), _memory),
        _row("CPU", offers, lambda o: prices.cpu(o.cpu_name) if o.cpu_name else "–"),
        _row("vCPUs", offers, lambda o: str(o.cpu_cores or "–"), lambda o: o.cpu_cores),
        _row("RAM", offers, lambda o: prices.gigabytes(o.ram_mb), lambda o: o.ram_mb),
        _row("Largest disk", offers, lambda o: f"{o.disk_gb_max:,} GB", lambda o: o.disk_gb_max),
        _row("Download", offers, lambda o: prices.speed(o.inet_down_mbps), _down),
        _row("Upload", offers, lambda o: prices.speed(o.inet_up_mbps), lambda o: o.inet_up_mbps),
        _row("Download costs", offers, lambda o: _traffic(o.inet_down_price_per_gb)),
        _row("Reliability", offers, lambda o: prices.percent(o.reliability), _reliability),
        _row("Host", offers, lambda o: "verified" if o.verified else "not verified"),
        _row("Kind", offers, lambda o: "interruptible" if o.interruptible else "on demand"),
        _row("CUDA at most", offers, lambda o: o.cuda_max or "–"),
        _row("Place", offers, prices.place),
        _row("Offered until", offers, lambda o: f"{o.ends_at:%d %b %Y}" if o.ends_at else "–"),
    ]


def _row(
    name: str, offers: Sequence[Offer], text: Callable[[Offer], str], value: Value | None = None
) -> Row:
    values = [value(offer) if value else None for offer in offers]
    known = {number for number in values if number is not None}
    best = max(known) if len(known) > 1 else None
    return Row(
        name=name,
        values=[text(offer) for offer in offers],
        best=[best is not None and number == best for number in values],
    )


def _memory(offer: Offer) -> int:
    return offer.gpu_memory_mb * offer.gpu_count


def _down(offer: Offer) -> float | None:
    return offer.inet_down_mbps


def _reliability(offer: Offer) -> float | None:
    return offer.reliability


def _traffic(per_gb: Decimal | None) -> str:
    if per_gb is None:
        return "unknown"
    return prices.per_terabyte(per_gb) if per_gb else "included"
