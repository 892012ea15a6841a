"""The one writer of a session: compare-and-set, with the audit row in the same transaction."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from . import audit
from .models import Session
from .states import NEXT, State


class StaleSession(Exception):
    """Somebody else moved the session first; nothing was written."""


def move(
    session: Session,
    to: State,
    *,
    actor: str,
    why: str = "",
    now: datetime | None = None,
    **changes: Any,
) -> None:
    """Next state and audit row, together or not at all. Raises StaleSession."""
    if to not in NEXT[State(session.state)]:
        raise ValueError(f"{session.state} -> {to}")
    now = now or timezone.now()
    data = {"from": str(session.state), "to": str(to)}
    changes = {"state": to, "state_since": now, "failures": 0, "due_at": now} | changes
    with transaction.atomic():
        change(session, now=now, **changes)
        audit.append("session.state", session=session, actor=actor, reason=why, data=data, now=now)


def stop(
    session: Session,
    reason: str,
    text: str,
    outcome: str,
    *,
    actor: str,
    now: datetime | None = None,
) -> None:
    """To stopping; outcome and reason are written here alone, and once. Raises StaleSession."""
    words: dict[str, Any] = {"reason": reason, "reason_text": text[:500], "outcome": outcome}
    asked = now or timezone.now()
    move(
        session,
        State.STOPPING,
        actor=actor,
        why=reason,
        now=asked,
        stop_requested_at=asked,
        **words,
    )


def change(session: Session, *, now: datetime | None = None, **changes: Any) -> None:
    """Write some columns while state and fence are those we read. Raises StaleSession."""
    changes |= {"changed_at": now or timezone.now()}
    same = Session.objects.filter(pk=session.pk, state=session.state, fence=session.fence)
    if not same.update(version=F("version") + 1, **changes):
        raise StaleSession(session.code)
    session.version += 1
    for name, value in changes.items():
        setattr(session, name, value)
