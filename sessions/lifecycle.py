"""decide(facts, rules, now) -> one action. Pure: no I/O, no clock, no rows."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from providers.base import CreateOutcome, InstanceState

from . import idle
from . import rules as limits
from .facts import AttemptFacts, Facts
from .rules import Rules
from .states import Outcome, Resolution, State


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `until`; `listing` = a newer listing would help."""

    until: datetime
    listing: bool = False


@dataclass(frozen=True)
class TryOffer:
    """Open an attempt with the next comparable offer, or fail when there is none."""


@dataclass(frozen=True)
class Create:
    """Commit the permit, then send the one request."""


@dataclass(frozen=True)
class Look:
    """One more complete listing that does not know the label of a lost create."""

    listed_at: datetime


@dataclass(frozen=True)
class Adopt:
    instance_id: str


@dataclass(frozen=True)
class NotCreated:
    message: str


@dataclass(frozen=True)
class Observe:
    """Write down what the listing says of our instance: columns of the attempt."""

    columns: dict[str, Any]


@dataclass(frozen=True)
class AttachKey:
    pass


@dataclass(frozen=True)
class CheckSSH:
    pass


@dataclass(frozen=True)
class Move:
    to: State
    reason: str = ""
    text: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class WarnIdle:
    """Announce the stop of an idle machine, on record, before it comes."""

    stops_at: datetime
    proof: idle.Idle


@dataclass(frozen=True)
class CallOffIdle:
    """It is in use again, or nobody knows: the announced stop does not come."""


@dataclass(frozen=True)
class StopIdle:
    """`stops_at` as it was announced: a person may have called it off meanwhile."""

    stops_at: datetime
    proof: idle.Idle


@dataclass(frozen=True)
class Destroy:
    pass


@dataclass(frozen=True)
class ReadInstance:
    """Ask for the instance by its id: its address, or the other half of an absence evidence."""


@dataclass(frozen=True)
class Gone:
    pass


Action = (
    Wait | TryOffer | Create | Look | Adopt | NotCreated | Observe | AttachKey | CheckSSH | Move
    | WarnIdle | CallOffIdle | StopIdle | Destroy | ReadInstance | Gone
)  # fmt: skip

FATAL = {
    CreateOutcome.NO_FUNDS: "no_funds",
    CreateOutcome.AUTH: "auth",
    CreateOutcome.INVALID: "invalid",
}


def decide(facts: Facts, rules: Rules, now: datetime) -> Action:
    """The next action of a session that is due."""
    if facts.read_only:
        return Wait(now + _span(rules.ssh_watch))
    if facts.news:
        return Observe(facts.news)
    if facts.state not in (State.STOPPING, State.ENDED) and now >= facts.expires_at:
        went = Outcome.OK if facts.state == State.RUNNING else Outcome.FAILED
        return Move(State.STOPPING, "expired", outcome=went)
    return STEPS[facts.state](facts, rules, now)


def _requested(facts: Facts, rules: Rules, now: datetime) -> Action:
    return TryOffer()


def _creating(facts: Facts, rules: Rules, now: datetime) -> Action:
    attempt = facts.attempt
    if attempt is None or attempt.closed:
        return _next_offer(facts, rules, now)
    if attempt.resolution == Resolution.LEFTOVER:
        return _cleanup(facts, attempt, rules, now)
    if attempt.instance_id:
        return Move(State.BOOTING)
    if attempt.sent_at is None:
        return Create()
    return _resolve(facts, attempt, rules, now)


def _next_offer(facts: Facts, rules: Rules, now: datetime) -> Action:
    last = facts.attempt
    if last and last.outcome in FATAL:
        return _fail(FATAL[CreateOutcome(last.outcome)], last.message)
    if facts.offers_tried >= limits.MAX_OFFERS:
        return _fail("offer_gone", last.message if last else "")
    if now >= (facts.first_sent_at or facts.state_since) + _span(rules.offers):
        return _fail("not_created", last.message if last else "")
    return TryOffer()


def _resolve(facts: Facts, attempt: AttemptFacts, rules: Rules, now: datetime) -> Action:
    """A create whose result is unknown: found by its label, or absent for long enough (I7)."""
    if facts.seen:
        return Adopt(facts.seen.instance_id)
    assert attempt.sent_at
    last_moment = attempt.answered_at or attempt.sent_at + _span(rules.create_call)
    fresh = facts.listed_at and facts.listed_at > (attempt.last_look_at or attempt.sent_at)
    if not fresh:
        return Wait(now + _span(rules.poll), listing=True)
    settled = facts.listed_at >= last_moment + _span(rules.settle)
    if settled and attempt.looks + 1 >= limits.LOOKS_NEEDED:
        return NotCreated("no instance with this label appeared")
    return Look(facts.listed_at)


def _booting(facts: Facts, rules: Rules, now: datetime) -> Action:
    problem = _broken(facts, rules, now)
    if problem:
        return problem
    assert facts.attempt
    keys_missing = facts.attempt.keys_missing > 0
    patience = 2 * rules.boot if keys_missing else rules.boot  # all keys queue for one lane
    late = now >= facts.state_since + _span(patience)
    if keys_missing and not late:
        return AttachKey()
    runs = facts.seen and facts.seen.state == InstanceState.RUNNING
    if runs and facts.seen.has_endpoint and not keys_missing:
        return Move(State.VERIFYING)
    if late:
        return _fail("boot_timeout", facts.seen.message if facts.seen else "")
    if runs:  # the listing does not tell the address
        return ReadInstance()
    return Wait(now + _span(rules.poll), listing=True)


def _verifying(facts: Facts, rules: Rules, now: datetime) -> Action:
    problem = _broken(facts, rules, now)
    if problem:
        return problem
    if facts.host_key_changed:
        return _fail("host_key_changed", facts.ssh_message)
    if facts.hardware:
        return _fail("wrong_hardware", "; ".join(facts.hardware))
    if facts.hardware is not None:
        return Move(State.RUNNING)
    if facts.ssh_refusals >= limits.REFUSALS_NEEDED:
        return _fail("ssh_refused", facts.ssh_message)
    if now >= facts.state_since + _span(rules.verify):
        return _fail("ssh_timeout", facts.ssh_message)
    return _check_ssh(facts, rules.ssh_retry, now)


def _running(facts: Facts, rules: Rules, now: datetime) -> Action:
    absent = _absent(facts, rules, now)
    if absent:
        return absent
    unused = _unused(facts.idle, rules, now) if facts.idle else None
    if unused:
        return unused
    return _check_ssh(facts, rules.ssh_watch, now, until=facts.expires_at)


def _unused(watch: idle.Watch, rules: Rules, now: datetime) -> Action | None:
    """Stopped only after a warning that was not called off, and on samples alone (I15)."""
    found = idle.stretch(watch.samples, rules, now)
    stops_at = idle.announced(found, watch, rules, now) if found else None
    if found is None or stops_at is None:
        return CallOffIdle() if watch.stops_at else None
    if watch.stops_at is None:
        return WarnIdle(stops_at, found)
    return StopIdle(watch.stops_at, found) if idle.over(found, watch) else None


def _check_ssh(facts: Facts, every: float, now: datetime, until: datetime | None = None) -> Action:
    next_at = (facts.ssh_checked_at or facts.created_at) + _span(every)
    if now >= next_at:
        return CheckSSH()
    return Wait(min(next_at, until) if until else next_at)


def _broken(facts: Facts, rules: Rules, now: datetime) -> Action | None:
    """What ends a session that is not yet handed out."""
    attempt, seen = facts.attempt, facts.seen
    assert attempt
    if attempt.actual_price_per_hour and attempt.actual_price_per_hour > _ceiling(facts, attempt):
        text = f"billed ${attempt.actual_price_per_hour}/h, agreed ${attempt.price_per_hour}/h"
        return _fail("price_breach", text)
    if seen and seen.state in (InstanceState.FAILED, InstanceState.STOPPED):
        return _fail("boot_failed", seen.message)
    return _absent(facts, rules, now)


def _ceiling(facts: Facts, attempt: AttemptFacts) -> Decimal:
    quoted = attempt.price_per_hour * limits.PRICE_TOLERANCE
    return min(facts.max_price_per_hour, quoted) + limits.CENT_OF_A_CENT


def _absent(facts: Facts, rules: Rules, now: datetime) -> Action | None:
    """Nobody destroyed it, and a complete listing does not know it: look closer, or it is lost."""
    attempt = facts.attempt
    assert attempt
    if attempt.closed:
        return Move(State.STOPPING, "vanished", outcome=Outcome.LOST)
    if facts.listed or facts.frozen or not facts.listed_at:
        return None
    if facts.seen:
        return None
    if not attempt.ever_seen and now < _settled(attempt, rules):
        return None
    first = attempt.first_absence_at
    enough = attempt.absences >= limits.ABSENCES_VANISHED and first and attempt.last_absence_at
    if enough and attempt.last_absence_at - first >= _span(rules.vanish_span):
        answered_since = facts.ssh_seen_at and facts.ssh_seen_at > first
        return None if answered_since else Gone()
    gap = rules.vanish_span / limits.ABSENCES_VANISHED
    return _one_more_look(facts, attempt, gap, since=attempt.answered_at or attempt.created_at)


def _settled(attempt: AttemptFacts, rules: Rules) -> datetime:
    return (attempt.answered_at or attempt.sent_at or attempt.created_at) + _span(rules.settle)


def _one_more_look(
    facts: Facts, attempt: AttemptFacts, gap: float, since: datetime
) -> Action | None:
    """A by-id read, once a complete listing of its own pass says "not there"."""
    if attempt.last_absence_at:
        since = max(since, attempt.last_absence_at + _span(gap))
    return ReadInstance() if facts.listed_at and facts.listed_at > since else None


def _stopping(facts: Facts, rules: Rules, now: datetime) -> Action:
    attempt = facts.attempt
    if attempt is None or attempt.closed:
        return Move(State.ENDED)
    if attempt.sent_at is None:
        return NotCreated("stopped before the request was sent")
    if not attempt.instance_id:
        return _resolve(facts, attempt, rules, now)
    return _cleanup(facts, attempt, rules, now)


def _cleanup(facts: Facts, attempt: AttemptFacts, rules: Rules, now: datetime) -> Action:
    """Destroy, then prove it: accepted is not gone (I8), and never given up (I9)."""
    accepted = attempt.destroy_accepted_at
    if accepted is None:
        return Destroy()
    if attempt.absences and _proven(attempt, rules):
        return Gone()
    if facts.listed_at and facts.listed_at > accepted and facts.listed:
        sent = attempt.destroy_sent_at or accepted
        if facts.listed_at >= sent + _span(rules.destroy_again):
            return Destroy()
        return Wait(now + _span(rules.poll), listing=True)
    look = _one_more_look(facts, attempt, _gap(attempt, rules), since=accepted)
    return look or Wait(now + _span(rules.poll), listing=True)


def _proven(attempt: AttemptFacts, rules: Rules) -> bool:
    """Two pieces of evidence; the longer proof for a machine that no read has ever shown."""
    if attempt.ever_seen:
        return attempt.absences >= limits.ABSENCES_AFTER_DESTROY
    assert attempt.first_absence_at and attempt.last_absence_at
    span = attempt.last_absence_at - attempt.first_absence_at
    return attempt.absences >= limits.ABSENCES_VANISHED and span >= _span(rules.vanish_span)


def _gap(attempt: AttemptFacts, rules: Rules) -> float:
    return rules.absence_gap if attempt.ever_seen else rules.vanish_span / 2


def _ended(facts: Facts, rules: Rules, now: datetime) -> Action:
    return Wait(now + timedelta(days=1))


def _fail(reason: str, text: str) -> Move:
    return Move(State.STOPPING, reason, text, Outcome.FAILED)


def _span(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


STEPS = {
    State.REQUESTED: _requested,
    State.CREATING: _creating,
    State.BOOTING: _booting,
    State.VERIFYING: _verifying,
    State.RUNNING: _running,
    State.STOPPING: _stopping,
    State.ENDED: _ended,
}
