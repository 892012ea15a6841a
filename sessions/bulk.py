"""Several sessions stopped by one request: what that would do, and what became of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from . import asks, overview
from .models import Session
from .moves import StaleSession
from .overview import Row
from .states import State

MOST = overview.OPEN_LIMIT
CODE_LENGTH = 16
STOP, ASKED, BUSY = "will be stopped", "stop asked", "not stopped: it changes just now, try again"
STOPPING, ENDED = "already stopping", "already ended"
DENIED, UNKNOWN = "not allowed", "not found"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One session that was picked; without a row when there is none that this person may see."""

    code: str
    verdict: str
    row: Row | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    lines: list[Line]

    def of(self, *verdicts: str) -> list[Line]:
        return [line for line in self.lines if line.verdict in verdicts]

    @property
    def stopped(self) -> list[Line]:
        """What this request stops, or has stopped."""
        return self.of(STOP, ASKED)

    @property
    def others(self) -> list[Line]:
        return [line for line in self.lines if line not in self.stopped]

    @property
    def so_far(self) -> Decimal:
        return sum((line.row.cost.so_far for line in self.stopped if line.row), Decimal(0))

    @property
    def per_hour(self) -> Decimal:
        costs = [line.row.cost for line in self.stopped if line.row]
        return sum((c.per_hour or Decimal(0) for c in costs if c.billing), Decimal(0))


def picked(given: Sequence[str]) -> list[str]:
    """Codes as asked for, each once; what cannot be a code is none."""
    codes = [code for code in dict.fromkeys(given) if code.isalnum() and len(code) == CODE_LENGTH]
    return codes[:MOST]


def plan(user, codes: Sequence[str], now: datetime) -> Plan:
    """What would happen; two queries, whatever the number."""
    rows = seen(user, codes, now)
    return Plan(lines=[_line(code, rows.get(code), user) for code in codes])


def stop(user, codes: Sequence[str], now: datetime) -> Plan:
    """Each as if it were stopped alone: its own transaction, its own audit. May be repeated."""
    lines = []
    for line in plan(user, codes, now).lines:
        verdict = _stop(line, user) if line.verdict == STOP else line.verdict
        lines.append(Line(code=line.code, verdict=verdict, row=line.row))
    return Plan(lines=lines)


def seen(user, codes: Sequence[str], now: datetime) -> dict[str, Row]:
    """Rows by code, of those that this person may see."""
    found = Session.objects.visible_to(user).filter(code__in=codes)
    whole = found.select_related("owner").prefetch_related("attempts")
    return {session.code: overview.row(session, now) for session in whole}


def _line(code: str, row: Row | None, user) -> Line:
    if row is None:
        return Line(code=code, verdict=UNKNOWN)
    if not asks.may_stop(user, row.session):
        return Line(code=code, verdict=DENIED, row=row)
    return Line(code=code, verdict=_present(row.session) or STOP, row=row)


def _present(session: Session) -> str:
    return {State.STOPPING: STOPPING, State.ENDED: ENDED}.get(State(session.state), "")


def _stop(line: Line, user) -> str:
    session = line.row.session
    try:
        mine = asks.stop(session, user, "user" if session.owner_id == user.pk else "admin")
    except StaleSession:
        return BUSY
    return ASKED if mine else _present(session)
