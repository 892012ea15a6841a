"""How each marketplace answers: calls, errors and latencies by the hour, for people to see."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from .base import (
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    RateLimited,
)
from .models import CallHour

# Upper bounds of the buckets in seconds; one more bucket holds what took longer.
BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120)
KEEP = timedelta(days=31)
TOO_OFTEN = 429


class Verdict(StrEnum):
    ANSWERED = "answered"  # also "gone", "no funds" or "wrong": the marketplace works
    ERROR = "error"
    RATE_LIMITED = "rate_limited"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What a call brought back, and the real seconds that it took."""

    answer: object
    seconds: float = 0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Calls of some hours together. Rates are shares of the calls; seconds are estimates."""

    calls: int = 0
    errors: int = 0
    rate_limited: int = 0
    latencies: tuple[int, ...] = ()

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.calls if self.calls else None

    @property
    def rate_limited_rate(self) -> float | None:
        return self.rate_limited / self.calls if self.calls else None

    @property
    def p50(self) -> float | None:
        return percentile(self.latencies, 0.5)

    @property
    def p95(self) -> float | None:
        return percentile(self.latencies, 0.95)


def timed(call: Callable[[], object]) -> Timed:
    """For network threads: no clock but a monotonic one, no database."""
    start = time.monotonic()
    answer = call()
    return Timed(answer=answer, seconds=time.monotonic() - start)


def verdict(answer: object) -> Verdict:
    """Of whatever a call brings back: records, outcomes or errors."""
    match answer:
        case RateLimited() | CreateResult(outcome=CreateOutcome.RATE):
            return Verdict.RATE_LIMITED
        case DestroyResult(outcome=DestroyOutcome.RETRY, http_status=status):
            return Verdict.RATE_LIMITED if status == TOO_OFTEN else Verdict.ERROR
        case CreateResult(outcome=CreateOutcome.UNKNOWN | CreateOutcome.NOT_SENT):
            return Verdict.ERROR
        case CreateResult(outcome=CreateOutcome.AUTH) | Exception():
            return Verdict.ERROR
    return Verdict.ANSWERED


def note(provider: str, operation: str, seconds: float, found: Verdict, now: datetime) -> None:
    """One more call. The last thing in the caller's transaction: it holds the row's lock."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    rows = CallHour.objects.select_for_update()
    row, new = rows.get_or_create(provider=provider, operation=operation, hour=hour)
    row.calls += 1
    row.errors += found == Verdict.ERROR
    row.rate_limited += found == Verdict.RATE_LIMITED
    row.latencies = row.latencies or [0] * (len(BOUNDS) + 1)
    if found == Verdict.ANSWERED:
        row.latencies[bucket(seconds)] += 1
    row.save(update_fields=["calls", "errors", "rate_limited", "latencies"])
    if new:
        old = CallHour.objects.filter(provider=provider, operation=operation)
        old.filter(hour__lt=hour - KEEP).delete()


def bucket(seconds: float) -> int:
    return next((i for i, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))


def percentile(latencies: Iterable[int], share: float) -> float | None:
    """Seconds, evenly spread inside a bucket; beyond the last bound that bound. None = no calls."""
    counts = list(latencies)
    wanted, below, lower = sum(counts) * share, 0, 0.0
    for count, bound in zip(counts, (*BOUNDS, BOUNDS[-1]), strict=False):
        if count and below + count >= wanted:
            return lower + (bound - lower) * (wanted - below) / count
        below, lower = below + count, bound
    return None


def together(rows: Iterable[CallHour]) -> Figures:
    rows = list(rows)
    columns = zip(*(row.latencies for row in rows if row.latencies), strict=False)
    return Figures(
        calls=sum(row.calls for row in rows),
        errors=sum(row.errors for row in rows),
        rate_limited=sum(row.rate_limited for row in rows),
        latencies=tuple(sum(column) for column in columns),
    )


def since(now: datetime, hours: int) -> datetime:
    """The start of the clock hour that many hours before this one."""
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours)
