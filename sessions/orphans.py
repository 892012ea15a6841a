"""Orphans as people see them, and what people may decide about one (I4).

Nothing is destroyed here: the sweep does that, with two looks and a fresh read, and only it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction

from providers import registry
from providers.base import Instance
from providers.models import ProviderHealth

from . import adopt, audit, identity
from .evidence import rules
from .identity import Identity
from .models import Attempt, Sighting
from .survey import Survey


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """`wait_until` = the earliest destroy; None where nobody may destroy it by itself."""

    sighting: Sighting
    title: str  # of the marketplace
    known: bool  # its label is of an attempt that we closed
    wait_until: datetime | None
    price: Decimal | None  # USD per hour, if the marketplace says it
    cost: Decimal | None  # USD since it was first seen: an estimate from below
    held: str  # why nothing is done, or empty
    not_adopted: str  # why it cannot become a session, or empty

    @property
    def waiting(self) -> bool:
        return not self.sighting.destroy_tries and not self.held and not self.sighting.absences

    @property
    def quarantined(self) -> bool:
        return self.waiting and not self.known and not self.sighting.hurried_at


def orphans(
    surveys: Iterable[Survey], healths: Mapping[str, ProviderHealth], now: datetime
) -> list[Orphan]:
    """The open ones, oldest first. Five queries."""
    present = {(s.provider, i.instance_id): i for s in surveys for i in s.orphans}
    sightings = list(Sighting.objects.filter(gone_at__isnull=True).order_by("first_seen_at"))
    labels = Attempt.objects.filter(label__in=[sighting.label for sighting in sightings])
    known = set(labels.values_list("label", flat=True))
    rows, who = adopt.known_labels(sightings), identity.current()
    return [
        _orphan(
            sighting,
            sighting.label in known,
            sighting.label in rows,
            present.get((sighting.provider, sighting.instance_id)),
            healths.get(sighting.provider),
            who,
            now,
        )
        for sighting in sightings
    ]


def _orphan(
    sighting: Sighting,
    known: bool,
    row_exists: bool,
    instance: Instance | None,
    health: ProviderHealth | None,
    who: Identity,
    now: datetime,
) -> Orphan:
    held, price = _held(sighting, health), instance.price_per_hour if instance else None
    hours = Decimal((now - sighting.first_seen_at).total_seconds()) / 3600
    return Orphan(
        sighting=sighting,
        title=registry.title(sighting.provider),
        known=known,
        wait_until=None if held else sighting.first_seen_at + wait(sighting, known),
        price=price,
        cost=None if price is None else hours * price,
        held=held,
        not_adopted=adopt.why_not(sighting, instance, health, who, row_exists=row_exists),
    )


def _held(sighting: Sighting, health: ProviderHealth | None) -> str:
    if sighting.provider not in registry.names():
        return "its marketplace is no longer configured"
    if sighting.ignored_at:
        return "ignored"
    if health and health.frozen_reason and not sighting.hurried_at:
        return "automatic destroys are held back"
    return ""


def wait(sighting: Sighting, known: bool) -> timedelta:
    """From the first look to the earliest destroy."""
    own = rules(sighting.provider)
    soon = known or sighting.hurried_at
    return timedelta(seconds=own.orphan_gap if soon else own.orphan_quarantine)


def hurry(pk: int, actor: str, now: datetime) -> bool:
    """No quarantine, and no ignoring any more. False = it is so already, or it is gone."""
    mine = Sighting.objects.filter(pk=pk, gone_at__isnull=True, hurried_at__isnull=True)
    wanted = {"hurried_at": now, "ignored_at": None, "ignored_by": "", "ignored_reason": ""}
    with transaction.atomic():
        return bool(mine.update(**wanted)) and _note(pk, "orphan.hurried", actor, "", now)


def ignore(pk: int, actor: str, reason: str, now: datetime) -> bool:
    """Never destroyed by itself from now on. False = ignored already, or gone."""
    mine = Sighting.objects.filter(pk=pk, gone_at__isnull=True, ignored_at__isnull=True)
    wanted = {"ignored_at": now, "ignored_by": actor, "ignored_reason": reason[:200]}
    with transaction.atomic():
        done = mine.update(hurried_at=None, **wanted)
        return bool(done) and _note(pk, "orphan.ignored", actor, reason, now)


def _note(pk: int, action: str, actor: str, reason: str, now: datetime) -> bool:
    sighting = Sighting.objects.get(pk=pk)
    audit.append(
        action, actor=actor, reason=reason, provider=sighting.provider, label=sighting.label,
        data={"instance_id": sighting.instance_id}, now=now,
    )  # fmt: skip
    return True
