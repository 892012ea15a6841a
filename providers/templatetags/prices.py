"""Figures of an offer as people read them."""

import re
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from django import template
from django.utils import timezone

from providers import registry, spans
from providers.countries import country_name
from providers.models import Offer

register = template.Library()
register.filter("country", country_name)
register.filter("provider_title", registry.title)
register.filter("age", spans.age)


@register.filter
def hourly(amount: Decimal | None) -> str:
    """USD per hour with three digits, without a sign: 0.089; aligned in columns."""
    return "–" if amount is None else f"{_rounded(amount, '0.001'):,f}"


@register.filter
def dollars(amount: Decimal | None) -> str:
    return "–" if amount is None else f"${_rounded(amount, '0.01'):,f}"


@register.filter
def per_terabyte(per_gb: Decimal) -> str:
    return f"${_rounded(per_gb * 1000, '0.01'):,f}/TB"


@register.filter
def gigabytes(megabytes: int) -> str:
    """Memory as it is sold: 24564 MB are 24 GB."""
    return f"{round(megabytes / 1024):,} GB"


@register.filter
def speed(mbps: int | None) -> str:
    if mbps is None:
        return "–"
    return f"{mbps} Mbit/s" if mbps < 1000 else f"{mbps / 1000:.1f} Gbit/s"


@register.filter
def percent(share: float | None) -> str:
    """Rounded down: 99.96 % is not 100 %."""
    return "–" if share is None else f"{int(share * 1000 + 1e-6) / 10:.1f} %"


@register.filter
def place(offer: Offer) -> str:
    """Germany instead of Germany, DE; Texas, US stays as it is."""
    name, _, code = offer.place.rpartition(", ")
    if name and name == country_name(code):
        return name
    return offer.place or country_name(offer.country) or "unknown place"


@register.filter
def cpu(name: str) -> str:
    """AMD EPYC 7402 24-Core Processor -> EPYC 7402."""
    noise = r"\((R|TM)\)|[®™]|\b(AMD|Intel|CPU|Processor|\d+-Cores?)\b|@.*"
    short = re.sub(noise, "", name, flags=re.I)
    return " ".join(short.split()) or name


@register.filter
def within_days(instant: datetime | None, days: int) -> bool:
    return instant is not None and instant < timezone.now() + timedelta(days=days)


@register.filter
def each(price: Decimal, count: int) -> Decimal:
    return price / count


@register.filter
def per_gigabyte(price: Decimal, memory_mb: int) -> Decimal:
    return price * 1024 / (memory_mb or 1)


@register.filter
def memory_price(offer: Offer) -> str:
    """USD per GB of GPU memory and hour, four digits."""
    memory = offer.gpu_memory_mb * offer.gpu_count
    return f"{_rounded(per_gigabyte(offer.price, memory), '0.0001'):,f}"


@register.filter
def fine(amount: Decimal | None) -> str:
    """As hourly(), with four digits."""
    return "–" if amount is None else f"{_rounded(amount, '0.0001'):,f}"


def _rounded(amount: Decimal, places: str) -> Decimal:
    return Decimal(amount).quantize(Decimal(places), ROUND_HALF_UP)
