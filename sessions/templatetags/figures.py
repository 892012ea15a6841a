"""Figures as people read them: money with its unit, times in two units at most."""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from django import template
from django.utils import timezone

register = template.Library()
MINUTE, HOUR, DAY = 60, 3600, 86400


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


@register.filter
def duration(value: float | timedelta | None) -> str:
    """1.2 s, 41 s, 3 min 5 s, 3 h 58 min, 2 d 4 h."""
    if value is None:
        return ""
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return _two(whole, MINUTE, "min", 1, "s")
    if whole < DAY:
        return _two(whole, HOUR, "h", MINUTE, "min")
    return _two(whole, DAY, "d", HOUR, "h")


def _two(whole: int, big: int, big_name: str, small: int, small_name: str) -> str:
    rest = whole % big // small
    return f"{whole // big} {big_name}" + (f" {rest} {small_name}" if rest else "")


@register.filter
def left(instant: datetime | None) -> str:
    """Time from now until then; "now" once it is over."""
    if instant is None:
        return ""
    seconds = (instant - timezone.now()).total_seconds()
    return duration(seconds) if seconds > 0 else "now"


@register.filter
def age(instant: datetime | None) -> str:
    return duration(timezone.now() - instant) if instant else ""
