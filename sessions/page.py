"""Everything that the page of one session shows, as plain values: rows in, no queries, no I/O.

`context` is handed to the fragments `templates/sessions/_session_*.html`, which render from it
alone: on the page, as an answer to htmx and in the websocket push.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from providers import registry
from providers.replies import UNEXPLAINED
from providers.usage import MAX_HOURS
from providers.waits import span

from . import explain, money, switch
from .compared import compared
from .connect import Connect, connect, place_key
from .evidence import rules
from .models import Attempt, AuditEvent, Session, Sighting
from .progress import Typical, end_steps, start_steps, startup
from .rules import RULES, next_extension
from .states import Outcome, State
from .templatetags.figures import money as dollars
from .templatetags.figures import rate
from .tries import attempt_line, name, place, proof, refusal

ENDS_SOON = timedelta(minutes=15)
CAME_LATE = "A machine turned up later all the same: see its attempt."
MEMORY_GB = 1024
TONES: dict[str, str] = {
    State.RUNNING: "ok",
    State.STOPPING: "warn",
    State.ENDED: "",
}


@dataclass(frozen=True, kw_only=True)
class Notice:
    tone: str  # ok, warn, bad
    title: str
    text: str = ""
    words: str = ""  # somebody else's, in quotes
    speaker: str = ""  # who said so
    proof: tuple[datetime, ...] = ()  # the two readings that did not find the machine
    advice: str = ""
    money: str = ""
    keep: bool = False  # a click keeps it running


@dataclass(frozen=True, kw_only=True)
class Moment:
    at: datetime
    text: str
    detail: str = ""
    who: str = ""
    times: int = 1


def context(
    session: Session,
    attempts: Sequence[Attempt],
    events: Sequence[AuditEvent],
    people: Mapping[str, str],
    usual: Mapping[str, Typical],
    late: Mapping[str, Sighting],
    now: datetime,
) -> dict[str, object]:
    """`attempts` by number, `events` newest first, `people` = actor -> name, `usual` = what each
    step of a start takes on this marketplace, `late` = label -> machine that turned up late."""
    attempt = attempts[-1] if attempts else None
    title = registry.title(attempt.provider if attempt else session.provider)
    stopped_at = asked_to_stop(events) or session.stop_requested_at
    cost = money.cost(session, attempts, now)
    steps = start_steps(session, attempt, title, rules(session.provider), usual)
    return {
        "session": session,
        "attempt": attempt,
        "provider": title,
        "place": place(attempt),
        "name": name(session, attempt),
        "status": status(session),
        "tone": tone(session),
        "notice": notice(session, attempt, cost, title, now, late),
        "steps": steps,
        "startup": startup(steps),
        "end_steps": end_steps(session, attempt, stopped_at),
        "connect": reachable(session, attempt),
        "place_key": place_key(session),
        "proven": session.state == State.RUNNING,
        "compared": compared(session, attempt),
        "problems": session.found.get("problems", []),
        "attempts": [attempt_line(a, session, late.get(a.label)) for a in attempts],
        "cost": cost,
        "came_late": bool(late),
        "switch": switch.own_end(session, attempt),
        "ends_soon": session.is_open and session.expires_at - now < ENDS_SOON,
        "can_stop": session.state not in (State.STOPPING, State.ENDED),
        "adds": next_extension(session.created_at, session.expires_at),
        "max_hours": MAX_HOURS,
        "timeline": timeline(events, people, explain.why(session)),
        "now": now,
    }


CREATE_SAID = ("no_offers", "offer_gone", "no_funds", "auth", "invalid", "not_created")
MACHINE_SAID = ("boot_timeout", "boot_failed")
SSH_SAID = ("ssh_timeout", "ssh_refused", "host_key_changed")
SILENT = ("unknown", "not_sent")  # outcomes of a create whose words are ours


def speaker(session: Session, attempt: Attempt | None, provider: str) -> str:
    """Who said what stands beside the reason; empty = we did."""
    answered = attempt is not None and attempt.outcome not in SILENT
    if session.reason_text.endswith(UNEXPLAINED):
        return ""
    if session.reason in MACHINE_SAID or (session.reason in CREATE_SAID and answered):
        return provider
    return "SSH" if session.reason in SSH_SAID else ""


def status(session: Session) -> str:
    """The state in a few words, failures first: the headline and the page's title."""
    went_wrong = {Outcome.FAILED: "Failed", Outcome.LOST: "Lost"}.get(session.outcome)
    if session.state == State.STOPPING:
        return f"{went_wrong}, cleaning up" if went_wrong else "Stopping"
    if session.state == State.ENDED:
        return went_wrong or "Ended"
    if session.host_key_changed:
        return "Host key changed"
    if session.unreachable_since:
        return "Unreachable"
    return State(session.state).label


def tone(session: Session) -> str:
    if session.outcome in (Outcome.FAILED, Outcome.LOST) or session.host_key_changed:
        return "bad"
    if session.unreachable_since:
        return "warn"
    return TONES.get(session.state, "live")


def reachable(session: Session, attempt: Attempt | None) -> Connect | None:
    """The address while it is of use: from the first SSH check until the stop."""
    shown = session.state in (State.VERIFYING, State.RUNNING)
    return connect(session, attempt) if shown else None


def notice(
    session: Session,
    attempt: Attempt | None,
    cost: money.Cost,
    provider: str,
    now: datetime,
    late: Mapping[str, Sighting],
) -> Notice | None:
    """The one thing to know before anything else; None when all goes its way."""
    if session.is_open and session.provider not in registry.names():
        why = explain.reason("provider_gone")
        flow = running_words(cost)
        return Notice(tone="bad", title=why.title, text=why.meaning, advice=why.advice, money=flow)
    if session.state == State.STOPPING:
        return stopping_notice(session, attempt, cost, provider, now)
    if session.state == State.ENDED:
        return ended_notice(session, attempt, cost, provider, bool(late))
    return running_notice(session, attempt, cost, provider, now)


def running_notice(
    session: Session, attempt: Attempt | None, cost: money.Cost, provider: str, now: datetime
) -> Notice | None:
    """Troubles that do not end a session by themselves, and one that will."""
    if attempt and switch.late(session, attempt, now):
        return Notice(
            tone="bad",
            title=f"The machine will destroy itself at {switch.fires_at(attempt):%H:%M} UTC",
            text="The session was extended, but the machine has not heard of it: it still goes by "
            "its earlier end. It is told again every minute, over SSH.",
            words=session.ssh_message,
            speaker="The last look",
            advice="Save what is on it.",
            money=running_words(cost),
        )
    if session.host_key_changed:
        why = explain.reason("host_key_changed")
        return Notice(
            tone="bad",
            title=why.title,
            text=why.meaning,
            words=session.ssh_message,
            speaker="SSH",
            advice="gpubroker runs nothing on it any more. Stop it unless you know why.",
            money=running_words(cost),
        )
    if attempt and money.dearer(attempt):
        return Notice(
            tone="warn",
            title="The price has risen",
            text=f"{provider} bills {rate(attempt.actual_price_per_hour)} an hour; agreed were "
            f"{rate(attempt.price_per_hour)}. The machine is not taken away for that.",
            advice="Stop it if that is too much.",
            money=running_words(cost),
        )
    if session.unreachable_since:
        return Notice(
            tone="warn",
            title="SSH does not answer",
            text=f"{session.ssh_failures} looks in a row failed.{reported(attempt, provider)} The "
            "machine is not destroyed for that: it may come back, and is looked at every minute.",
            words=session.ssh_message,
            speaker="The last look",
            advice="Stop it if you do not want to wait.",
            money=running_words(cost),
        )
    if session.idle_stops_at:
        return Notice(
            tone="warn",
            title=f"Idle: stops at {session.idle_stops_at:%H:%M} UTC",
            text=f"Its GPU has done nothing for a while, and it is to be stopped when idle "
            f"for {session.idle_minutes} minutes. Using the GPU calls that off.",
            advice="Everything on its disk is lost with the stop.",
            money=running_words(cost),
            keep=True,
        )
    return None


def reported(attempt: Attempt | None, provider: str) -> str:
    """A sentence, when the marketplace itself says that the machine does not run."""
    state = attempt.raw_state if attempt else ""
    runs = state.lower() in ("", "running")
    return "" if runs else f" {provider} reports the machine as “{state}”."


def meaning(session: Session, attempt: Attempt | None) -> str:
    return explain.meaning(session, attempt.outcome if attempt else "")


def headline(session: Session) -> str:
    """Of a session that has failed, or is lost."""
    what = explain.why(session).title
    return what if session.outcome == Outcome.LOST else f"Failed: {explain.inside(what)}"


def stopping_notice(
    session: Session, attempt: Attempt | None, cost: money.Cost, provider: str, now: datetime
) -> Notice:
    why = explain.why(session)
    bad = session.outcome in (Outcome.FAILED, Outcome.LOST)
    late = now - session.state_since > span(RULES.destroy_alert) and cost.billing
    what = headline(session) if bad else why.title
    refused = refusal(attempt)
    sent_to = provider if attempt and attempt.destroy_tries else ""  # else the words are ours
    by_hand = f"If it stays, destroy it at {provider}: that is noticed here." if late else ""
    return Notice(
        tone="bad" if bad or late else "warn",
        title=f"{what}, but it is not gone yet" if late else what,
        text=f"{meaning(session, attempt)} {next_step(attempt, provider)}".strip(),
        words=session.reason_text or refused,
        speaker=speaker(session, attempt, provider) if session.reason_text else sent_to,
        advice=f"{why.advice if bad else ''} {by_hand}".strip(),
        money=money_words(cost, provider),
    )


def next_step(attempt: Attempt | None, provider: str) -> str:
    if attempt is None or attempt.is_closed:
        return "There is no machine to destroy; closing."
    if not attempt.instance_id and attempt.sent_at:
        return f"Making sure that the request to {provider} left nothing behind."
    if attempt.destroy_accepted_at:
        again = f", sent {attempt.destroy_tries} times so far" if attempt.destroy_tries > 1 else ""
        return f"{provider} accepted the destroy{again}; it counts only once two readings prove it."
    if attempt.destroy_message and not attempt.destroy_tries:
        return "It cannot be destroyed just now; that is tried again every minute."
    if attempt.destroy_tries > 1:
        return f"Destroying it: try {attempt.destroy_tries}, repeated until it is gone."
    return "Next: destroy the machine, then prove that it is gone."


def ended_notice(
    session: Session, attempt: Attempt | None, cost: money.Cost, provider: str, late: bool
) -> Notice:
    why = explain.why(session)
    bad = session.outcome in (Outcome.FAILED, Outcome.LOST)
    existed = attempt is not None and bool(attempt.instance_id)
    well = "Confirmed gone" if existed else "Ended: nothing was created"
    left = CAME_LATE if late else proof_words(attempt, provider)
    return Notice(
        tone="bad" if bad else "ok",
        title=headline(session) if bad else well,
        text=f"{meaning(session, attempt) if bad else why.title + '.'} {left}",
        words=session.reason_text,
        speaker=speaker(session, attempt, provider),
        proof=proof(attempt) if existed else (),
        advice=why.advice if bad else "",
        money=final_words(cost, late),
    )


def final_words(cost: money.Cost, late: bool) -> str:
    if late:
        return "What the late machine cost is not counted here."
    if not cost.so_far:
        return "Nothing is billed, and nothing was charged."
    return f"Nothing is billed any more. It cost {dollars(cost.so_far)} by our count."


def proof_words(attempt: Attempt | None, provider: str) -> str:
    if attempt is None or not attempt.instance_id:
        return "No machine was ever created."
    absent = f"{provider} knows neither the machine nor our label."
    at = attempt.ended_itself_at
    return f"It destroyed itself at about {at:%H:%M} UTC. {absent}" if at else absent


def running_words(cost: money.Cost) -> str:
    if not cost.billing or cost.per_hour is None:
        return "Nothing is billed."
    return f"Billing {rate(cost.per_hour)} an hour until it is stopped and confirmed gone."


def money_words(cost: money.Cost, provider: str) -> str:
    if not cost.billing:
        return "Nothing is billed."
    price = f" {rate(cost.per_hour)} an hour" if cost.per_hour is not None else ""
    return f"Still billing{price} until {provider} confirms that it is gone."


def is_stop(event: AuditEvent) -> bool:
    return event.action == "session.state" and event.data.get("to") == State.STOPPING


def asked_to_stop(events: Sequence[AuditEvent]) -> datetime | None:
    """When it was decided to stop, by whomever."""
    return next((event.at for event in events if is_stop(event)), None)


def timeline(
    events: Sequence[AuditEvent], people: Mapping[str, str], why: explain.Reason
) -> list[Moment]:
    """Newest first; what repeats itself is told once, with the number of times."""
    moments: list[Moment] = []
    for event in events:
        text, detail = explain.event(event)
        text = f"Stopping: {explain.inside(why.title)}" if is_stop(event) else text
        who = people.get(event.actor, "")
        last = moments[-1] if moments else None
        if last and (last.text, last.detail, last.who) == (text, detail, who):
            moments[-1] = replace(last, times=last.times + 1)
        else:
            moments.append(Moment(at=event.at, text=text, detail=detail, who=who))
    return moments
