"""How far a session came, as steps for the page: pure, from a session and its newest attempt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .models import Attempt, Session
from .rules import Rules
from .states import WAITING, Outcome, State

DONE, NOW, TODO, FAILED, CUT = "done", "now", "todo", "failed", "cut"


@dataclass(frozen=True, kw_only=True)
class Typical:
    """Seconds that a step took in `count` starts that came through."""

    middle: float
    most: float  # nine of ten were done by then
    count: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """`seconds` is what a done step took; `since` counts on while it is under way."""

    name: str
    state: str = TODO
    at: datetime | None = None
    seconds: float | None = None
    since: datetime | None = None
    waiting_for: str = ""
    words: str = ""  # somebody else's: shown in quotes
    whole: float | None = None  # the last step: seconds since the first
    gives_up_at: datetime | None = None
    usual: Typical | None = None  # of a step that is not done yet

    @property
    def late_at(self) -> datetime | None:
        """From when on a step that is under way takes longer than usual."""
        known = self.since and self.usual
        return self.since + timedelta(seconds=self.usual.most) if known else None


Milestones = Sequence[tuple[str, datetime | None]]


def start_steps(
    session: Session,
    attempt: Attempt | None,
    provider: str,
    rules: Rules,
    usual: Mapping[str, Typical],
) -> list[Step]:
    """Requested ... Running. `provider` is its title, `usual` what its steps take."""
    steps = walk(milestones(session, attempt))
    missing = next((i for i, step in enumerate(steps) if step.state == TODO), None)
    if missing is None:
        return [*steps[:-1], summed(steps)]
    since = (steps[missing - 1].at if missing else None) or session.created_at
    if session.state in WAITING:
        steps = [step if step.at else replace(step, usual=usual.get(step.name)) for step in steps]
        steps[missing] = under_way(steps[missing], since, session, attempt, provider, rules)
    elif session.state != State.RUNNING:
        ended = FAILED if session.outcome in (Outcome.FAILED, Outcome.LOST) else CUT
        steps[missing] = replace(steps[missing], state=ended, words=session.reason_text)
    return steps


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of the bar of a start. `at` and `width` are thousandths of the whole."""

    name: str
    seconds: float
    at: float
    width: float


def startup(steps: Sequence[Step]) -> list[Part]:
    """The parts that took time of a start that came through, in their order; else nothing."""
    done = [step for step in steps if step.seconds]
    whole = sum(step.seconds for step in done)
    if not whole or any(step.state != DONE for step in steps):
        return []
    parts, at = [], 0.0
    for step in done:
        width = step.seconds * 1000 / whole
        parts.append(Part(name=step.name, seconds=step.seconds, at=at, width=width))
        at += width
    return parts


def summed(steps: Sequence[Step]) -> Step:
    """The last step, with the time that all took together."""
    first, last = steps[0].at, steps[-1].at
    return replace(steps[-1], whole=(last - first).total_seconds() if first and last else None)


def walk(milestones: Milestones) -> list[Step]:
    """Done as far as instants follow each other without a gap."""
    steps: list[Step] = []
    before: datetime | None = None
    for name, at in milestones:
        if at is None or (steps and steps[-1].state != DONE):
            steps.append(Step(name=name))
            continue
        took = max((at - before).total_seconds(), 0) if before else None
        steps.append(Step(name=name, state=DONE, at=at, seconds=took))
        before = at
    return steps


def milestones(session: Session, attempt: Attempt | None) -> Milestones:
    genuine = bool(session.verified_at) and not session.found.get("problems")
    return (
        ("Requested", session.created_at),
        ("Created", created_at(attempt)),
        ("Booted", attempt.ready_at if attempt else None),
        ("SSH answers", session.ssh_open_at),
        ("Key accepted", session.ssh_key_at),
        ("GPU verified", session.verified_at if genuine else None),
        ("Running", running_at(session) if genuine else None),
    )


def created_at(attempt: Attempt | None) -> datetime | None:
    """When the provider's machine became known; a leftover is none that we use."""
    if attempt is None or not attempt.instance_id or attempt.outcome == "leftover":
        return None
    found_at = None if attempt.is_closed else attempt.resolved_at
    return attempt.answered_at or found_at or attempt.sent_at


def running_at(session: Session) -> datetime | None:
    if session.state == State.RUNNING:
        return session.state_since
    return session.verified_at if session.state in (State.STOPPING, State.ENDED) else None


def under_way(
    step: Step,
    since: datetime,
    session: Session,
    attempt: Attempt | None,
    provider: str,
    rules: Rules,
) -> Step:
    allowed = {
        State.CREATING: rules.offers,
        State.BOOTING: rules.boot,
        State.VERIFYING: rules.verify,
    }.get(State(session.state))
    waiting_for, words = waiting(session, attempt, provider)
    deadline = session.state_since + timedelta(seconds=allowed) if allowed else None
    return replace(
        step, state=NOW, since=since, waiting_for=waiting_for, words=words, gives_up_at=deadline
    )


def waiting(session: Session, attempt: Attempt | None, provider: str) -> tuple[str, str]:
    """(what the session waits for, the other side's words)."""
    if session.state == State.REQUESTED:
        return "a worker to take the request", ""
    if session.state == State.CREATING:
        return _creating(attempt, provider), ""
    if session.state == State.BOOTING:
        return f"{provider} to start the machine", attempt.status_message if attempt else ""
    address = address_of(attempt)
    tries = f", try {session.ssh_attempts + 1}" if session.ssh_attempts else ""
    step = {
        "": f"SSH to answer{address}",
        "open": "SSH to accept the key",
        "key": "nvidia-smi to show the GPU",
    }.get(session.ssh_stage, "the last look at the GPU")
    return f"{step}{tries}", session.ssh_message


def _creating(attempt: Attempt | None, provider: str) -> str:
    if attempt is None or attempt.is_closed:
        return "the next comparable offer"
    if attempt.resolution == "leftover":
        return "a refused machine to be gone, before the next offer is tried"
    if attempt.sent_at is None:
        return f"its turn to ask {provider}"
    if attempt.outcome == "unknown":
        return f"{provider}: no clear answer, so the machine is looked up by its label"
    return f"{provider} to answer the create request"


def address_of(attempt: Attempt | None) -> str:
    if attempt is None or not attempt.endpoints:
        return ""
    way = attempt.endpoints[0]
    return f" on {way['host']}:{way['port']}"


def end_steps(session: Session, attempt: Attempt | None, asked_at: datetime | None) -> list[Step]:
    """From the wish to stop to the proof of absence; empty while nobody wants to stop."""
    if session.state not in (State.STOPPING, State.ENDED):
        return []
    steps = walk(end_milestones(session, attempt, asked_at))
    missing = next((i for i, step in enumerate(steps) if step.state == TODO), None)
    if missing is None:
        return [*steps[:-1], summed(steps)]
    if session.state == State.STOPPING:
        since = (steps[missing - 1].at if missing else None) or session.state_since
        steps[missing] = replace(steps[missing], state=NOW, since=since)
    return steps


def end_milestones(
    session: Session, attempt: Attempt | None, asked_at: datetime | None
) -> Milestones:
    asked = asked_at or session.stop_requested_at or session.state_since
    if attempt is None or not attempt.instance_id:
        settled = attempt.resolved_at if attempt else session.ended_at
        return (("Stop", asked), ("Nothing was created", settled))
    if session.reason == "vanished" and not attempt.destroy_sent_at:
        return (
            ("Missed", attempt.first_absence_at),
            ("Still missing", attempt.last_absence_at),
            ("Confirmed gone", attempt.gone_at),
        )
    second = attempt.last_absence_at if attempt.absences > 1 else None
    return (
        ("Stop", asked),
        ("Destroy sent", attempt.destroy_sent_at),
        ("Destroy accepted", attempt.destroy_accepted_at),
        ("First proof", attempt.first_absence_at),
        ("Second proof", second),
        ("Confirmed gone", attempt.gone_at),
    )
