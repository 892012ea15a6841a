"""Figures as people read them: money with its unit, times in two units at most."""

from decimal import ROUND_HALF_UP, Decimal

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

from providers import spans

register = template.Library()
register.filter("duration", spans.duration)
register.filter("left", spans.left)
register.filter("age", spans.age)


@register.filter
def dotted(name: str) -> SafeString:
    """A long name, which may be broken after its dots."""
    return format_html_join(mark_safe(".<wbr>"), "{}", ((part,) for part in name.split(".")))


@register.filter
def money(amount: Decimal | None) -> str:
    """$12.35, $0.0017: four digits below a dime, where cents say nothing."""
    if amount is None:
        return "–"
    places = Decimal("0.0001") if 0 < abs(amount) < Decimal("0.1") else Decimal("0.01")
    return f"${amount.quantize(places, ROUND_HALF_UP):,f}"


@register.filter
def rate(amount: Decimal | None) -> str:
    """USD per hour with three digits: $0.089."""
    if amount is None:
        return "–"
    return f"${amount.quantize(Decimal('0.001'), ROUND_HALF_UP):,f}"
