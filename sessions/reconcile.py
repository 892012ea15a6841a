"""Sessions that are due: load -> decide -> one external call -> apply.

`claim` and `finish` run in the slice's main thread and touch only the database; `perform` runs
in any thread and touches only the network. Each step may be lost, doubled or overtaken.
"""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Case, F, Q, When

from providers import stats
from providers.waits import seconds

from . import answers, lifecycle, steps
from .calls import Call
from .evidence import Scene, gather, rules
from .models import Session
from .moves import StaleSession
from .states import State

logger = logging.getLogger(__name__)

CLAIM_SECONDS = 150  # longer than any call's total deadline
CLAIM_AT_LEAST = 15  # network deadlines do not shrink with the clock factor below 5 s
STEPS_IN_A_ROW = 12
POISON_SECONDS = 60  # a row that breaks our own code comes back, but does not block the others


def claim(limit: int, now: datetime) -> list[Call]:
    """Carry due sessions as far as the database allows; return the calls that must be made."""
    due = claim_due(limit, now)
    if not due:
        return []
    scene = Scene()
    calls = [advance(session, scene, now) for session in due]
    return [call for call in calls if call]


def claim_due(limit: int, now: datetime) -> list[Session]:
    """Take due sessions by compare-and-set on the fence; stops come first."""
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lt=now)
    first = Case(When(state=State.STOPPING, then=0), default=1)
    due = Session.objects.open().filter(free, due_at__lte=now).order_by(first, "due_at")[:limit]
    return [session for session in due if take(session, now)]


def take(session: Session, now: datetime) -> bool:
    until = now + timedelta(seconds=max(CLAIM_AT_LEAST, seconds(CLAIM_SECONDS)))
    mine = Session.objects.filter(pk=session.pk, fence=session.fence)
    if not mine.update(fence=F("fence") + 1, claimed_until=until):
        return False
    session.fence += 1
    return True


def advance(session: Session, scene: Scene, now: datetime) -> Call | None:
    """Decide and apply until a call is needed or there is nothing to do; then let go."""
    try:
        for _ in range(STEPS_IN_A_ROW):
            facts = gather(session, scene, now)
            action = lifecycle.decide(facts, rules(session.provider), now)
            call_or_more = steps.apply(session, action, now)
            if isinstance(call_or_more, Call):
                return call_or_more
            if not call_or_more:
                break
    except StaleSession:
        logger.info("session %s was moved by somebody else", session.code)
    except Exception:  # our own bug: the others must go on, and this one must be seen
        logger.exception("session %s cannot be advanced", session.code)
        later = now + timedelta(seconds=POISON_SECONDS)
        Session.objects.filter(pk=session.pk, fence=session.fence).update(due_at=later)
    let_go(session.pk, session.fence)
    return None


def perform(call: Call) -> stats.Timed:
    """Network only. An exception here is a bug; it is reported as such and the step repeats."""
    return stats.timed(lambda: _perform(call))


def _perform(call: Call) -> object:
    try:
        return call.perform()
    except Exception as error:
        logger.exception("%s of %s", type(call).__name__, call.label)
        return error


def finish(call: Call, timed: stats.Timed, now: datetime) -> None:
    """Write down what came back, whoever owns the session by now; then let go.

    A commit may succeed without telling: an answer that is told again is an overtaken one.
    """
    with transaction.atomic():
        answers.apply(call, timed.answer, now)
        if call.lane:
            found = stats.verdict(timed.answer)
            stats.note(call.provider, call.lane, timed.seconds, found, now)
        let_go(call.session_id, call.fence)


def let_go(session_id: object, fence: int) -> None:
    mine = Session.objects.filter(pk=session_id, fence=fence)
    mine.update(claimed_until=None, fence=F("fence") + 1)
