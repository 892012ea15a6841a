"""The list of sessions and its totals, as plain values for `_list.html` and `_strip.html`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Q, prefetch_related_objects

from providers import registry
from providers.waits import span

from . import explain, money, page, progress
from .models import Attempt, Session, SessionQuerySet
from .rules import RULES
from .states import WAITING, Resolution, State

OPEN_LIMIT = 200
ENDED_LIMIT = 20
PERIODS = {1: "1 day", 7: "7 days", 30: "30 days", 0: "All"}  # of ended sessions, by days
USUAL_PERIOD = 7
ATTENTION, OPEN, ENDED = "attention", "open", "ended"


@dataclass(frozen=True, kw_only=True)
class Totals:
    running: int
    open: int
    attention: int
    per_hour: Decimal
    today: Decimal
    next_expiry: datetime | None
    as_of: datetime


@dataclass(frozen=True, kw_only=True)
class Row:
    session: Session
    name: str
    where: str
    status: str
    tone: str
    section: str
    line: str  # one sentence on what goes on
    owner: str
    cost: money.Cost
    ends_soon: bool

    @property
    def stoppable(self) -> bool:
        return self.session.state not in (State.STOPPING, State.ENDED)


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What is open: those that need a person before all others."""

    attention: list[Row]
    open: list[Row]
    hidden: int = 0  # open sessions beyond those that are shown

    @property
    def rows(self) -> list[Row]:
        return [*self.attention, *self.open]

    @property
    def layout(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Which session stands where: as long as it is the same, single rows can be replaced."""
        return self.hidden, tuple((row.session.code, row.section) for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One page of the sessions that ended within so many days (0 = ever), newest first."""

    rows: list[Row]
    days: int
    count: int
    page: int
    pages: int

    @property
    def period(self) -> str:
        return PERIODS[self.days]


def totals(visible: SessionQuerySet, now: datetime) -> Totals:
    """Two queries, whatever the number of sessions."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    sessions = list(visible.open())
    spent = Attempt.objects.filter(session__in=visible, sent_at__isnull=False)
    spent = spent.exclude(resolution=Resolution.NOT_CREATED)
    attempts = list(spent.filter(Q(gone_at__isnull=True) | Q(gone_at__gte=midnight)))
    ends = (s.expires_at for s in sessions if s.state != State.STOPPING)
    return Totals(
        running=sum(s.state == State.RUNNING for s in sessions),
        open=len(sessions),
        attention=sum(bool(trouble(s, now)) for s in sessions),
        per_hour=sum((money.price(a) for a in attempts if money.is_billing(a)), Decimal(0)),
        today=sum((a.cost(now, midnight) for a in attempts), Decimal(0)),
        next_expiry=min(ends, default=None),
        as_of=now,
    )


def overview(visible: SessionQuerySet, now: datetime) -> Overview:
    """Two queries. Trouble is looked for in all that is open, however many are shown."""
    opened = list(visible.open().select_related("owner").order_by("-created_at"))
    opened.sort(key=lambda session: not trouble(session, now))  # keeps the order otherwise
    shown = opened[:OPEN_LIMIT]
    prefetch_related_objects(shown, "attempts")
    rows = [row(session, now) for session in shown]
    return Overview(
        attention=[r for r in rows if r.section == ATTENTION],
        open=[r for r in rows if r.section == OPEN],
        hidden=len(opened) - len(shown),
    )


def ended(visible: SessionQuerySet, now: datetime, days: int, number: int) -> Ended:
    """Three queries. A page beyond the last one is the last one."""
    found = visible.filter(state=State.ENDED)
    if days:
        found = found.filter(ended_at__gte=now - timedelta(days=days))
    count = found.count()
    pages = max(-(-count // ENDED_LIMIT), 1)
    number = min(number, pages)
    whole = found.select_related("owner").prefetch_related("attempts").order_by("-ended_at", "pk")
    shown = whole[(number - 1) * ENDED_LIMIT : number * ENDED_LIMIT]
    rows = [row(session, now) for session in shown]
    return Ended(rows=rows, days=days, count=count, page=number, pages=pages)


def row(session: Session, now: datetime) -> Row:
    """`session` comes with its attempts and its owner loaded."""
    attempts = sorted(session.attempts.all(), key=lambda a: a.number)
    attempt = attempts[-1] if attempts else None
    title = registry.title(attempt.provider if attempt else session.provider)
    worry = trouble(session, now)
    section = ENDED if not session.is_open else ATTENTION if worry else OPEN
    return Row(
        session=session,
        name=page.name(session, attempt),
        where=" · ".join(filter(None, (page.place(attempt), title))),
        status=page.status(session),
        tone=page.tone(session),
        section=section,
        line=worry or sentence(session, attempts, title),
        owner=session.owner.get_username(),
        cost=money.cost(session, attempts, now),
        ends_soon=session.is_open and session.expires_at - now < page.ENDS_SOON,
    )


def trouble(session: Session, now: datetime) -> str:
    """Why a person should look at an open session; empty = all goes its way."""
    if not session.is_open:
        return ""
    if session.provider not in registry.names():
        return "its marketplace is no longer configured"
    if session.host_key_changed and session.state == State.RUNNING:
        return "the SSH host key changed"
    if session.unreachable_since and session.state == State.RUNNING:
        return "SSH does not answer"
    if session.state == State.STOPPING:
        late = now - session.state_since > span(RULES.destroy_alert)
        return "not yet gone, still being destroyed" if late else ""
    if session.state == State.RUNNING and session.idle_stops_at:
        return f"idle: stops at {session.idle_stops_at:%H:%M} UTC unless it is used"
    if session.state == State.RUNNING and session.expires_at - now < page.ENDS_SOON:
        return "ends soon: extend it, or let it end"
    return ""


def sentence(session: Session, attempts: Sequence[Attempt], provider: str) -> str:
    attempt = attempts[-1] if attempts else None
    if session.state in WAITING:
        return f"waiting for {progress.waiting(session, attempt, provider)[0]}"
    if session.state == State.RUNNING:
        return "SSH and GPU verified"
    why = explain.why(session).title
    return why if session.state == State.ENDED else f"{why}: waiting for proof that it is gone"
