"""What each GPU costs over 30 days: an hour's P10 and median, collected with the stock."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Avg, Min, Sum
from django.db.models.functions import TruncDay

from .models import Offer, PriceHour, Stock
from .outliers import unusual
from .usage import DISK_GB

KEPT = timedelta(days=30)
AGAIN = timedelta(minutes=10)  # an hour's row follows the market that often


@dataclass(frozen=True, kw_only=True)
class Point:
    at: datetime
    low: Decimal  # P10, USD per GPU and hour with DISK_GB
    median: Decimal
    offers: int


def collect(provider: str, now: datetime) -> None:
    """This hour's row of each GPU. What can be taken away, or looks wrong, makes no price."""
    if not _due(provider, now):
        return
    hour = now.replace(minute=0, second=0, microsecond=0)
    rows = [
        PriceHour(provider=provider, gpu_name=gpu, hour=hour, **summary(prices))
        for gpu, prices in _prices(provider).items()
    ]
    PriceHour.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["gpu_name", "provider", "hour"],
        update_fields=["low", "median", "offers"],
    )
    PriceHour.objects.filter(provider=provider, hour__lt=now - KEPT).delete()
    Stock.objects.filter(provider=provider).update(prices_at=now)


def _due(provider: str, now: datetime) -> bool:
    stock = Stock.objects.filter(provider=provider).first()
    if stock is None or stock.prices_at is None:
        return stock is not None
    return now - stock.prices_at >= AGAIN or now.hour != stock.prices_at.hour


def _prices(provider: str) -> dict[str, list[Decimal]]:
    offers = Offer.objects.filter(provider=provider, listed=True, interruptible=False)
    found = defaultdict(list)
    for gpu, count, base, disk in offers.values_list(
        "gpu_name", "gpu_count", "base_price_per_hour", "disk_price_per_gb_hour"
    ):
        found[gpu].append((base + disk * DISK_GB) / (count or 1))
    usual = {gpu: _usual(prices) for gpu, prices in found.items()}
    return {gpu: prices for gpu, prices in usual.items() if prices}


def _usual(prices: list[Decimal]) -> list[Decimal]:
    odd = unusual(prices)
    return sorted(price for at, price in enumerate(prices) if at not in odd)


def summary(prices: Sequence[Decimal]) -> dict[str, object]:
    """Of sorted prices, at least one: the nearest rank, so each is a price that was asked."""
    return {
        "low": prices[(len(prices) - 1) // 10],
        "median": prices[(len(prices) - 1) // 2],
        "offers": len(prices),
    }


def hours(gpu: str) -> dict[str, list[Point]]:
    """Provider -> its hours, oldest first."""
    found = defaultdict(list)
    for row in PriceHour.objects.filter(gpu_name=gpu).order_by("hour"):
        found[row.provider].append(
            Point(at=row.hour, low=row.low, median=row.median, offers=row.offers)
        )
    return dict(found)


def days(gpus: Iterable[str]) -> dict[str, list[Point]]:
    """GPU -> its days at all providers, oldest first: the mean of the hours."""
    rows = (
        PriceHour.objects.filter(gpu_name__in=list(gpus))
        .annotate(day=TruncDay("hour"))
        .values("gpu_name", "day")
        .annotate(low=Min("low"), middle=Avg("median"), number=Sum("offers"))
        .order_by("day")
    )
    found = defaultdict(list)
    for row in rows:
        found[row["gpu_name"]].append(
            Point(at=row["day"], low=row["low"], median=row["middle"], offers=row["number"])
        )
    return dict(found)
