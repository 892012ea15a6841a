"""The attempts of a session as lines of its page: what was tried, how it went, what it meant."""

from dataclasses import dataclass
from datetime import datetime

from . import explain, money
from .models import Attempt, Session, Sighting
from .states import Resolution, State


@dataclass(frozen=True, kw_only=True)
class AttemptLine:
    number: int
    what: str
    offer: str
    price: object
    tone: str
    verdict: str
    note: str = ""
    words: str = ""
    proof: tuple[datetime, ...] = ()


def name(session: Session, attempt: Attempt | None) -> str:
    facts = attempt.offer if attempt else {}
    gpu = facts.get("gpu_name") or session.gpu_name
    count = facts.get("gpu_count") or session.gpu_count
    return f"{count}× {gpu}" if count > 1 else gpu


def place(attempt: Attempt | None) -> str:
    return (attempt.offer.get("place") or attempt.offer.get("country") or "") if attempt else ""


def attempt_line(attempt: Attempt, session: Session, late: Sighting | None) -> AttemptLine:
    tone, verdict, note = late_verdict(late) if late else attempt_verdict(attempt, session)
    where = " · ".join(
        filter(None, (place(attempt), machine(attempt), f"offer {attempt.offer_id}"))
    )
    return AttemptLine(
        number=attempt.number,
        what=name(session, attempt),
        offer=where,
        price=money.price(attempt),
        tone=tone,
        verdict=verdict,
        note=note,
        words=attempt.message or refusal(attempt),
        proof=proof(attempt),
    )


def machine(attempt: Attempt) -> str:
    number = str(attempt.offer.get("machine_id") or "")
    return f"host {number}" if number else ""


def attempt_verdict(attempt: Attempt, session: Session) -> tuple[str, str, str]:
    """(tone, verdict, what it means for money)."""
    instance = f"instance {attempt.instance_id}" if attempt.instance_id else ""
    if attempt.resolution == Resolution.NOT_CREATED:
        why = explain.OUTCOMES.get(attempt.outcome, "") if attempt.outcome != "unknown" else ""
        return "bad", "not created", f"{why or 'No machine appeared'}. Nothing billed."
    if attempt.resolution == Resolution.GONE:
        left = "Refused, but a machine was left behind: " if attempt.outcome == "leftover" else ""
        return "ok", "confirmed gone", f"{left}{instance}"
    if attempt.resolution == Resolution.LEFTOVER:
        return "bad", "refused, left a machine", f"{instance}: being destroyed"
    if attempt.instance_id:
        busy = "being destroyed" if session.state == State.STOPPING else ""
        unclear = "found by its label after an unclear answer"
        how = unclear if attempt.outcome == "unknown" else ""
        verdict = {State.RUNNING: ("ok", "in use"), State.STOPPING: ("warn", "stopping")}
        tone, word = verdict.get(State(session.state), ("live", "starting"))
        return tone, word, ", ".join(filter(None, (instance, how, busy)))
    if attempt.sent_at is None:
        return "", "waiting", "Nothing sent yet."
    if attempt.outcome == "unknown":
        return "warn", "no clear answer", "Looked up by its label; never sent a second time."
    return "live", "asked", "Waiting for the answer."


def late_verdict(late: Sighting) -> tuple[str, str, str]:
    """A machine that turned up when its create had been given up: an orphan until it is gone."""
    if late.gone_at:
        return "ok", "came late, gone", f"instance {late.instance_id}, destroyed without a session"
    return "bad", "came late", f"instance {late.instance_id}: being destroyed, billed until then"


def proof(attempt: Attempt | None) -> tuple[datetime, ...]:
    """When the two (first and last) readings were made that did not find the machine."""
    if attempt is None or attempt.absences < 2:
        return ()
    return tuple(at for at in (attempt.first_absence_at, attempt.last_absence_at) if at)


def refusal(attempt: Attempt | None) -> str:
    """Why the destroy was not accepted so far."""
    return attempt.destroy_message if attempt and not attempt.destroy_accepted_at else ""
