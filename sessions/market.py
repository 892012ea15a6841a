"""Which offer a session tries next, and the attempt that stands for the try."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import DecimalField, ExpressionWrapper, F, Q, QuerySet

from providers import catalog, memory, registry
from providers.base import CreateOutcome, LaunchSpec
from providers.dead_man import Lease
from providers.models import Kind, Offer, ProviderHealth
from providers.waits import span

from . import identity, labels
from .evidence import DO_NOT_COUNT, all_keys
from .models import Attempt, Session
from .rules import latest_end
from .states import Fallback

OFFER_FACTS = (
    "gpu_name",
    "gpu_name_raw",
    "gpu_count",
    "gpu_memory_mb",
    "machine_id",
    "country",
    "place",
    "cpu_cores",
    "ram_mb",
    "cuda_max",
    "driver_version",
    "reliability",
    "details",
)
MEMORY_TOLERANCE = Decimal("0.93")
EVICT_SECONDS = 1800
EVICTS = (Kind.GONE, Kind.HARDWARE, Kind.PRICE)  # never the doing of an image or a key
FAULTS = {  # reasons of a failed session that are the offer's doing
    "boot_failed": Kind.BOOT,
    "boot_timeout": Kind.BOOT,
    "ssh_timeout": Kind.SSH,
    "ssh_refused": Kind.SSH,
    "wrong_hardware": Kind.HARDWARE,
    "price_breach": Kind.PRICE,
}
LOOKED_AT = 50  # of the cheapest comparable offers
HALF_A_NANO = Decimal("0.0000000005")  # prices have nine digits, and SQLite adds them as floats


def next_offer(session: Session, now: datetime) -> Offer | None:
    """The offer that was clicked, then the cheapest comparable one that was not tried yet."""
    attempts = list(session.attempts.order_by("number"))
    clicked = Offer.objects.filter(provider=session.provider, offer_id=session.offer_id).first()
    if not attempts:
        return clicked
    last = attempts[-1]
    if last.outcome in DO_NOT_COUNT:  # it says nothing about the offer
        return Offer.objects.filter(provider=last.provider, offer_id=last.offer_id).first()
    if session.fallback == Fallback.NONE:
        return None
    known = memory.recall(now)
    offers = untried(session, known, [attempt.offer_id for attempt in attempts])
    return trusted_first(offers[:LOOKED_AT], known)


def untried(session: Session, known: memory.Memory, tried: list[str]) -> QuerySet[Offer]:
    """What may still be tried by itself, cheapest first; LOOKED_AT of them are compared."""
    offers = comparable(session, known.now).exclude(offer_id__in=tried)
    return offers.exclude(known.resting())


def trusted_first(offers: Iterable[Offer], known: memory.Memory) -> Offer | None:
    """Of those that cost about as much as the cheapest, the one that has failed least."""
    offers = list(offers)
    return next(iter(memory.rank(offers, [offer.total for offer in offers], known)), None)


def rentable(
    provider: str, gpu_count: int, disk_gb: int, ceiling: Decimal, now: datetime
) -> QuerySet[Offer]:
    """What is listed, not known to be gone, and costs at most the ceiling (USD per hour, with the
    disk); with `total`, that price."""
    total = F("base_price_per_hour") + F("disk_price_per_gb_hour") * disk_gb
    priced = Offer.objects.annotate(
        total=ExpressionWrapper(total, DecimalField(max_digits=18, decimal_places=12))
    )
    fresh = Q(evicted_until__isnull=True) | Q(evicted_until__lt=now)
    return priced.filter(
        fresh,
        provider=provider,
        listed=True,
        interruptible=False,
        gpu_count=gpu_count,
        disk_gb_max__gte=disk_gb,
        total__lt=ceiling + HALF_A_NANO,
    )


def comparable(session: Session, now: datetime) -> QuerySet[Offer]:
    """Offers inside the ceiling and requirements fixed at launch, cheapest first."""
    offers = rentable(
        session.provider, session.gpu_count, session.disk_gb, session.max_price_per_hour, now
    ).filter(gpu_memory_mb__gte=int(session.gpu_memory_mb * MEMORY_TOLERANCE))
    if session.fallback != Fallback.MEMORY:
        offers = offers.filter(gpu_name=session.gpu_name)
    return _required(offers, session.requirements).order_by("total", "pk")


def _required(offers: QuerySet[Offer], wanted: dict[str, Any]) -> QuerySet[Offer]:
    if wanted.get("countries"):
        offers = offers.filter(country__in=wanted["countries"])
    if wanted.get("min_reliability"):
        offers = offers.filter(reliability__gte=wanted["min_reliability"])
    if wanted.get("verified_only"):
        offers = offers.filter(verified=True)
    return offers


def facts(offer: Offer) -> dict[str, Any]:
    """What an attempt keeps of its offer."""
    return {name: getattr(offer, name) for name in OFFER_FACTS}


def open_attempt(session: Session, offer: Offer, now: datetime) -> Attempt:
    """Intent before effect: the label and the price are on record before any request (I5)."""
    number = (session.attempts.count() or 0) + 1
    account = ProviderHealth.objects.get(provider=offer.provider).account_id
    who = identity.current()
    return Attempt.objects.create(
        session=session,
        number=number,
        provider=offer.provider,
        account_id=account,
        label=labels.make(who, offer.provider, account, session.code, number),
        offer_id=offer.offer_id,
        offer=facts(offer),
        price_per_hour=offer.price_per_hour(session.disk_gb),
        created_at=now,
    )


def launch_spec(session: Session, attempt: Attempt, now: datetime) -> LaunchSpec:
    return LaunchSpec(
        label=attempt.label,
        offer_id=attempt.offer_id,
        gpu_name_raw=attempt.offer["gpu_name_raw"],
        gpu_count=attempt.offer["gpu_count"],
        image=session.image,
        disk_gb=session.disk_gb,
        ssh_public_keys=tuple(all_keys(session)),
        expires_at=session.expires_at,
        startup_script=session.startup_script,
        lease=lease(session, attempt, now),
        details=attempt.offer["details"],
    )


def lease(session: Session, attempt: Attempt, now: datetime) -> Lease | None:
    """By what a machine ends itself, where it can (I10)."""
    if not registry.capabilities(attempt.provider).self_destroy:
        return None
    latest = latest_end(session.created_at)
    return Lease(start=now, end=session.expires_at, latest=max(latest, session.expires_at))


def says_offer_is_bad(outcome: str) -> bool:
    return outcome in (CreateOutcome.OFFER_GONE, CreateOutcome.LEFTOVER)


def remember(attempt: Attempt, kind: Kind, now: datetime) -> None:
    """How the attempt's offer did; what is not there, or is not what was sold, is hidden too."""
    memory.remember(attempt.provider, attempt.offer_id, attempt.offer, kind, now)
    if kind in EVICTS:
        catalog.evict(attempt.provider, attempt.offer_id, now + span(EVICT_SECONDS))
