"""The list of sessions and its totals, as plain values for `_list.html` and `_strip.html`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Q

from providers import registry
from providers.waits import span

from . import explain, money, page, progress
from .models import Attempt, Session, SessionQuerySet
from .rules import RULES
from .states import WAITING, Resolution, State

OPEN_LIMIT = 200
ENDED_LIMIT = 20
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


@dataclass(frozen=True, kw_only=True)
class Overview:
    attention: list[Row]
    open: list[Row]
    ended: list[Row]
    more: int  # ended sessions that are not shown
    page: int = 1

    @property
    def rows(self) -> list[Row]:
        return [*self.attention, *self.open, *self.ended]

    @property
    def layout(self) -> tuple[tuple[str, str], ...]:
        """Which session stands where: as long as it is the same, single rows can be replaced."""
        return tuple((row.session.code, row.section) for row in self.rows)


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
        today=sum((money.spent_since(a, midnight, now) for a in attempts), Decimal(0)),
        next_expiry=min(ends, default=None),
        as_of=now,
    )


def overview(visible: SessionQuerySet, now: datetime, number: int = 1) -> Overview:
    """The open sessions, and one page of the ended ones, newest first. Five queries."""
    whole = visible.select_related("owner").prefetch_related("attempts")
    opened = [row(s, now) for s in whole.open().order_by("-created_at")[:OPEN_LIMIT]]
    ended = visible.filter(state=State.ENDED)
    count, start = ended.count(), (number - 1) * ENDED_LIMIT
    shown = whole.filter(state=State.ENDED).order_by("-ended_at")[start : start + ENDED_LIMIT]
    return Overview(
        attention=[r for r in opened if r.section == ATTENTION],
        open=[r for r in opened if r.section == OPEN],
        ended=[row(s, now) for s in shown],
        more=max(count - start - ENDED_LIMIT, 0),
        page=number,
    )


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
    if session.state == State.RUNNING and session.expires_at - now < page.ENDS_SOON:
        return "ends soon: extend it, or let it end"
    return ""


def sentence(session: Session, attempts: Sequence[Attempt], provider: str) -> str:
    attempt = attempts[-1] if attempts else None
    if session.state in WAITING:
        return f"waiting for {progress.waiting(session, attempt, provider)[0]}"
    if session.state == State.RUNNING:
        return "SSH and GPU verified"
    why = explain.reason(session.reason).title
    return why if session.state == State.ENDED else f"{why}: waiting for proof that it is gone"
