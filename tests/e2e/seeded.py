"""Rows for a whole installation whose worker does not run: nothing changes there by itself."""

from datetime import datetime, timedelta
from decimal import Decimal

from django.contrib.auth import get_user_model
from django.utils import timezone

from providers import catalog, history
from providers.base import Instance, InstanceState, Listing
from providers.models import Stock
from sessions import audit, identity, labels, watch
from sessions.models import GPUSample, Heartbeat, Sighting
from tests.factories import make_health, make_key, make_offer
from tests.web.scenes import build

ACCOUNT = "1001"
GPUS = {"RTX 4090": "0.30", "H100 SXM": "1.90", "L40S": "0.80"}
EVENTS = 60  # more than a page of the audit


def seed(orphans: int) -> None:
    now = timezone.now()
    owner = get_user_model().objects.get()
    identity.ensure()
    make_health("vastai", account_id=ACCOUNT)
    make_key(owner, name="registered before")
    _offers(now)
    _sessions(owner, now)
    _orphans(orphans, now)
    for number in range(EVENTS):
        audit.append("session.extend", actor="worker", data={"hours": number}, now=now)
    Heartbeat.objects.create(name="worker", at=now)
    watch.record(now)
    Heartbeat.objects.update(at=now + timedelta(days=1))  # as if both were still there


def _offers(now: datetime) -> None:
    for gpu, price in GPUS.items():
        for number in range(6):
            make_offer(
                gpu_name=gpu, base_price_per_hour=Decimal(price) + Decimal(number) / 100,
                verified=number % 2 == 0,
            )  # fmt: skip
    for hours in (2, 1, 0):
        Stock.objects.update(prices_at=None)
        history.collect("vastai", now - timedelta(hours=hours))


def _sessions(owner: object, now: datetime) -> None:
    """Of one that runs, its use is known."""
    for _ in range(8):
        session, _ = build("running", now, owner=owner)
        for minute in range(20):
            at = now - timedelta(minutes=minute)
            GPUSample.objects.create(session=session, at=at, load=7, memory_mb=900)


def _orphans(number: int, now: datetime) -> None:
    """Machines with our label on the account, of sessions that nobody knows."""
    who, machines = identity.current(), []
    for at in range(number):
        label = labels.make(who, "vastai", ACCOUNT, f"{at:x}" * 16, 1)
        machines.append(_machine(f"70{at}", label))
    listing = Listing(instances=tuple(machines), account_id=ACCOUNT)
    catalog.store_listing("vastai", listing, started_at=now, now=now)
    for machine in machines:
        Sighting.objects.create(
            provider="vastai", instance_id=machine.instance_id, label=machine.label,
            first_seen_at=now, last_seen_at=now,
        )  # fmt: skip


def _machine(instance_id: str, label: str) -> Instance:
    return Instance(
        provider="vastai", instance_id=instance_id, label=label, state=InstanceState.RUNNING,
        raw_state="running", price_per_hour=Decimal("0.4"), gpu_name_raw="RTX 4090", gpu_count=1,
    )  # fmt: skip
