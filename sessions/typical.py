"""How long each step of a start usually takes on a marketplace: our own record of 30 days."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from statistics import median, quantiles

from .models import Attempt
from .progress import DONE, Typical, milestones, walk

KEPT = timedelta(days=30)
NEWEST = 300  # starts that came through
LEAST = 5  # below that a number would say nothing
COLUMNS = (
    "answered_at",
    "sent_at",
    "resolved_at",
    "ready_at",
    "instance_id",
    "outcome",
    "resolution",
)
COLUMNS += tuple(
    f"session__{name}"
    for name in (
        "created_at",
        "ssh_open_at",
        "ssh_key_at",
        "verified_at",
        "found",
        "state",
        "state_since",
    )
)
REREAD = timedelta(minutes=1)


def of(provider: str, now: datetime) -> Mapping[str, Typical]:
    """By the names of the steps; read from the database once a minute and process."""
    return _of(provider, int(now.timestamp() // REREAD.total_seconds()), now.tzinfo)


@lru_cache(maxsize=16)
def _of(provider: str, minute: int, zone: object) -> Mapping[str, Typical]:
    now = datetime.fromtimestamp(minute * REREAD.total_seconds(), zone)
    return summary(durations(_starts(provider, now)))


forget = _of.cache_clear


def _starts(provider: str, now: datetime) -> Iterable[Attempt]:
    came_through = Attempt.objects.filter(
        provider=provider, ready_at__isnull=False, session__verified_at__gte=now - KEPT
    )
    return came_through.select_related("session").only(*COLUMNS).order_by("-pk")[:NEWEST]


def durations(attempts: Iterable[Attempt]) -> dict[str, list[float]]:
    """The seconds of every step that was done, by its name."""
    found = defaultdict(list)
    for attempt in attempts:
        for step in walk(milestones(attempt.session, attempt)):
            if step.state == DONE and step.seconds is not None:
                found[step.name].append(step.seconds)
    return found


def nine_of_ten(times: Sequence[float]) -> float:
    return quantiles(times, n=10, method="inclusive")[-1]


def summary(found: Mapping[str, Sequence[float]]) -> dict[str, Typical]:
    return {
        name: Typical(middle=median(times), most=nine_of_ten(times), count=len(times))
        for name, times in found.items()
        if len(times) >= LEAST
    }
