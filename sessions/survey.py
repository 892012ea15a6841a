"""Whose machines stand on our accounts, by the newest listing: looked at, nothing changed."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from providers import catalog
from providers.base import Instance
from providers.models import Snapshot

from . import identity, labels
from .models import Attempt


@dataclass(frozen=True, kw_only=True)
class Survey:
    """`known` belong to open sessions, `orphans` are ours without one, `foreign` are not ours."""

    provider: str
    read_at: datetime | None = None  # None = never listed
    complete: bool = False
    error: str = ""
    known: tuple[Instance, ...] = ()
    orphans: tuple[Instance, ...] = ()
    foreign: tuple[Instance, ...] = ()

    @property
    def burn(self) -> Decimal:
        """USD per hour of all of them."""
        return rate(self.known + self.orphans + self.foreign)


def survey(provider: str) -> Survey:
    snapshots = Snapshot.objects.filter(provider=provider).order_by("-started_at")
    newest = snapshots.first()
    if newest is None:
        return Survey(provider=provider)
    snapshot = newest if newest.complete else snapshots.filter(complete=True).first() or newest
    who, groups = identity.current(), {"known": [], "orphans": [], "foreign": []}
    present = catalog.instances(snapshot)
    rows = Attempt.objects.filter(label__in=[instance.label for instance in present])
    attempts = {attempt.label: attempt for attempt in rows}
    for instance in present:
        ours = labels.ours(who, instance.label, provider, snapshot.account_id)
        owned = owns(attempts.get(instance.label), instance)
        group = "foreign" if not ours else "known" if owned else "orphans"
        groups[group].append(instance)
    return Survey(
        provider=provider,
        read_at=snapshot.started_at,
        complete=snapshot.complete,
        error=newest.error,
        **{name: tuple(found) for name, found in groups.items()},
    )


def explained(instance: Instance) -> bool:
    """An open attempt of this label owns it."""
    return owns(Attempt.objects.filter(label=instance.label).first(), instance)


def owns(attempt: Attempt | None, instance: Instance) -> bool:
    """By its id, or as long as the id is not known."""
    if attempt is None or attempt.is_closed:
        return False
    return attempt.instance_id in ("", instance.instance_id)


def rate(instances: tuple[Instance, ...]) -> Decimal:
    """USD per hour; a machine without a known price counts nothing."""
    return sum((instance.price_per_hour or Decimal(0) for instance in instances), Decimal(0))
