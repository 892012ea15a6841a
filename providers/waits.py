"""The one place where waiting times meet the clock factor: rules at x20 are the same rules."""

from datetime import timedelta

from django.conf import settings


def seconds(real: float) -> float:
    """Real seconds of a rule -> seconds to wait now (GPUBROKER_TIME_SCALE times fewer)."""
    return real / settings.TIME_SCALE


def span(real: float) -> timedelta:
    return timedelta(seconds=seconds(real))
