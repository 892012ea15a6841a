"""Carries out one action of lifecycle.py on the rows; where it needs the world, returns a Call."""

from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import transaction

from providers import catalog, jobs, lanes
from providers.models import Kind, ProviderHealth
from providers.waits import seconds, span

from . import audit, lifecycle, market, ssh, switch, vault
from .calls import AttachCall, Call, CreateCall, DestroyCall, ReadCall, SSHCall, allow_loopback
from .evidence import all_keys, rules
from .models import Attempt, Session
from .moves import StaleSession, change, move, stop
from .rules import RULES
from .states import Outcome, Resolution, State

WORKER = "worker"
Done = bool  # True: decide again at once; False: nothing more to do now


def apply(session: Session, action: lifecycle.Action, now: datetime) -> Call | Done:
    """One action. Raises StaleSession when somebody else was faster."""
    return ACTIONS[type(action)](session, action, now)


def wait(session: Session, action: lifecycle.Wait, now: datetime) -> Done:
    if action.listing:
        jobs.want_listing(attempt_of(session).provider, now, RULES.poll)
    come_back(session, action.until)
    return False


def come_back(session: Session, at: datetime) -> None:
    """Not a change that people see: no new version, no audit."""
    mine = Session.objects.filter(pk=session.pk, fence=session.fence, state=session.state)
    if not mine.update(due_at=at):
        raise StaleSession(session.code)


def try_offer(session: Session, action: lifecycle.TryOffer, now: datetime) -> Done:
    chosen = market.next_offer(session, now)
    with transaction.atomic():
        if chosen is None:
            text = last_words(session) or "no comparable offer inside the price ceiling is left"
            stop(session, "no_offers", text, Outcome.FAILED, actor=WORKER, now=now)
            return True
        market.open_attempt(session, chosen, now)
        if session.state == State.REQUESTED:
            move(session, State.CREATING, actor=WORKER, now=now)
        else:
            change(session, now=now)
    return True


def last_words(session: Session) -> str:
    attempt = session.attempt
    return attempt.message if attempt else ""


def create(session: Session, action: lifecycle.Create, now: datetime) -> Call | Done:
    """The permit: committed before the request leaves, and given once (I5, I7)."""
    attempt = attempt_of(session)
    with transaction.atomic():
        if not granted(session, attempt.provider, "create", now):
            return False
        unsent = Attempt.objects.filter(pk=attempt.pk, sent_at__isnull=True, resolution="")
        until = session.expires_at if switch.exists(attempt) else None
        if not unsent.update(sent_at=now, switch_at=until):
            raise StaleSession(session.code)
        change(session, now=now)
        intent(session, attempt, "create", now, price=str(attempt.price_per_hour))
    return CreateCall(
        **whose(session, attempt),
        spec=market.launch_spec(session, attempt, now),
        not_after=now + timedelta(seconds=max(5, seconds(rules(attempt.provider).permit))),
    )


def look(session: Session, action: lifecycle.Look, now: datetime) -> Done:
    attempt = attempt_of(session)
    with transaction.atomic():
        Attempt.objects.filter(pk=attempt.pk).update(
            looks=attempt.looks + 1, last_look_at=action.listed_at
        )
        change(session, now=now)
    return True


def adopt(session: Session, action: lifecycle.Adopt, now: datetime) -> Done:
    attempt = attempt_of(session)
    with transaction.atomic():
        resolve(attempt, Resolution.ADOPTED, now, instance_id=action.instance_id)
        change(session, now=now)
        note(session, attempt, "attempt.adopted", now, instance_id=action.instance_id)
    return True


def not_created(session: Session, action: lifecycle.NotCreated, now: datetime) -> Done:
    attempt = attempt_of(session)
    with transaction.atomic():
        resolve(attempt, Resolution.NOT_CREATED, now, message=attempt.message or action.message)
        change(session, now=now)
        note(session, attempt, "attempt.not_created", now, message=action.message)
    return True


def resolve(attempt: Attempt, to: Resolution, now: datetime, **columns: object) -> None:
    """Compare-and-set of an attempt's resolution; raises StaleSession."""
    same = Attempt.objects.filter(pk=attempt.pk, resolution=attempt.resolution)
    if not same.update(resolution=to, resolved_at=now, **columns):
        raise StaleSession(attempt.label)


def observe(session: Session, action: lifecycle.Observe, now: datetime) -> Done:
    """Copy what the newest listing says; people are told when something they see changed."""
    attempt, changes = attempt_of(session), action.columns
    with transaction.atomic():
        Attempt.objects.filter(pk=attempt.pk).update(**changes)
        if set(changes) - {"last_seen_at"}:
            change(session, now=now)
        words = {k: changes[k] for k in ("raw_state", "status_message") if k in changes}
        if words:
            note(session, attempt, "instance.state", now, **words)
        if "offer" in changes:
            prices = (attempt.actual_price_per_hour, changes["actual_price_per_hour"])
            text = "${} an hour until now, ${} from now on".format(*prices)
            note(session, attempt, "instance.price", now, message=text)
    return True


def attach_key(session: Session, action: lifecycle.AttachKey, now: datetime) -> Call | Done:
    attempt = attempt_of(session)
    with transaction.atomic():
        if not granted(session, attempt.provider, "attach", now):
            return False
        key = all_keys(session)[attempt.keys_attached]
        intent(session, attempt, "attach", now, number=attempt.keys_attached)
    return AttachCall(**whose(session, attempt), public_key=key, number=attempt.keys_attached)


def check_ssh(session: Session, action: lifecycle.CheckSSH, now: datetime) -> Call | Done:
    attempt = attempt_of(session)
    if not attempt.endpoints:
        come_back(session, now + span(3))
        return False
    way = next_way(session, attempt.endpoints)
    target = ssh.Target(
        host=way["host"],
        port=way["port"],
        user=way["user"],
        private_pem=vault.unseal(session.checker_key, vault.checker(session.pk)),
        host_key=session.host_key,
        allow_loopback=allow_loopback(),
        also=switch.command(session, attempt, now),
    )
    return SSHCall(**whose(session, attempt), target=target)


def next_way(session: Session, ways: list[dict]) -> dict:
    """The one that worked, else each in turn: direct, through the marketplace's proxy, ..."""
    if session.ssh_way in ways and not session.ssh_failures:
        return session.ssh_way
    return ways[session.ssh_attempts % len(ways)]


def destroy(session: Session, action: lifecycle.Destroy, now: datetime) -> Call | Done:
    """Only what is provably ours (I1): our label, the account it was made on, its own id."""
    attempt = attempt_of(session)
    if other_account(attempt):
        text = "refused: the key in use belongs to another account"
        Attempt.objects.filter(pk=attempt.pk).update(destroy_message=text)
        change(session, now=now, due_at=now + span(60))
        return False
    with transaction.atomic():
        if not granted(session, attempt.provider, "destroy", now):
            return False
        Attempt.objects.filter(pk=attempt.pk).update(
            destroy_sent_at=now, destroy_tries=attempt.destroy_tries + 1
        )
        change(session, now=now)
        intent(session, attempt, "destroy", now, reason=session.reason or attempt.outcome)
    sure = attempt.resolution != Resolution.ADOPTED or attempt.last_seen_at is not None
    return DestroyCall(**whose(session, attempt), sure=sure)


def other_account(attempt: Attempt) -> bool:
    health = ProviderHealth.objects.filter(provider=attempt.provider).first()
    if health is None:
        return False
    return catalog.is_other_account(health) or health.account_id != attempt.account_id


def read_instance(session: Session, action: lifecycle.ReadInstance, now: datetime) -> Call | Done:
    attempt = attempt_of(session)
    with transaction.atomic():
        if not granted(session, attempt.provider, "read", now):
            return False
    details = attempt.offer.get("details") or {}  # of an adopted machine there are none
    return ReadCall(**whose(session, attempt), details=details)


def gone(session: Session, action: lifecycle.Gone, now: datetime) -> Done:
    attempt = attempt_of(session)
    missed_at = attempt.first_absence_at
    proof = [str(t) for t in (missed_at, attempt.last_absence_at)]
    ended = {} if attempt.destroy_sent_at else ended_itself(session, attempt, missed_at)
    with transaction.atomic():
        resolve(attempt, Resolution.GONE, now, gone_at=now, **ended)
        change(session, now=now)
        note(session, attempt, "attempt.gone", now, absences=attempt.absences, proof=proof)
    return True


def ended_itself(
    session: Session, attempt: Attempt, missed_at: datetime | None
) -> dict[str, datetime]:
    """The column, if its own switch must have ended it before it was missed."""
    at = switch.fired(session, attempt, missed_at)
    return {"ended_itself_at": at} if at else {}


def move_on(session: Session, action: lifecycle.Move, now: datetime) -> Done:
    with transaction.atomic():
        if action.to == State.STOPPING:
            stop(session, action.reason, action.text, action.outcome, actor=WORKER, now=now)
            if action.reason == "expired":
                not_extended(session, now)
        elif action.to == State.ENDED:
            end(session, now)
        else:
            move(session, action.to, actor=WORKER, now=now)
        learn(session, action, now)
    return True


def not_extended(session: Session, now: datetime) -> None:
    """Who extended it since we read it was faster. Raises StaleSession; call it after the write,
    which keeps others from the row until the transaction ends."""
    if not Session.objects.filter(pk=session.pk, expires_at__lte=now).exists():
        raise StaleSession(session.code)


def warn_idle(session: Session, action: lifecycle.WarnIdle, now: datetime) -> Done:
    """On record before anything follows from it, unless somebody said something else meanwhile."""
    asked = {"idle_from": session.idle_from, "idle_minutes": session.idle_minutes}
    with transaction.atomic():
        change(session, now=now, idle_warned_at=now, idle_stops_at=action.stops_at)
        if not Session.objects.filter(pk=session.pk, **asked).exists():
            raise StaleSession(session.code)
        note_idle(session, "idle.warned", action, now)
    return True


def call_off_idle(session: Session, action: lifecycle.CallOffIdle, now: datetime) -> Done:
    attempt = attempt_of(session)
    with transaction.atomic():
        change(session, now=now, idle_warned_at=None, idle_stops_at=None)
        note(session, attempt, "idle.called_off", now)
    return True


def stop_idle(session: Session, action: lifecycle.StopIdle, now: datetime) -> Done:
    """Only while the warning stands: whoever said "in use" since then was faster."""
    with transaction.atomic():
        warned = Session.objects.filter(pk=session.pk, idle_stops_at=action.stops_at)
        if not warned.update(idle_stops_at=None):
            raise StaleSession(session.code)
        stop(session, "idle", action.proof.words, Outcome.OK, actor=WORKER, now=now)
        note_idle(session, "idle.stopped", action, now)
    return True


def note_idle(
    session: Session,
    what: str,
    action: lifecycle.WarnIdle | lifecycle.StopIdle,
    now: datetime,
) -> None:
    """With the samples' summary, which outlives the samples."""
    proof = action.proof
    note(
        session, attempt_of(session), what, now,
        minutes=session.idle_minutes, stops_at=action.stops_at.isoformat(),
        first=proof.since.isoformat(), last=proof.last.isoformat(),
        samples=proof.count, highest_load=proof.highest,
    )  # fmt: skip


def learn(session: Session, action: lifecycle.Move, now: datetime) -> None:
    """What this step says of the offer, if anything."""
    kind = Kind.OK if action.to == State.RUNNING else market.FAULTS.get(action.reason)
    if kind:
        market.remember(attempt_of(session), kind, now)


def end(session: Session, now: datetime) -> None:
    """Proven absent: what could open the machine is erased with the last state."""
    erased = {"checker_key": "", "generated_key": ""}
    move(session, State.ENDED, actor=WORKER, now=now, ended_at=now, **erased)


def attempt_of(session: Session) -> Attempt:
    attempt = session.attempt
    if attempt is None:
        raise StaleSession(session.code)
    return attempt


def granted(session: Session, provider: str, operation: str, now: datetime) -> bool:
    """A token of the shared rate lane, or come back when the next one is due (I27)."""
    later = lanes.take(provider, operation, now)
    if later:
        come_back(session, later)
    return later is None


def whose(session: Session, attempt: Attempt) -> dict:
    return {
        "session_id": session.pk,
        "attempt_id": attempt.pk,
        "fence": session.fence,
        "provider": attempt.provider,
        "label": attempt.label,
        "instance_id": attempt.instance_id,
    }


def intent(session: Session, attempt: Attempt, what: str, now: datetime, **data: object) -> None:
    note(session, attempt, f"provider.{what}.intent", now, **data)


def note(session: Session, attempt: Attempt, action: str, now: datetime, **data: object) -> None:
    audit.append(
        action,
        session=session,
        actor=WORKER,
        reason=str(data.pop("reason", "")),
        provider=attempt.provider,
        label=attempt.label,
        data={"instance_id": attempt.instance_id} | data,
        now=now,
    )


ACTIONS: dict[type, Callable[..., Call | Done]] = {
    lifecycle.Wait: wait,
    lifecycle.TryOffer: try_offer,
    lifecycle.Create: create,
    lifecycle.Look: look,
    lifecycle.Adopt: adopt,
    lifecycle.NotCreated: not_created,
    lifecycle.Observe: observe,
    lifecycle.AttachKey: attach_key,
    lifecycle.CheckSSH: check_ssh,
    lifecycle.Destroy: destroy,
    lifecycle.ReadInstance: read_instance,
    lifecycle.Gone: gone,
    lifecycle.Move: move_on,
    lifecycle.WarnIdle: warn_idle,
    lifecycle.CallOffIdle: call_off_idle,
    lifecycle.StopIdle: stop_idle,
}
