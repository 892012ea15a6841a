"""What a session's page shows of its GPUs: the last looks as a chart, and how long idle."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from providers.waits import seconds, span

from . import idle
from .evidence import counting, samples
from .idle import Sample
from .models import Session
from .rules import RULES
from .states import State

SHOWN = 7200  # seconds
WIDTH, HEIGHT, EDGE = 600, 64, 2  # of the drawing


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Paths of an SVG of WIDTH x HEIGHT; gaps are where nothing is known."""

    load: str
    memory: str
    first: datetime
    last: datetime
    words: str


@dataclass(frozen=True, kw_only=True)
class Load:
    running: bool
    minutes: int | None  # idle for so long: stopped
    newest: Sample | None = None
    memory_mb: int = 0  # of all GPUs
    idle_since: datetime | None = None
    stops_at: datetime | None = None  # if it stays idle
    warned: bool = False
    chart: Chart | None = None


def load(session: Session, now: datetime) -> Load | None:
    """One query. None while there is nothing to be seen: before the machine is handed out."""
    running = session.state == State.RUNNING
    if not running and (session.verified_at is None or session.found.get("problems")):
        return None
    known = samples(session, (now if running else session.state_since) - span(needed(session)))
    found = idle.stretch(counting(session, known), RULES.scaled(), now) if running else None
    memory = sum(int(gpu[1]) for gpu in session.found.get("gpus", []))
    return Load(
        running=running,
        minutes=session.idle_minutes,
        newest=known[-1] if known else None,
        memory_mb=memory,
        idle_since=found.since if found else None,
        stops_at=stops_at(session, found) if running else None,
        warned=running and session.idle_stops_at is not None,
        chart=chart(known, memory) if known else None,
    )


def needed(session: Session) -> float:
    """Seconds to look back."""
    return max(SHOWN, 60 * (session.idle_minutes or 0) + RULES.idle_notice + RULES.idle_gap)


def stops_at(session: Session, found: idle.Idle | None) -> datetime | None:
    """As announced, or as it will be announced if the GPU stays idle."""
    if session.idle_stops_at or not session.idle_minutes or found is None:
        return session.idle_stops_at
    return found.since + span(60 * session.idle_minutes)


def chart(known: Sequence[Sample], memory_mb: int) -> Chart:
    """Up to the newest look, so that the drawing changes with a look and not with the clock."""
    last = known[-1].at
    shown = [s for s in known if last - s.at <= span(SHOWN)]
    return Chart(
        load=path(shown, lambda s: s.load, 100),
        memory=path(shown, lambda s: s.memory_mb, memory_mb or 1),
        first=shown[0].at,
        last=last,
        words=words(shown, memory_mb),
    )


def path(shown: Sequence[Sample], figure: Callable[[Sample], int | None], most: int) -> str:
    parts, before = [], None
    for sample in shown:
        value = figure(sample)
        if value is None:
            before = None
            continue
        far = before is None or sample.at - before > span(RULES.idle_gap)
        x = WIDTH - (shown[-1].at - sample.at).total_seconds() / seconds(SHOWN) * WIDTH
        y = HEIGHT - EDGE - min(value / most, 1) * (HEIGHT - 2 * EDGE)
        parts.append(f"{'M' if far else 'L'}{x:.1f} {y:.1f}" + ("h.1" if far else ""))
        before = sample.at
    return "".join(parts)


def words(shown: Sequence[Sample], memory_mb: int) -> str:
    """The chart for people who do not see it."""
    return "; ".join(_words(shown, memory_mb))


def _words(shown: Sequence[Sample], memory_mb: int) -> Iterator[str]:
    loads = [s.load for s in shown if s.load is not None]
    used = [s.memory_mb for s in shown if s.memory_mb is not None]
    minutes = max(1, round((shown[-1].at - shown[0].at) / timedelta(minutes=1)))
    yield f"{len(shown)} look{'s' if len(shown) > 1 else ''} in {minutes} min"
    if loads:
        yield f"GPU {min(loads)} to {max(loads)} % busy"
    if used:
        yield f"memory in use {min(used):,} to {max(used):,} of {memory_mb:,} MB"
    if len(loads) < len(shown):
        yield f"{len(shown) - len(loads)} without figures"
