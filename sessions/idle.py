"""Is a machine's GPU idle, and for how long? Pure: samples in, no rows, no clock.

Unknown is not idle: a sample without figures, and a gap between samples, start all over. Network
traffic and logins say nothing about the GPU, so they do not count either way.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from providers.usage import MAX_HOURS

from .rules import Rules

IDLE_LOAD = 5  # per cent: what a desktop or a monitor causes
STEADY_MB = 100  # of GPU memory: more coming or going is somebody at work
LEAST_SAMPLES = 5  # however short the time and however seldom the looks
MIN_MINUTES, MAX_MINUTES = 15, 60 * MAX_HOURS


@dataclass(frozen=True, kw_only=True)
class Sample:
    at: datetime
    load: int | None  # per cent, of the busiest GPU; None = not known
    memory_mb: int | None  # in use, on all GPUs


@dataclass(frozen=True, kw_only=True)
class Watch:
    """The stop when idle of one session."""

    seconds: float  # idle for so long: stop; scaled like the rules
    samples: Sequence[Sample]  # oldest first, as far as they count
    stops_at: datetime | None = None  # as announced


@dataclass(frozen=True, kw_only=True)
class Idle:
    """An unbroken run of idle samples up to now, with what proves it."""

    since: datetime
    last: datetime
    count: int
    highest: int  # load, per cent

    @property
    def words(self) -> str:
        first, last = (f"{at:%H:%M:%S}" for at in (self.since, self.last))
        return f"{self.count} looks from {first} to {last} UTC, GPU at most {self.highest} % busy"


def stretch(samples: Iterable[Sample], rules: Rules, now: datetime) -> Idle | None:
    """The newest run of idle samples (given oldest first); None when the GPU works, or might."""
    run: list[Sample] = []
    later, gap = now, timedelta(seconds=rules.idle_gap)
    for sample in reversed(list(samples)):
        if not _idle(sample) or abs(later - sample.at) > gap or not _steady([*run, sample]):
            break
        run.append(sample)
        later = sample.at
    if not run:
        return None
    highest = max(sample.load or 0 for sample in run)
    return Idle(since=run[-1].at, last=run[0].at, count=len(run), highest=highest)


def _idle(sample: Sample) -> bool:
    known = sample.load is not None and sample.memory_mb is not None
    return known and sample.load <= IDLE_LOAD


def _steady(run: Sequence[Sample]) -> bool:
    used = [sample.memory_mb or 0 for sample in run]
    return max(used) - min(used) <= STEADY_MB


def full_at(found: Idle, watch: Watch) -> datetime:
    """When this run has lasted long enough, if it goes on."""
    return found.since + timedelta(seconds=watch.seconds)


def announced(found: Idle, watch: Watch, rules: Rules, now: datetime) -> datetime | None:
    """When to stop, once it is time to warn of it: never without the whole time of a warning."""
    notice = timedelta(seconds=rules.idle_notice)
    full = full_at(found, watch)
    return max(full, now + notice) if now >= full - notice else None


def over(found: Idle, watch: Watch) -> bool:
    """Idle for all of the time, warned of, and still so at a look after the announced moment."""
    if watch.stops_at is None or found.count < LEAST_SAMPLES:
        return False
    return found.last >= max(watch.stops_at, full_at(found, watch))
