"""Figures on how a marketplace answers, as people read them."""

from decimal import Decimal

from django import template

register = template.Library()


@register.filter
def latency(seconds: float | None) -> str:
    """Estimates: two digits are all that they are good for."""
    if seconds is None:
        return "–"
    digits = 2 if seconds < 1 else 1 if seconds < 10 else 0
    return f"{seconds:.{digits}f} s"


@register.filter
def rate(share: float | None) -> str:
    """None at all is "0 %"; few are never rounded away."""
    if not share:
        return "–" if share is None else "0 %"
    return "< 0.1 %" if share < 0.001 else f"{share * 100:.1f} %"


@register.filter
def whole_percent(share: float) -> str:
    """Rounded down: 199 of 200 are not 100 %."""
    return f"{int(share * 100 + 1e-9)} %"


@register.filter
def hours(amount: Decimal) -> str:
    """41.2 -> 41 h; 0.6 -> 36 min; days from two on."""
    minutes = int(amount * 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60:,} h" if minutes < 48 * 60 else f"{minutes // 1440:,} days"
