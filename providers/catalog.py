"""Readings of a provider become rows: offers, snapshots of the account, the account itself."""

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from decimal import Decimal

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.db.models import F
from django.utils.dateparse import parse_datetime

from . import history
from .base import Account, Instance, InstanceState, Listing, OfferListing, OfferRecord, SSHEndpoint
from .models import Offer, ProviderHealth, Snapshot, Stock

FACTS = [field.name for field in fields(OfferRecord)]
LEAST_DISK_GB = 8
ROUNDING = Decimal("0.00001")  # USD: rows hold rounded prices
FORGET_OFFERS_AFTER = timedelta(days=1)
OTHER_ACCOUNT = "The key now belongs to account"
SNAPSHOTS = 30  # kept of each provider


def store_offers(provider: str, listing: OfferListing, now: datetime) -> int:
    """Writes only what changed; un-lists only what was surely looked for. Rows written."""
    with transaction.atomic():
        rows = {row.offer_id: row for row in Offer.objects.filter(provider=provider)}
        fresh, stale = [], []
        for record in listing.offers:
            row = rows.get(record.offer_id)
            if row is None:
                fresh.append(_row(record, now))
            elif _update(row, record, now):
                stale.append(row)
        gone = _gone(rows.values(), listing)
        Offer.objects.bulk_create(fresh, batch_size=200)
        written = [*FACTS, "fingerprint", "changed_at", "listed"]
        Offer.objects.bulk_update(stale, written, batch_size=100)
        _unlist(provider, gone, now)
        number = len(fresh) + len(stale) + len(gone)
        if number:
            changed(provider, now)
        history.collect(provider, now)
    return number


def changed(provider: str, now: datetime) -> None:
    """Who holds offers in memory must read them again; in the transaction that wrote them."""
    values = {"version": secrets.randbits(62), "changed_at": now}
    Stock.objects.update_or_create(provider=provider, defaults=values)


def fingerprint(record: OfferRecord) -> str:
    text = json.dumps(_values(record), cls=DjangoJSONEncoder, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _values(record: OfferRecord) -> dict[str, object]:
    """Without the deep copies of asdict(): thousands of offers come a minute."""
    return {name: getattr(record, name) for name in FACTS} | {"details": dict(record.details)}


def _facts(record: OfferRecord) -> dict[str, object]:
    return _values(record) | {"fingerprint": fingerprint(record)}


def _row(record: OfferRecord, now: datetime) -> Offer:
    return Offer(**_facts(record), first_seen_at=now, changed_at=now)


def _update(row: Offer, record: OfferRecord, now: datetime) -> bool:
    """True when the row must be written."""
    facts = _facts(record)
    if row.listed and row.fingerprint == facts["fingerprint"]:
        return False
    for name, value in facts.items():
        setattr(row, name, value)
    row.listed, row.changed_at = True, now
    return True


def _gone(rows: Iterable[Offer], listing: OfferListing) -> list[int]:
    seen = {record.offer_id for record in listing.offers}
    missing = (row for row in rows if row.listed and row.offer_id not in seen)
    return [row.pk for row in missing if _looked_for(row, listing)]


def _looked_for(row: Offer, listing: OfferListing) -> bool:
    if listing.complete or listing.complete_below is None:
        return listing.complete
    price = row.price_per_hour(LEAST_DISK_GB)
    return listing.complete_from + ROUNDING < price < listing.complete_below - ROUNDING


def _unlist(provider: str, gone: list[int], now: datetime) -> None:
    for start in range(0, len(gone), 500):
        some = Offer.objects.filter(pk__in=gone[start : start + 500])
        some.update(listed=False, changed_at=now)
    old = Offer.objects.filter(provider=provider, listed=False)
    old.filter(changed_at__lt=now - FORGET_OFFERS_AFTER).delete()


def evict(provider: str, offer_id: str, until: datetime) -> None:
    """A launch found it gone: hide it although the next reading may still list it."""
    Offer.objects.filter(provider=provider, offer_id=offer_id).update(evicted_until=until)


def store_account(provider: str, account: Account) -> str:
    """The balance, and the id when we see one first. "" or why this is not our account."""
    problem = account_problem(provider, account.account_id)
    if not problem:
        ProviderHealth.objects.filter(provider=provider).update(
            account_id=account.account_id, balance=account.balance, version=F("version") + 1
        )
    return problem


def account_problem(provider: str, account_id: str) -> str:
    """Another account than before freezes the provider: its empty list proves nothing (I13)."""
    health = ProviderHealth.objects.get(provider=provider)
    if health.account_id in ("", account_id):
        _thaw(health)
        return ""
    problem = f"{OTHER_ACCOUNT} {account_id}; our instances are in {health.account_id}."
    ProviderHealth.objects.filter(provider=provider, frozen_reason="").update(
        frozen_reason=problem[:300], version=F("version") + 1
    )
    return problem[:300]


def is_other_account(health: ProviderHealth) -> bool:
    """The key in use opens another account than the one that holds our instances."""
    return health.frozen_reason.startswith(OTHER_ACCOUNT)


def _thaw(health: ProviderHealth) -> None:
    """The right account is back: that, and not time, releases this freeze."""
    if is_other_account(health):
        same = ProviderHealth.objects.filter(pk=health.pk, frozen_reason=health.frozen_reason)
        same.update(frozen_reason="", version=F("version") + 1)


def store_listing(
    provider: str,
    listing: Listing | None,
    *,
    started_at: datetime,
    now: datetime,
    error: str = "",
) -> Snapshot:
    """One Snapshot of what the account holds. None and an error: we could not tell (I12)."""
    with transaction.atomic():
        if listing:
            error = account_problem(provider, listing.account_id)
            if not error:
                ProviderHealth.objects.filter(provider=provider, account_id="").update(
                    account_id=listing.account_id, version=F("version") + 1
                )
        snapshot = Snapshot.objects.create(
            provider=provider,
            started_at=started_at,
            finished_at=now,
            complete=listing is not None and not error,
            account_id=listing.account_id if listing else "",
            error=error[:300],
            instances=[to_json(instance) for instance in listing.instances] if listing else [],
        )
        _prune(provider)
    return snapshot


def _prune(provider: str) -> None:
    """The last good reading stays however many bad ones follow."""
    snapshots = Snapshot.objects.filter(provider=provider).order_by("-pk")
    kept = list(snapshots.values_list("pk", flat=True)[: SNAPSHOTS + 1])
    if len(kept) <= SNAPSHOTS:
        return
    good = snapshots.filter(complete=True).values_list("pk", flat=True)[:1]
    snapshots.filter(pk__lte=kept[-1]).exclude(pk__in=list(good)).delete()


def instances(snapshot: Snapshot) -> tuple[Instance, ...]:
    """The snapshot's records again."""
    return tuple(from_json(data) for data in snapshot.instances)


def to_json(instance: Instance) -> dict[str, object]:
    """Every field under its own name; decimals and instants as text."""
    price, created = instance.price_per_hour, instance.created_at
    return asdict(instance) | {
        "state": str(instance.state),
        "price_per_hour": None if price is None else str(price),
        "created_at": created and created.isoformat(),
        "endpoints": [asdict(endpoint) for endpoint in instance.endpoints],
    }


def from_json(data: Mapping[str, object]) -> Instance:
    price, created = data["price_per_hour"], data["created_at"]
    return Instance(
        **{
            **data,
            "state": InstanceState(data["state"]),
            "price_per_hour": None if price is None else Decimal(price),
            "created_at": created and parse_datetime(created),
            "endpoints": tuple(SSHEndpoint(**endpoint) for endpoint in data["endpoints"]),
        }
    )
