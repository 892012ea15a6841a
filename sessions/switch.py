"""What gpubroker knows of a machine's own switch (I10): by which end it goes, and if it is alive.

The switch itself is providers/dead_man.py. It is told of an extension, and asked how it is, in
the SSH looks at a running session; what counts is only what its own loop says afterwards.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from providers import dead_man, registry
from providers.waits import span

from .models import Attempt, Session
from .rules import RULES, latest_end
from .states import State

WARN_BEFORE = timedelta(minutes=10)


def exists(attempt: Attempt) -> bool:
    return registry.capabilities(attempt.provider).self_destroy


def fires_at(attempt: Attempt) -> datetime | None:
    """When the machine destroys itself if nobody else does; None = not that we know."""
    return attempt.switch_at and attempt.switch_at + span(dead_man.GRACE_SECONDS)


def behind(session: Session, attempt: Attempt) -> bool:
    """It goes by an earlier end than the session has by now."""
    return attempt.switch_at is not None and attempt.switch_at < session.expires_at


def command(session: Session, attempt: Attempt, now: datetime) -> str:
    """What to run on the machine beside the look at its GPU; empty = nothing now."""
    if session.state != State.RUNNING or not exists(attempt):
        return ""
    seen = attempt.switch_seen_at
    fresh = seen and now - seen < span(RULES.switch_look)
    if fresh and not behind(session, attempt):
        return ""
    return dead_man.move_command(session.expires_at)


def told(output: str, session: Session, now: datetime) -> dict[str, datetime | None]:
    """Columns of the attempt, from what the machine printed. One that is dead or has no means
    to act is not seen, and one that speaks of an end that cannot be is not believed."""
    report = dead_man.report(output)
    latest = max(latest_end(session.created_at), session.expires_at)
    if report is None or report.end > latest + timedelta(seconds=1):
        return {"switch_seen_at": None}
    return {"switch_at": report.end, "switch_seen_at": now if report.ready else None}


def late(session: Session, attempt: Attempt, now: datetime) -> bool:
    """An extension has not reached the machine, and soon it will be too late."""
    if session.state != State.RUNNING or attempt.is_closed or not behind(session, attempt):
        return False
    return now >= attempt.switch_at - WARN_BEFORE


def fired(session: Session, attempt: Attempt, missed_at: datetime | None) -> datetime | None:
    """When its switch must have fired, for a machine that nobody destroyed and that was missed
    first at `missed_at`. None = it was not its switch, or nobody can say."""
    at = fires_at(attempt) if attempt.switch_seen_at else None
    if at is None or missed_at is None or missed_at < at:
        return None
    outlived = session.ssh_seen_at and session.ssh_seen_at > at + span(2 * dead_man.TICK_SECONDS)
    return None if outlived else at


@dataclass(frozen=True, kw_only=True)
class OwnEnd:
    """Who ends the machine when gpubroker is off."""

    possible: bool  # the marketplace lets a machine end itself
    at: datetime | None = None
    confirmed: bool = False  # the machine itself has said so


def own_end(session: Session, attempt: Attempt | None) -> OwnEnd | None:
    """None while there is no machine, or none any more."""
    if attempt is None or attempt.is_closed or not attempt.instance_id or not session.is_open:
        return None
    if not exists(attempt):
        return OwnEnd(possible=False)
    confirmed = attempt.switch_seen_at is not None
    return OwnEnd(possible=True, at=fires_at(attempt), confirmed=confirmed)
