"""The account against our rows: instances that carry our label but belong to nobody (I4).

The provider is read first and our rows second, so that a row is always the newer of the two.
Unlabelled and foreign instances are never looked at twice: they are not ours.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q

from providers import catalog, lanes, registry, stats
from providers.base import DestroyOutcome, DestroyResult, Instance, ProviderError
from providers.models import ProviderHealth, Snapshot

from . import audit, identity, labels, watch
from .evidence import rules
from .models import Attempt, Heartbeat, Sighting
from .rules import ABSENCES_AFTER_DESTROY, Rules
from .states import Resolution, State
from .survey import explained

logger = logging.getLogger(__name__)

ACTOR = "sweep"
AT_MOST = 3  # orphans destroyed per provider and pass
BREAKER_FLOOR, BREAKER_SHARE = 3, 0.2  # more new orphans than this is not believed (I13)
VANISH_FLOOR = 2
MISSING = "the listing lacks"
BELIEVED = "released:"  # the row of machines whose absence an operator believes
CLAIM_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class OrphanCall:
    """Read that very instance afresh, and destroy it if it still carries the label (I1)."""

    provider: str
    instance_id: str
    label: str
    sighting_id: int

    def perform(self) -> DestroyResult:
        provider = registry.get(self.provider)
        try:
            instance = provider.get_instance(self.instance_id)
        except ProviderError as error:
            return DestroyResult(outcome=DestroyOutcome.RETRY, message=str(error))
        if instance is None:
            return DestroyResult(outcome=DestroyOutcome.NOT_FOUND, message="not found by its id")
        if instance.label != self.label:
            message = "refused: the instance carries another label"
            return DestroyResult(outcome=DestroyOutcome.RETRY, message=message)
        return provider.destroy(self.instance_id)


def claim(limit: int, now: datetime) -> list[OrphanCall]:
    """Read the newest complete listings that were not swept yet, then destroy what is due."""
    watch.watch(now)
    if identity.current().read_only:
        return []
    for provider in registry.names():
        snapshot = _new_snapshot(provider)
        if snapshot:
            _sweep(snapshot, now)
    return _due(limit, now)


def perform(call: OrphanCall) -> stats.Timed:
    return stats.timed(lambda: _perform(call))


def _perform(call: OrphanCall) -> DestroyResult:
    try:
        return call.perform()
    except Exception as error:  # our own bug: reported, and the sighting comes back
        logger.exception("orphan %s", call.label)
        return DestroyResult(outcome=DestroyOutcome.RETRY, message=type(error).__name__)


def finish(call: OrphanCall, timed: stats.Timed, now: datetime) -> None:
    answer = timed.answer
    with transaction.atomic():
        data = {"outcome": str(answer.outcome), "message": answer.message}
        _note(call, "provider.destroy.result", now, **data)
        done = answer.outcome in (DestroyOutcome.ACCEPTED, DestroyOutcome.NOT_FOUND)
        own = rules(call.provider)
        wait = own.destroy_again if done else own.backoff_cap
        Sighting.objects.filter(pk=call.sighting_id).update(
            next_destroy_at=now + timedelta(seconds=wait)
        )
        told = lanes.succeeded if done else lanes.failed
        told(call.provider, "destroy", *([] if done else [now]))
        stats.note(call.provider, "destroy", timed.seconds, stats.verdict(answer), now)


def _new_snapshot(provider: str) -> Snapshot | None:
    """The newest complete listing, once; claimed by compare-and-set on a heartbeat row.

    Passes come many times a second, listings now and then: without a new one nothing is written.
    """
    name = f"sweep:{provider}"
    swept = Heartbeat.objects.filter(name=name).values_list("at", flat=True).first()
    newest = Snapshot.objects.filter(provider=provider, complete=True).order_by("-started_at")
    snapshot = (newest.filter(started_at__gt=swept) if swept else newest).first()
    if snapshot is None:
        return None
    _, made = Heartbeat.objects.get_or_create(name=name, defaults={"at": snapshot.started_at})
    older = Heartbeat.objects.filter(name=name, at__lt=snapshot.started_at)
    return snapshot if made or older.update(at=snapshot.started_at) else None


def _sweep(snapshot: Snapshot, now: datetime) -> None:
    who = identity.current()
    present = catalog.instances(snapshot)
    ours = [
        instance
        for instance in present
        if labels.ours(who, instance.label, snapshot.provider, snapshot.account_id)
    ]
    orphans = [instance for instance in ours if not explained(instance)]
    known = Sighting.objects.filter(provider=snapshot.provider, gone_at__isnull=True)
    fresh = len(orphans) - known.filter(instance_id__in=[i.instance_id for i in orphans]).count()
    if fresh > max(BREAKER_FLOOR, BREAKER_SHARE * len(present)):
        _freeze(snapshot, f"{fresh} instances without a session appeared at once", now)
    _watch_live(snapshot, {i.instance_id for i in present}, now)
    with transaction.atomic():
        for instance in orphans:
            _sight(instance, snapshot, now)
        _absent(snapshot, {i.instance_id for i in present}, now)


def _live(snapshot: Snapshot) -> list[str]:
    """Ids of the machines that must be in it."""
    attempts = Attempt.objects.filter(
        provider=snapshot.provider,
        account_id=snapshot.account_id,
        resolution__in=[Resolution.CREATED, Resolution.ADOPTED],
        last_seen_at__isnull=False,
        session__state__in=[State.BOOTING, State.VERIFYING, State.RUNNING],
    )
    return list(attempts.values_list("instance_id", flat=True))


def _watch_live(snapshot: Snapshot, present: set[str], now: datetime) -> None:
    """A reading in which many machines are missing at once is not believed (I13)."""
    live = _live(snapshot)
    believed = _believed(snapshot.provider, present)
    missing = [instance_id for instance_id in live if instance_id not in present | believed]
    if len(missing) >= max(VANISH_FLOOR, BREAKER_SHARE * len(live)):
        _freeze(snapshot, f"{MISSING} {len(missing)} of {len(live)} live instances at once", now)
    elif not missing:
        _thaw(snapshot, now)


def _thaw(snapshot: Snapshot, now: datetime) -> None:
    """The missing ones are seen again; time alone never releases."""
    rows = ProviderHealth.objects.filter(
        provider=snapshot.provider, frozen_reason__startswith=MISSING
    )
    if not rows.exists():
        return
    with transaction.atomic():
        if rows.update(frozen_reason="", version=F("version") + 1):
            audit.append("provider.thawed", actor=ACTOR, provider=snapshot.provider, now=now)


def _freeze(snapshot: Snapshot, text: str, now: datetime) -> None:
    with transaction.atomic():
        rows = ProviderHealth.objects.filter(provider=snapshot.provider, frozen_reason="")
        if rows.update(frozen_reason=text, version=F("version") + 1):
            audit.append(
                "provider.frozen", actor=ACTOR, reason=text, provider=snapshot.provider, now=now
            )


def release(provider: str, shown: str, actor: str, reason: str, now: datetime) -> bool:
    """An operator believes the readings again; machines that lack now freeze nothing later.
    `shown` = the reason that the operator saw: another one since then is not released."""
    health = ProviderHealth.objects.filter(provider=provider, frozen_reason=shown).first()
    if not shown or health is None or catalog.is_other_account(health):
        return False
    with transaction.atomic():
        same = ProviderHealth.objects.filter(provider=provider, frozen_reason=shown)
        if not same.update(frozen_reason="", version=F("version") + 1):
            return False
        lacking = _lacking(provider)
        name, row = f"{BELIEVED}{provider}", {"at": now, "data": {"instances": lacking}}
        Heartbeat.objects.update_or_create(name=name, defaults=row)
        audit.append(
            "provider.released", actor=actor, reason=reason, provider=provider,
            data={"frozen": shown, "lacking": lacking}, now=now,
        )  # fmt: skip
    return True


def _lacking(provider: str) -> list[str]:
    """Ids of live sessions that the newest complete listing does not show."""
    newest = Snapshot.objects.filter(provider=provider, complete=True).order_by("-started_at")
    snapshot = newest.first()
    if snapshot is None:
        return []
    present = {instance.instance_id for instance in catalog.instances(snapshot)}
    return [instance_id for instance_id in _live(snapshot) if instance_id not in present]


def _believed(provider: str, present: set[str]) -> set[str]:
    """As long as they are missing: one that was seen again is believed no more."""
    rows = Heartbeat.objects.filter(name=f"{BELIEVED}{provider}")
    ids = set(rows[0].data["instances"]) if rows else set()
    if ids & present:
        rows.update(data={"instances": sorted(ids - present)})
    return ids - present


def _sight(instance: Instance, snapshot: Snapshot, now: datetime) -> None:
    sighting, new = Sighting.objects.get_or_create(
        provider=snapshot.provider,
        instance_id=instance.instance_id,
        defaults={"label": instance.label, "first_seen_at": now, "last_seen_at": now},
    )
    if new or sighting.gone_at:
        Sighting.objects.filter(pk=sighting.pk).update(
            gone_at=None, first_seen_at=now, last_seen_at=now, looks=1, absences=0, hurried_at=None
        )
        audit.append(
            "orphan.seen", actor=ACTOR, provider=snapshot.provider, label=instance.label,
            data={"instance_id": instance.instance_id}, now=now,
        )  # fmt: skip
        return
    Sighting.objects.filter(pk=sighting.pk).update(
        last_seen_at=now, looks=F("looks") + 1, absences=0
    )


def _absent(snapshot: Snapshot, present: set[str], now: datetime) -> None:
    """Gone after two complete listings without it, apart from each other."""
    gap = timedelta(seconds=rules(snapshot.provider).absence_gap)
    open_ones = Sighting.objects.filter(provider=snapshot.provider, gone_at__isnull=True)
    for sighting in open_ones.exclude(instance_id__in=present):
        if (
            sighting.last_absence_at
            and sighting.absences
            and (snapshot.started_at - sighting.last_absence_at < gap)
        ):
            continue
        absences = sighting.absences + 1
        gone = now if absences >= ABSENCES_AFTER_DESTROY else None
        Sighting.objects.filter(pk=sighting.pk).update(
            absences=absences, last_absence_at=snapshot.started_at, gone_at=gone
        )
        if gone:
            audit.append(
                "orphan.gone", actor=ACTOR, provider=sighting.provider, label=sighting.label,
                data={"instance_id": sighting.instance_id}, now=now,
            )  # fmt: skip


def _due(limit: int, now: datetime) -> list[OrphanCall]:
    calls: list[OrphanCall] = []
    waiting = Sighting.objects.filter(gone_at__isnull=True, absences=0, looks__gte=2)
    waiting = waiting.filter(ignored_at__isnull=True)
    if not waiting.exists():
        return []
    waiting = waiting.exclude(_held_back())
    for sighting in waiting.order_by("first_seen_at"):
        per_provider = sum(call.provider == sighting.provider for call in calls)
        if len(calls) >= limit or per_provider >= AT_MOST:
            break
        if _ripe(sighting, rules(sighting.provider), now):
            calls += _take(sighting, now)
    return calls


def _held_back() -> Q:
    """While a marketplace is frozen, only what people ask for; nothing on another account."""
    frozen = list(ProviderHealth.objects.exclude(frozen_reason=""))
    names = [health.provider for health in frozen]
    others = [health.provider for health in frozen if catalog.is_other_account(health)]
    return Q(provider__in=names, hurried_at__isnull=True) | Q(provider__in=others)


def _ripe(sighting: Sighting, own: Rules, now: datetime) -> bool:
    if sighting.provider not in registry.names():
        return False
    if sighting.next_destroy_at and sighting.next_destroy_at > now:
        return False
    known = sighting.hurried_at or Attempt.objects.filter(label=sighting.label).exists()
    wait = own.orphan_gap if known else own.orphan_quarantine
    return sighting.last_seen_at - sighting.first_seen_at >= timedelta(seconds=wait)


def _take(sighting: Sighting, now: datetime) -> list[OrphanCall]:
    """Claim by compare-and-set on the tries, with the intent on record first (I5)."""
    call = OrphanCall(
        provider=sighting.provider,
        instance_id=sighting.instance_id,
        label=sighting.label,
        sighting_id=sighting.pk,
    )
    with transaction.atomic():
        if lanes.take(sighting.provider, "destroy", now):
            return []
        mine = Sighting.objects.filter(
            pk=sighting.pk,
            destroy_tries=sighting.destroy_tries,
            ignored_at__isnull=True,
            gone_at__isnull=True,  # nobody has adopted it since
        )
        until = now + timedelta(seconds=CLAIM_SECONDS)
        if not mine.update(destroy_tries=F("destroy_tries") + 1, next_destroy_at=until):
            return []
        why = "orphan, by hand" if sighting.hurried_at else "orphan"
        _note(call, "provider.destroy.intent", now, reason=why)
    return [call]


def _note(call: OrphanCall, action: str, now: datetime, reason: str = "", **data: object) -> None:
    audit.append(
        action, actor=ACTOR, reason=reason, provider=call.provider, label=call.label,
        data={"instance_id": call.instance_id} | data, now=now,
    )  # fmt: skip
