"""An orphan that a restored database has lost becomes a session again, by an operator's hand (I4).

Only where that is honest: our own label, of a session that no row knows, on a machine that runs
and into which gpubroker's key can still be brought. From then on it is a session like any other:
what cannot be verified in time is destroyed.
"""

from datetime import datetime, timedelta
from uuid import uuid4

from django.db import transaction

from providers import catalog, registry
from providers.base import CreateOutcome, Instance, InstanceState
from providers.gpus import canonical
from providers.models import ProviderHealth
from providers.usage import HOURS

from . import audit, identity, keys, labels, vault
from .asks import actor
from .identity import Identity
from .labels import Parts
from .models import Attempt, Session, Sighting, SSHKey
from .moves import move
from .states import Fallback, Resolution, State
from .survey import survey


class AdoptRefused(Exception):
    """The message says why, in a sentence."""


def why_not(
    sighting: Sighting,
    instance: Instance | None,
    health: ProviderHealth | None,
    who: Identity,
    *,
    row_exists: bool,
) -> str:
    """A sentence; empty = it can be adopted. `instance` as the newest complete listing shows it,
    `row_exists` = a session or an attempt of its label is known."""
    title = registry.title(sighting.provider)
    if sighting.provider not in registry.names() or health is None:
        return f"{title} is not configured."
    if row_exists:
        return "Its session is known, and is over or has another machine."
    if not registry.capabilities(sighting.provider).attach_key:
        return f"{title} takes keys only when it creates a machine: gpubroker could not log in."
    if sighting.destroy_tries:
        return "A destroy was sent already."
    if instance is None or sighting.absences:
        return "It is not in the newest complete listing."
    if instance.state != InstanceState.RUNNING:
        return "It does not run."
    if instance.price_per_hour is None or not instance.gpu_name_raw or not instance.gpu_count:
        return f"{title} does not say what it is or what it costs."
    return _not_ours(sighting, health, who)


def _not_ours(sighting: Sighting, health: ProviderHealth, who: Identity) -> str:
    if who.read_only:
        return "This installation is read-only."
    mine = labels.ours(who, sighting.label, sighting.provider, health.account_id)
    if mine is None or catalog.is_other_account(health):
        return "The key in use belongs to another account."
    return ""


def known_labels(sightings: list[Sighting]) -> set[str]:
    """Of those, whose session or attempt has a row. Two queries."""
    codes = {s.label: parts.code for s in sightings if (parts := labels.parse(s.label))}
    rows = Session.objects.filter(code__in=codes.values()).values_list("code", flat=True)
    found, tried = set(rows), Attempt.objects.filter(label__in=codes)
    return {label for label, code in codes.items() if code in found} | set(
        tried.values_list("label", flat=True)
    )


def adopt(pk: int, user, reason: str, now: datetime) -> Session:
    """The session, on its way to being verified. Raises AdoptRefused; nothing is written then."""
    with transaction.atomic():
        mine = Sighting.objects.filter(
            pk=pk, gone_at__isnull=True, destroy_tries=0, absences=0
        )  # nobody has begun to destroy it, and nobody can once this is committed
        if not mine.update(gone_at=now):
            raise AdoptRefused("It is gone, or a destroy was sent already.")
        sighting = Sighting.objects.get(pk=pk)
        health = ProviderHealth.objects.filter(provider=sighting.provider).first()
        present = {i.instance_id: i for i in survey(sighting.provider).orphans}
        instance = present.get(sighting.instance_id)
        known, who = bool(known_labels([sighting])), identity.current()
        refusal = why_not(sighting, instance, health, who, row_exists=known)
        parts = labels.parse(sighting.label)
        if refusal or parts is None or instance is None or health is None:
            raise AdoptRefused(refusal or "It does not carry our label.")
        return _begin(sighting, instance, parts, health.account_id, user, reason, now)


def _begin(
    sighting: Sighting,
    instance: Instance,
    parts: Parts,
    account_id: str,
    user,
    reason: str,
    now: datetime,
) -> Session:
    who = actor(user)
    session = _session(instance, parts, user, now)
    facts = {"instance_id": instance.instance_id}
    audit.append(
        "session.adopted", session=session, actor=who, reason=reason, provider=session.provider,
        label=sighting.label, data=facts, now=now,
    )  # fmt: skip
    _attempt(session, sighting, instance, parts, account_id, now)
    audit.append(
        "attempt.adopted", session=session, actor=who, provider=session.provider,
        label=sighting.label, data=facts, now=now,
    )  # fmt: skip
    move(session, State.CREATING, actor=who, why="adopted", now=now)
    move(session, State.BOOTING, actor=who, why="adopted", now=now)
    return session


def _session(instance: Instance, parts: Parts, user, now: datetime) -> Session:
    """What the person once chose is lost: no image, no disk, the keys of who adopts it."""
    own, pk = keys.generate("gpubroker"), uuid4()
    registered = SSHKey.objects.filter(owner=user).order_by("pk")
    return Session.objects.create(
        id=pk,
        code=parts.code,
        owner=user,
        idempotency_key=f"adopted-{parts.code}-{parts.number}",
        state_since=now,
        created_at=now,
        changed_at=now,
        due_at=now,
        expires_at=now + timedelta(hours=HOURS),
        provider=instance.provider,
        offer_id="",
        gpu_name=canonical(instance.gpu_name_raw),
        gpu_count=instance.gpu_count,
        gpu_memory_mb=0,
        max_price_per_hour=instance.price_per_hour,
        fallback=Fallback.NONE,
        image="",
        disk_gb=0,
        public_keys=list(registered.values_list("public_key", flat=True)),
        checker_key=vault.seal(own.private_pem, vault.checker(pk)),
        checker_public_key=own.public_line,
    )


def _attempt(
    session: Session,
    sighting: Sighting,
    instance: Instance,
    parts: Parts,
    account_id: str,
    now: datetime,
) -> None:
    """Billed since the marketplace says that it exists, or since we know of it."""
    made = instance.created_at
    since = made if made and made < now else sighting.first_seen_at
    facts = {
        "gpu_name": session.gpu_name,
        "gpu_name_raw": instance.gpu_name_raw,
        "gpu_count": instance.gpu_count,
        "gpu_memory_mb": 0,
        "machine_id": instance.machine_id,
        "details": {},
    }
    Attempt.objects.create(
        session=session,
        number=parts.number,
        provider=instance.provider,
        account_id=account_id,
        label=sighting.label,
        offer_id="",
        offer=facts,
        price_per_hour=instance.price_per_hour,
        actual_price_per_hour=instance.price_per_hour,
        created_at=now,
        sent_at=since,
        outcome=CreateOutcome.UNKNOWN,
        message="adopted: no row knew it any more",
        instance_id=instance.instance_id,
        resolution=Resolution.ADOPTED,
        resolved_at=now,
        last_seen_at=now,
    )
