"""Readings become rows: nothing is written twice, nothing vanishes unproven."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from providers import catalog
from providers.base import (
    Account,
    Instance,
    InstanceState,
    Listing,
    OfferListing,
    OfferRecord,
    SSHEndpoint,
)
from providers.models import Offer, ProviderHealth, Snapshot

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def record(offer_id: str, price: str = "0.3", **changes: Any) -> OfferRecord:
    values: dict[str, Any] = {
        "provider": "vastai",
        "offer_id": offer_id,
        "gpu_name": "RTX 4090",
        "gpu_name_raw": "RTX 4090",
        "gpu_count": 1,
        "gpu_memory_mb": 24564,
        "base_price_per_hour": Decimal(price),
        "disk_price_per_gb_hour": Decimal("0.0001"),
        "disk_gb_max": 200,
        "ends_at": NOW + timedelta(days=9),
        "details": {"host_id": "7"},
    }
    return OfferRecord(**values | changes)


def store(*records: OfferRecord, complete: bool = True, now: datetime = LATER, **part: Any) -> int:
    listing = OfferListing(offers=records, complete=complete, **part)
    return catalog.store_offers("vastai", listing, now)


def listed() -> set[str]:
    return set(Offer.objects.filter(listed=True).values_list("offer_id", flat=True))


def health(**fields: Any) -> ProviderHealth:
    values = {"provider": "vastai", "offers_due_at": NOW, "listing_due_at": NOW}
    return ProviderHealth.objects.create(**values | fields)


def test_unchanged_offers_are_not_written_again() -> None:
    assert store(record("1"), record("2"), now=NOW) == 2
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert store(record("1"), record("2")) == 0
    assert not [q for q in queries if q["sql"].startswith(("UPDATE", "INSERT"))]
    assert store(record("1", "0.31"), record("2")) == 1
    row = Offer.objects.get(offer_id="1")
    assert (row.base_price_per_hour, row.changed_at) == (Decimal("0.31"), LATER)
    assert (row.first_seen_at, row.details) == (NOW, {"host_id": "7"})
    assert Offer.objects.get(offer_id="2").changed_at == NOW


def test_only_a_complete_reading_takes_offers_off_the_list() -> None:
    store(record("1"), record("2"), now=NOW)
    store(record("1"), complete=False)
    assert listed() == {"1", "2"}
    store(record("1"))
    assert listed() == {"1"}
    store(record("1"), record("2"))
    assert listed() == {"1", "2"}


def test_another_providers_offers_stay() -> None:
    other = record("1", provider="tensordock")
    catalog.store_offers("tensordock", OfferListing(offers=(other,), complete=True), NOW)
    store(record("2"))
    assert listed() == {"1", "2"}


def test_a_part_takes_off_only_what_it_looked_for() -> None:
    store(record("a", "0.1"), record("b", "0.2"), record("c", "0.3"), record("d", "0.4"))
    part = {"complete_from": Decimal("0.2"), "complete_below": Decimal("0.4")}
    store(record("c", "0.3"), complete=False, **part)
    assert listed() == {"a", "c", "d"}


def test_a_price_on_the_edge_of_a_part_is_not_judged() -> None:
    store(record("a", "0.2"), now=NOW)  # with the least disk: 0.2008
    edge = Decimal("0.2008")
    store(complete=False, complete_from=edge, complete_below=Decimal(1))
    store(complete=False, complete_from=Decimal(0), complete_below=edge)
    assert listed() == {"a"}


def test_offers_long_gone_are_forgotten() -> None:
    store(record("1"), record("2"), now=NOW)
    store(record("1"), now=LATER)
    store(record("1"), now=LATER + timedelta(days=2))
    assert list(Offer.objects.values_list("offer_id", flat=True)) == ["1"]


def test_an_evicted_offer_stays_evicted_when_it_is_still_listed() -> None:
    store(record("1"), now=NOW)
    catalog.evict("vastai", "1", LATER)
    store(record("1", "0.2"))
    assert Offer.objects.get().evicted_until == LATER


MACHINE = Instance(
    provider="vastai",
    instance_id="31255041",
    label="gb1-x",
    state=InstanceState.RUNNING,
    endpoints=(SSHEndpoint(host="203.0.113.42", port=40112, user="root"),),
    price_per_hour=Decimal("0.228800"),
    created_at=NOW,
)


@pytest.mark.parametrize(
    "machine", [MACHINE, replace(MACHINE, price_per_hour=None, created_at=None)]
)
def test_an_instance_survives_its_snapshot(machine: Instance) -> None:
    health()
    listing = Listing(instances=(machine,), account_id="4711")
    catalog.store_listing("vastai", listing, started_at=NOW, now=LATER)
    snapshot = Snapshot.objects.get()
    assert catalog.instances(snapshot) == (machine,)
    assert (snapshot.complete, snapshot.account_id) == (True, "4711")
    assert ProviderHealth.objects.get().account_id == "4711"


def test_an_unanswered_listing_is_an_incomplete_snapshot() -> None:
    health(account_id="4711")
    catalog.store_listing("vastai", None, started_at=NOW, now=LATER, error="no answer")
    snapshot = Snapshot.objects.get()
    assert (snapshot.complete, snapshot.instances, snapshot.error) == (False, [], "no answer")


def test_another_account_proves_nothing_and_freezes() -> None:
    health(account_id="4711")
    other = Listing(instances=(), account_id="99")
    catalog.store_listing("vastai", other, started_at=NOW, now=LATER)
    snapshot, row = Snapshot.objects.get(), ProviderHealth.objects.get()
    assert not snapshot.complete and "99" in snapshot.error
    assert row.account_id == "4711" and "4711" in row.frozen_reason


def test_another_account_does_not_replace_an_older_reason_to_freeze() -> None:
    health(account_id="4711", frozen_reason="too many vanished at once")
    problem = catalog.store_account("vastai", Account(account_id="99", balance=Decimal(5)))
    row = ProviderHealth.objects.get()
    assert problem and row.frozen_reason == "too many vanished at once"
    assert row.balance is None


def test_old_snapshots_go_but_the_last_good_one_stays() -> None:
    health()
    good = Listing(instances=(), account_id="4711")
    first = catalog.store_listing("vastai", good, started_at=NOW, now=NOW)
    second = catalog.store_listing("vastai", good, started_at=NOW, now=NOW)
    for _ in range(40):
        catalog.store_listing("vastai", None, started_at=NOW, now=NOW, error="no answer")
    kept = set(Snapshot.objects.values_list("pk", flat=True))
    assert len(kept) == 31 and second.pk in kept and first.pk not in kept
