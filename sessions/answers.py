"""Writes down what an external call brought back. Results of creates and destroys are kept in
any case, whoever owns the session by then (I24); the rest only while the session is still ours."""

import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta

from providers import lanes
from providers.base import (
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    Instance,
    ProviderError,
    RateLimited,
)
from providers.models import Kind

from . import hardware, market, ssh, switch
from .calls import AttachCall, Call, CreateCall, DestroyCall, ReadCall, SSHCall
from .evidence import observed, rules
from .models import Attempt, GPUSample, Session
from .moves import StaleSession, change
from .rules import UNREACHABLE_AFTER, Rules
from .states import Resolution, State
from .steps import ended_itself, note

logger = logging.getLogger(__name__)

SAMPLES_KEPT = timedelta(hours=24)


def apply(call: Call, answer: object, now: datetime) -> None:
    """Inside the caller's transaction."""
    session = Session.objects.get(pk=call.session_id)
    attempt = Attempt.objects.get(pk=call.attempt_id)
    if isinstance(answer, Exception) and not isinstance(answer, ProviderError):
        answer = BUGS[type(call)](answer)
    overtaken = session.fence != call.fence
    if overtaken and isinstance(call, ReadCall | SSHCall):
        return  # an old look proves nothing
    session.fence = call.fence  # a newer fence in the database makes every change() fail
    ANSWERS[type(call)](call, answer, session, attempt, now)


def created(
    call: CreateCall, answer: CreateResult, session: Session, attempt: Attempt, now: datetime
) -> None:
    resolution = RESOLUTIONS.get(answer.outcome, "")
    words = {"outcome": answer.outcome, "message": answer.message[:500], "answered_at": now}
    mine = Attempt.objects.filter(pk=attempt.pk, outcome="")
    found = {"instance_id": answer.instance_id, "resolution": resolution}
    when = now if resolution else None
    first = mine.filter(resolution="").update(**words, **found, resolved_at=when)
    # others may have looked the label up meanwhile: their verdict stands
    first = first or mine.update(**words)
    note(
        session, attempt, "provider.create.result", now,
        outcome=str(answer.outcome), message=answer.message, status=answer.http_status,
        instance_id=answer.instance_id,
    )  # fmt: skip
    _tell_lane(call, answer.outcome not in (CreateOutcome.UNKNOWN, CreateOutcome.NOT_SENT), now)
    if first and market.says_offer_is_bad(answer.outcome):
        market.remember(attempt, Kind.GONE, now)
    slow = answer.outcome in (CreateOutcome.RATE, CreateOutcome.NOT_SENT)
    _go_on(session, now, failed=slow, cap=rules(attempt.provider).backoff_cap)


RESOLUTIONS: dict[CreateOutcome, Resolution] = {
    CreateOutcome.CREATED: Resolution.CREATED,
    CreateOutcome.LEFTOVER: Resolution.LEFTOVER,
    CreateOutcome.OFFER_GONE: Resolution.NOT_CREATED,
    CreateOutcome.NO_FUNDS: Resolution.NOT_CREATED,
    CreateOutcome.AUTH: Resolution.NOT_CREATED,
    CreateOutcome.INVALID: Resolution.NOT_CREATED,
    CreateOutcome.RATE: Resolution.NOT_CREATED,
    CreateOutcome.NOT_SENT: Resolution.NOT_CREATED,
}  # UNKNOWN stays open: the label decides


def attached(
    call: AttachCall,
    answer: ProviderError | None,
    session: Session,
    attempt: Attempt,
    now: datetime,
) -> None:
    if answer is None:
        keys = Attempt.objects.filter(pk=attempt.pk, keys_attached=call.number)
        keys.update(keys_attached=call.number + 1)
    problem = "" if answer is None else (str(answer) or type(answer).__name__)[:200]
    note(session, attempt, "provider.attach.result", now, problem=problem)
    _tell_lane(call, answer is None or isinstance(answer, RateLimited), now)
    _go_on(session, now, failed=bool(problem), cap=rules(attempt.provider).ssh_retry)


def destroyed(
    call: DestroyCall, answer: DestroyResult, session: Session, attempt: Attempt, now: datetime
) -> None:
    done = answer.outcome in (DestroyOutcome.ACCEPTED, DestroyOutcome.NOT_FOUND)
    columns: dict[str, object] = {"destroy_message": answer.message[:500]}
    if done and not attempt.is_closed:  # a late answer takes no proof back
        columns |= {"destroy_accepted_at": now, **NO_ABSENCE}
    if answer.outcome == DestroyOutcome.NOT_FOUND and attempt.destroy_tries == 1:
        columns |= ended_itself(session, attempt, now)
    Attempt.objects.filter(pk=attempt.pk).update(**columns)
    note(
        session, attempt, "provider.destroy.result", now,
        outcome=str(answer.outcome), message=answer.message, status=answer.http_status,
    )  # fmt: skip
    _tell_lane(call, done, now)
    _go_on(session, now, failed=not done, cap=_destroy_cap(session, attempt, now))


NO_ABSENCE = {"absences": 0, "first_absence_at": None, "last_absence_at": None}


def _destroy_cap(session: Session, attempt: Attempt, now: datetime) -> float:
    own = rules(attempt.provider)
    late = now - session.state_since > timedelta(seconds=own.destroy_late)
    return own.backoff_cap_late if late else own.backoff_cap


def read(
    call: ReadCall,
    answer: Instance | ProviderError | None,
    session: Session,
    attempt: Attempt,
    now: datetime,
) -> None:
    """None is one half of an absence evidence; decide() asked for it after the other half."""
    if isinstance(answer, ProviderError):
        _tell_lane(call, isinstance(answer, RateLimited), now)
        return _go_on(session, now, failed=True, cap=rules(attempt.provider).backoff_cap)
    _tell_lane(call, True, now)
    columns = NO_ABSENCE | (observed(attempt, answer, now) if answer else {})
    if answer is None:
        columns = {
            "absences": attempt.absences + 1,
            "first_absence_at": attempt.first_absence_at or now,
            "last_absence_at": now,
        }
    Attempt.objects.filter(pk=attempt.pk, resolution=attempt.resolution).update(**columns)
    evidence = "absent" if answer is None else "present"
    note(session, attempt, "instance.read", now, evidence=evidence)
    return _go_on(session, now, wait=0 if answer is None else rules(attempt.provider).poll)


def checked(
    call: SSHCall, answer: ssh.Check, session: Session, attempt: Attempt, now: datetime
) -> None:
    own = rules(attempt.provider)
    columns = _verdict(answer, call.target, session, own, now)
    if session.state == State.RUNNING:
        columns |= _reachability(answer, session, now)
        _keep_sample(answer, session, now)
    if session.state == State.VERIFYING and answer.stage == "gpu":
        columns["found"] = _found(answer, attempt)
        columns["verified_at"] = now
    told = (answer.stage, answer.message) != (session.ssh_stage, session.ssh_message)
    if session.state == State.VERIFYING or told:
        data = {"stage": answer.stage, "message": answer.message, "host_key": answer.host_key}
        note(session, attempt, "ssh.verdict", now, **data)
    if answer.also is not None:
        _hear_switch(answer.also, session, attempt, now)
    retry = own.ssh_retry if session.state == State.VERIFYING else own.ssh_watch
    _change(session, now, due_at=now + timedelta(seconds=retry), **columns)
    judged_at_once = session.state == State.RUNNING and session.idle_minutes
    if columns.get("found") or answer.host_key_changed or judged_at_once:
        _change(session, now, due_at=now)


def _keep_sample(answer: ssh.Check, session: Session, now: datetime) -> None:
    """One row for each look that got in, also when the GPU did not tell."""
    if answer.stage in ("key", "gpu"):
        told = {"load": answer.load, "memory_mb": answer.memory_used_mb}
        GPUSample.objects.create(session=session, at=now, **told)


def forget_samples(now: datetime) -> None:
    GPUSample.objects.filter(at__lt=now - SAMPLES_KEPT).delete()


def _hear_switch(output: str, session: Session, attempt: Attempt, now: datetime) -> None:
    """Kept whenever it speaks; on record when it goes by another end, or can no longer act."""
    columns = switch.told(output, session, now)
    Attempt.objects.filter(pk=attempt.pk).update(**columns)
    at, alive = columns.get("switch_at", attempt.switch_at), bool(columns["switch_seen_at"])
    if (at, alive) != (attempt.switch_at, bool(attempt.switch_seen_at)):
        note(session, attempt, "switch.heard", now, until=at and at.isoformat(), alive=alive)


def _verdict(
    answer: ssh.Check, target: ssh.Target, session: Session, own: Rules, now: datetime
) -> dict:
    columns: dict[str, object] = {
        "ssh_attempts": session.ssh_attempts + 1,
        "ssh_checked_at": now,
        "ssh_stage": answer.stage,
        "ssh_message": answer.message[:300],
        "host_key_changed": session.host_key_changed or answer.host_key_changed,
    }
    if answer.host_key and not session.host_key:
        columns["host_key"] = answer.host_key  # first contact pins it (safety.md section 5)
    if answer.stage and not session.ssh_open_at:
        columns["ssh_open_at"] = now
    if answer.stage in ("key", "gpu"):
        columns |= {"ssh_key_at": session.ssh_key_at or now, "ssh_seen_at": now}
        columns["ssh_way"] = {"host": target.host, "port": target.port, "user": target.user}
    grace_over = now >= session.state_since + timedelta(seconds=own.key_grace)
    if answer.refused and grace_over:
        columns["ssh_refusals"] = session.ssh_refusals + 1
    return columns


def _reachability(answer: ssh.Check, session: Session, now: datetime) -> dict:
    """Unreachable is a mark, never a reason to destroy (I15)."""
    if answer.stage in ("key", "gpu") and not answer.host_key_changed:
        return {"ssh_failures": 0, "unreachable_since": None}
    failures = session.ssh_failures + 1
    enough = failures >= UNREACHABLE_AFTER or answer.host_key_changed
    since = session.unreachable_since or (now if enough else None)
    return {"ssh_failures": failures, "unreachable_since": since}


def _found(answer: ssh.Check, attempt: Attempt) -> dict:
    """Compared with the offer of this attempt: a fallback may be another GPU than was clicked."""
    gpus = [[gpu.name, gpu.memory_mb] for gpu in answer.gpus]
    sold = attempt.offer
    problems = hardware.compare(
        answer.gpus, sold["gpu_name"], sold["gpu_count"], sold["gpu_memory_mb"]
    )
    return {"gpus": gpus, "driver": answer.driver, "cuda": answer.cuda, "problems": problems}


def _tell_lane(call: Call, good: bool, now: datetime) -> None:
    if good:
        lanes.succeeded(call.provider, call.lane)
    else:
        lanes.failed(call.provider, call.lane, now)


def _go_on(
    session: Session, now: datetime, *, failed: bool = False, cap: float = 0, wait: float = 0
) -> None:
    """Come back at once, after `wait`, or after a back-off with full jitter."""
    failures = session.failures + 1 if failed else 0
    if failed:
        wait = random.uniform(0.2, 1) * min(cap, 2 ** min(failures, 10))
    _change(session, now, failures=failures, due_at=now + timedelta(seconds=wait))


def _change(session: Session, now: datetime, **columns: object) -> None:
    try:
        change(session, now=now, **columns)
    except StaleSession:
        logger.info("session %s was moved by somebody else", session.code)


BUGS: dict[type, Callable[[Exception], object]] = {
    CreateCall: lambda e: CreateResult(outcome=CreateOutcome.UNKNOWN, message=_bug(e)),
    AttachCall: lambda e: ProviderError(_bug(e)),
    DestroyCall: lambda e: DestroyResult(outcome=DestroyOutcome.RETRY, message=_bug(e)),
    ReadCall: lambda e: ProviderError(_bug(e)),
    SSHCall: lambda e: ssh.Check(message=_bug(e)),
}


def _bug(error: Exception) -> str:
    return f"gpubroker could not finish this step ({type(error).__name__})"


ANSWERS: dict[type, Callable[..., None]] = {
    CreateCall: created,
    AttachCall: attached,
    DestroyCall: destroyed,
    ReadCall: read,
    SSHCall: checked,
}
