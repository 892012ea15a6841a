"""The audit's chain verified all the time, a piece at a time; the verdict stands in one row.

Heartbeat "audit": `at` = when it was looked at last, and in `data`

    ok             False from the first bad event on, until a later look finds none
    sequence, head the newest event that was verified, and its hash
    whole_at       when the last round through the whole chain ended without a fault, or ""
    problem        a sentence; first_bad = its event, or null
    broken_since   when a look first found it, or ""
    round          how far the present round has come: {sequence, hash}

New events are verified at the next look. A round goes through all old ones again, so that a later
edit is found as well.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from . import audit
from .audit import START, Anchor
from .models import AuditEvent, Heartbeat

NAME = "audit"
NOTHING = {
    "ok": True, "sequence": 0, "head": START.hash, "whole_at": "", "problem": "",
    "first_bad": None, "broken_since": "", "round": {"sequence": 0, "hash": START.hash},
}  # fmt: skip
AT_ONCE = 5000  # events a look, twice: the new ones, and the next piece of the round


@dataclass(frozen=True, kw_only=True)
class Verdict:
    at: datetime
    ok: bool
    sequence: int
    head: str
    whole_at: datetime | None
    problem: str
    first_bad: int | None
    broken_since: datetime | None


def verdict() -> Verdict | None:
    """The newest; None = nothing was ever verified. One query."""
    row = Heartbeat.objects.filter(name=NAME).first()
    if row is None:
        return None
    data = row.data
    return Verdict(
        at=row.at,
        ok=bool(data["ok"]),
        sequence=int(data["sequence"]),
        head=str(data["head"]),
        whole_at=_instant(data["whole_at"]),
        problem=str(data["problem"]),
        first_bad=data["first_bad"],
        broken_since=_instant(data["broken_since"]),
    )


def look(now: datetime) -> bool:
    """One piece. False = another process does it, or did a moment ago."""
    row, _ = Heartbeat.objects.get_or_create(
        name=NAME, defaults={"at": now - timedelta(days=1), "data": NOTHING}
    )
    found = _judged(row.data, now)
    mine = Heartbeat.objects.filter(name=NAME, at=row.at)
    return bool(mine.update(at=max(now, row.at + timedelta(microseconds=1)), data=found))


def _judged(before: dict[str, Any], now: datetime) -> dict[str, Any]:
    newest = _still_there(Anchor(sequence=before["sequence"], hash=before["head"]))
    turn = bad = _still_there(Anchor(**before["round"]))
    lost = problem = audit.anchor_problem()
    if not problem:
        newest, problem = _piece(newest)
        bad = newest
    if not problem:
        turn, problem = _piece(turn)
        bad = turn
    ended = not problem and not AuditEvent.objects.filter(sequence__gt=turn.sequence).exists()
    turn = START if ended else turn
    return {
        "ok": not problem,
        "sequence": newest.sequence,
        "head": newest.hash,
        "whole_at": now.isoformat() if ended else before["whole_at"],
        "problem": problem,
        "first_bad": bad.sequence + 1 if problem and not lost else None,
        "broken_since": (before["broken_since"] or now.isoformat()) if problem else "",
        "round": {"sequence": turn.sequence, "hash": turn.hash},
    }


def _piece(start: Anchor) -> tuple[Anchor, str]:
    anchor = audit.read_anchor()  # before the rows, see audit.verify
    return audit.walk(audit.stored(start.sequence, AT_ONCE), start, anchor)


def _still_there(place: Anchor) -> Anchor:
    """From the start again, when an operator has declared an older database the true one."""
    known = AuditEvent.objects.filter(sequence=place.sequence, hash=place.hash)
    return place if known.exists() else START


def _instant(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
