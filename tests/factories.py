"""Rows for tests: plain functions that fill every required column; keywords override."""

from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.utils import timezone

from providers import catalog
from providers.models import Offer, ProviderHealth
from sessions.models import Attempt, Session, SSHKey
from sessions.states import Outcome, State

NUMBERS = count(1)
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def make_user(username: str = "", *, password: str | None = None, **fields: Any) -> AbstractUser:
    """A person; without a password nobody can sign in with one (use client.force_login)."""
    name = username or f"person{next(NUMBERS)}"
    return get_user_model().objects.create_user(name, f"{name}@example.org", password, **fields)


def make_offer(**fields: Any) -> Offer:
    number = next(NUMBERS)
    now = timezone.now()
    values = {
        "provider": "vastai",
        "offer_id": f"{9000 + number}",
        "machine_id": f"m{number}",
        "gpu_name": "RTX 4090",
        "gpu_count": 1,
        "gpu_memory_mb": 24564,
        "base_price_per_hour": Decimal("0.40"),
        "disk_price_per_gb_hour": Decimal("0.0002"),
        "disk_gb_max": 500,
        "cpu_name": "AMD EPYC 7402",
        "cpu_cores": 16,
        "ram_mb": 64000,
        "inet_down_mbps": 900,
        "inet_up_mbps": 700,
        "reliability": 0.99,
        "cuda_max": "12.8",
        "driver_version": "570.86",
        "country": "ES",
        "place": "Spain",
        "verified": True,
        "fingerprint": f"fingerprint-{number}",
        "first_seen_at": now,
        "changed_at": now,
    } | fields
    offer = Offer.objects.create(**{"gpu_name_raw": values["gpu_name"]} | values)
    catalog.changed(offer.provider, now)
    return offer


def make_health(provider: str = "vastai", **fields: Any) -> ProviderHealth:
    now = timezone.now()
    values = {
        "account_id": "1001",
        "balance": Decimal("25"),
        "account_checked_at": now,
        "offers_due_at": now,
        "offers_read_at": now,
        "listing_due_at": now,
    } | fields
    return ProviderHealth.objects.update_or_create(provider=provider, defaults=values)[0]


def make_key(owner: AbstractUser, **fields: Any) -> SSHKey:
    number = next(NUMBERS)
    values = {
        "name": f"laptop {number}",
        "public_key": PUBLIC_KEY,
        "fingerprint": f"SHA256:{number:043d}",
    } | fields
    return SSHKey.objects.create(owner=owner, **values)


def make_session(state: str = State.REQUESTED, **fields: Any) -> Session:
    """A session in any state, without attempts; an ended one went well unless said otherwise."""
    number = next(NUMBERS)
    now = timezone.now()
    values = {
        "code": f"s{number:015d}",
        "owner": fields.get("owner") or make_user(),
        "idempotency_key": f"key-{number}",
        "state": state,
        "state_since": now,
        "created_at": now,
        "expires_at": now + timedelta(hours=4),
        "provider": "vastai",
        "offer_id": f"{9000 + number}",
        "gpu_name": "RTX 4090",
        "gpu_count": 1,
        "gpu_memory_mb": 24564,
        "max_price_per_hour": Decimal("0.50"),
        "image": "nvidia/cuda:12.4.1-devel-ubuntu22.04",
        "disk_gb": 40,
        "public_keys": [PUBLIC_KEY],
        "due_at": now,
        "changed_at": now,
    }
    if state == State.ENDED:
        values |= {"ended_at": now, "outcome": Outcome.OK}
    return Session.objects.create(**values | fields)


def make_attempt(session: Session | None = None, **fields: Any) -> Attempt:
    """One create call of a session, with a permit and no answer unless said otherwise."""
    session = session or make_session(State.CREATING)
    number = fields.get("number") or session.attempts.count() + 1
    now = timezone.now()
    values = {
        "number": number,
        "provider": session.provider,
        "account_id": "1001",
        "label": f"gb1-testtest00-{session.code}-{number}-00000000",
        "offer_id": session.offer_id,
        "offer": {"gpu_name": session.gpu_name, "gpu_count": session.gpu_count},
        "price_per_hour": Decimal("0.408"),
        "created_at": now,
        "sent_at": now,
    } | fields
    return Attempt.objects.create(session=session, **values)
