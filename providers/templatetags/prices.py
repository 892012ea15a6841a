"""Figures of an offer as people read them."""

from decimal import ROUND_HALF_UP, Decimal

from django import template

from providers import registry
from providers.countries import country_name

register = template.Library()
register.filter("country", country_name)
register.filter("provider_title", registry.title)


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
def each(price: Decimal, count: int) -> Decimal:
    return price / count


@register.filter
def less(price: Decimal, other: Decimal) -> Decimal:
    return price - other


def _rounded(amount: Decimal, places: str) -> Decimal:
    return Decimal(amount).quantize(Decimal(places), ROUND_HALF_UP)
