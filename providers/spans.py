"""Spans of time as people read them: in two units at most, as live.js counts them on."""

from datetime import datetime, timedelta

from django.utils import timezone

MINUTE, HOUR, DAY = 60, 3600, 86400


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


def left(instant: datetime | None) -> str:
    """Time from now until then; "now" once it is over."""
    if instant is None:
        return ""
    seconds = (instant - timezone.now()).total_seconds()
    return duration(seconds) if seconds > 0 else "now"


def age(instant: datetime | None) -> str:
    return duration(timezone.now() - instant) if instant else ""
