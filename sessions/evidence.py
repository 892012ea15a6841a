"""Rows -> Facts. Reads each provider's listings once for all sessions of a claim."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers import catalog, registry
from providers.base import CreateOutcome, Instance, InstanceState
from providers.models import ProviderHealth, Snapshot
from providers.waits import seconds, span

from . import identity
from .facts import AttemptFacts, Facts, Seen
from .idle import Sample, Watch
from .models import Attempt, Session
from .rules import RULES, Rules, rules_for
from .states import State

# Create calls that say nothing about the offer do not use up the person's five tries.
DO_NOT_COUNT = (CreateOutcome.RATE, CreateOutcome.NOT_SENT)
SEEN_EVERY = 30  # seconds between two writes of "still there"
MOST_RATES = 50  # that one machine is billed at; one that changes more often is not followed


@dataclass(frozen=True)
class Reading:
    """The newest listing, and the newest complete one, of one provider."""

    newest: tuple[Instance, ...] = ()
    complete: tuple[Instance, ...] = ()
    complete_at: datetime | None = None
    account_id: str = ""
    frozen: str = ""


@dataclass
class Scene:
    """What all sessions of one claim share."""

    read_only: str = field(default_factory=lambda: identity.current().read_only)
    readings: dict[str, Reading] = field(default_factory=dict)

    def reading(self, provider: str) -> Reading:
        if provider not in self.readings:
            self.readings[provider] = read(provider)
        return self.readings[provider]


def read(provider: str) -> Reading:
    rows = Snapshot.objects.filter(provider=provider).order_by("-started_at")
    newest, complete = rows.first(), rows.filter(complete=True).first()
    health = ProviderHealth.objects.filter(provider=provider).first()
    return Reading(
        newest=catalog.instances(newest) if newest else (),
        complete=catalog.instances(complete) if complete else (),
        complete_at=complete.started_at if complete else None,
        account_id=complete.account_id if complete else "",
        frozen=health.frozen_reason if health else "",
    )


def rules(provider: str) -> Rules:
    can = registry.capabilities(provider)
    return rules_for(
        create_call=can.create_seconds,
        settle=can.settle_seconds,
        key_grace=can.key_grace_seconds,
        boot=can.boot_seconds,
    )


def gather(session: Session, scene: Scene, now: datetime) -> Facts:
    """Everything that decide() may know about this session."""
    attempts = list(session.attempts.order_by("number"))
    attempt = attempts[-1] if attempts else None
    reading = scene.reading(attempt.provider if attempt else session.provider)
    same_account = attempt is not None and reading.account_id == attempt.account_id
    seen = find(attempt, reading.newest) if attempt else None
    listed = bool(attempt and find(attempt, reading.complete))
    return Facts(
        state=State(session.state),
        state_since=session.state_since,
        created_at=session.created_at,
        expires_at=session.expires_at,
        max_price_per_hour=session.max_price_per_hour,
        attempt=attempt_facts(attempt, session) if attempt else None,
        offers_tried=sum(a.outcome not in DO_NOT_COUNT for a in attempts if a.is_closed),
        first_sent_at=min((a.sent_at for a in attempts if a.sent_at), default=None),
        seen=as_seen(seen, attempt) if seen else None,
        listed_at=reading.complete_at if same_account else None,
        listed=listed,
        news=news(session, attempt, seen, listed, now) if attempt else {},
        frozen=reading.frozen,
        read_only=scene.read_only,
        ssh_refusals=session.ssh_refusals,
        ssh_seen_at=session.ssh_seen_at,
        host_key_changed=session.host_key_changed,
        hardware=tuple(session.found["problems"]) if session.found else None,
        ssh_message=session.ssh_message,
        ssh_checked_at=session.ssh_checked_at,
        idle=watch(session, now),
    )


def watch(session: Session, now: datetime) -> Watch | None:
    """Nobody is stopped for idleness before the machine is theirs, or without having asked."""
    if session.state != State.RUNNING or not session.idle_minutes:
        return None
    needed = 60 * session.idle_minutes + RULES.idle_notice + RULES.idle_gap
    return Watch(
        seconds=seconds(60 * session.idle_minutes),
        samples=counting(session, samples(session, now - span(needed))),
        stops_at=session.idle_stops_at,
    )


def samples(session: Session, since: datetime) -> list[Sample]:
    """Oldest first."""
    rows = session.gpu_samples.filter(at__gte=since).order_by("at", "pk")
    return [Sample(**row) for row in rows.values("at", "load", "memory_mb")]


def counting(session: Session, known: Sequence[Sample]) -> list[Sample]:
    """Without those from before somebody said that it is in use."""
    return [s for s in known if session.idle_from is None or s.at > session.idle_from]


def find(attempt: Attempt, instances: tuple[Instance, ...]) -> Instance | None:
    """Ours by id, or by label as long as no id is known. A foreign label on our id is not ours."""
    for instance in instances:
        if attempt.instance_id and instance.instance_id == attempt.instance_id:
            return instance
        if not attempt.instance_id and instance.label == attempt.label:
            return instance
    return None


def attempt_facts(attempt: Attempt, session: Session) -> AttemptFacts:
    return AttemptFacts(
        number=attempt.number,
        created_at=attempt.created_at,
        sent_at=attempt.sent_at,
        answered_at=attempt.answered_at,
        outcome=attempt.outcome,
        message=attempt.message,
        resolution=attempt.resolution,
        instance_id=attempt.instance_id,
        price_per_hour=attempt.price_per_hour,
        actual_price_per_hour=attempt.actual_price_per_hour,
        keys_missing=keys_missing(attempt, session),
        ever_seen=attempt.last_seen_at is not None,
        looks=attempt.looks,
        last_look_at=attempt.last_look_at,
        destroy_sent_at=attempt.destroy_sent_at,
        destroy_accepted_at=attempt.destroy_accepted_at,
        absences=attempt.absences,
        first_absence_at=attempt.first_absence_at,
        last_absence_at=attempt.last_absence_at,
    )


def keys_missing(attempt: Attempt, session: Session) -> int:
    if not registry.capabilities(attempt.provider).attach_key:
        return 0
    return len(all_keys(session)) - attempt.keys_attached


def all_keys(session: Session) -> list[str]:
    """Public keys that must open the machine: gpubroker's own first, then the person's."""
    return [session.checker_public_key, *session.public_keys]


def as_seen(instance: Instance, attempt: Attempt) -> Seen:
    """Some listings never tell the address: a by-id read has written it down then."""
    return Seen(
        instance_id=instance.instance_id,
        state=instance.state,
        message=instance.status_message,
        has_endpoint=bool(instance.endpoints or attempt.endpoints),
        price_per_hour=instance.price_per_hour,
    )


def news(
    session: Session, attempt: Attempt, seen: Instance | None, listed: bool, now: datetime
) -> dict[str, Any]:
    """Columns of the attempt that the newest listing changes."""
    if attempt.is_closed:
        return {}
    changes = observed(attempt, seen, now) if seen and attempt.instance_id else {}
    answered = session.ssh_seen_at and attempt.first_absence_at
    there = listed or seen or (answered and session.ssh_seen_at > attempt.first_absence_at)
    if attempt.absences and there:
        changes |= {"absences": 0, "first_absence_at": None, "last_absence_at": None}
    return changes


def observed(attempt: Attempt, seen: Instance, now: datetime) -> dict[str, Any]:
    endpoints = [vars(e) for e in seen.endpoints]
    found: dict[str, Any] = {
        "raw_state": seen.raw_state[:40],
        "status_message": seen.status_message[:300],
    }
    if endpoints:
        found["endpoints"] = endpoints
    if seen.state == InstanceState.RUNNING and endpoints and not attempt.ready_at:
        found["ready_at"] = now
    found |= repriced(attempt, billed(seen), now)
    changes = {k: v for k, v in found.items() if getattr(attempt, k) != v}
    old = attempt.last_seen_at is None or now - attempt.last_seen_at > span(SEEN_EVERY)
    return changes | ({"last_seen_at": now} if changes or old else {})


def repriced(attempt: Attempt, price: Decimal | None, now: datetime) -> dict[str, Any]:
    """The price that is billed now; one that has changed leaves the earlier one, with its end."""
    known, earlier = attempt.actual_price_per_hour, attempt.offer.get("rates", [])
    if not price or price == known or len(earlier) >= MOST_RATES:
        return {}
    if known is None:
        return {"actual_price_per_hour": price}
    rates = [*earlier, [now.isoformat(), str(known)]]
    return {"actual_price_per_hour": price, "offer": attempt.offer | {"rates": rates}}


def billed(seen: Instance) -> Decimal | None:
    """The rate counts once the machine runs: before, marketplaces show what they like."""
    return seen.price_per_hour if seen.state == InstanceState.RUNNING else None
