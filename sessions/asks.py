"""What a person asks: launch, stop, extend. Rows and audit in one transaction, nothing else."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_UP, Decimal
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.utils import timezone

from providers import registry
from providers.models import Offer, ProviderHealth
from providers.usage import MAX_HOURS

from . import audit, identity, keys, limits, vault
from .idle import MAX_MINUTES, MIN_MINUTES
from .models import Session
from .moves import StaleSession, change
from .moves import stop as move_to_stopping
from .rules import latest_end
from .states import Fallback, Outcome, State

CODE_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
TRIES = 5  # against others who move the same session at the same moment


class LaunchRefused(Exception):
    """A launch that cannot be; `field` names the form's field, or is empty."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


@dataclass(frozen=True, kw_only=True)
class Order:
    """All that a person fixes at launch. Money in USD per hour, disk included."""

    idempotency_key: str
    provider: str
    offer_id: str
    image: str
    disk_gb: int
    hours: int
    max_price_per_hour: Decimal
    fallback: str = Fallback.SAME_GPU
    requirements: dict[str, Any] = field(default_factory=dict)
    startup_script: str = ""
    public_keys: list[str] = field(default_factory=list)  # normalised lines
    generate_key: bool = False
    idle_minutes: int | None = None  # None = no stop when idle


def launch(owner, order: Order, now: datetime | None = None) -> Session:
    """One session per (owner, idempotency key), however often it is asked for.

    Raises LaunchRefused, or TooMany of limits.py.
    """
    now = now or timezone.now()
    before = Session.objects.filter(owner=owner, idempotency_key=order.idempotency_key)
    with transaction.atomic():
        limits.one_at_a_time(owner)  # also the other half of a double click
        if session := before.first():
            return session
        offer = _check(order, now)
        limits.check_launch(owner, now)
        return _insert(owner, order, offer, now)


def _check(order: Order, now: datetime) -> Offer:
    if identity.current().read_only:
        raise LaunchRefused("", identity.current().read_only)
    if order.provider not in registry.names():
        raise LaunchRefused("", "This marketplace is not configured.")
    health = ProviderHealth.objects.filter(provider=order.provider).first()
    if not health or not health.account_id:
        raise LaunchRefused("", "The marketplace has not confirmed our account yet. Try again.")
    if not 1 <= order.hours <= MAX_HOURS:
        raise LaunchRefused("hours", f"Between 1 and {MAX_HOURS} hours.")
    if not idle_minutes_possible(order.idle_minutes):
        raise LaunchRefused("idle_minutes", f"Between {MIN_MINUTES} and {MAX_MINUTES} minutes.")
    offer = Offer.objects.filter(provider=order.provider, offer_id=order.offer_id).first()
    if offer is None or not offer.listed:
        raise LaunchRefused("", "This offer is no longer listed.")
    if offer.evicted_until and offer.evicted_until > now:
        raise LaunchRefused("", "A launch found this offer gone or not as sold a moment ago.")
    if offer.interruptible:
        raise LaunchRefused("", "This offer can be interrupted at any time: it is not rented.")
    return _check_fit(order, offer)


def _check_fit(order: Order, offer: Offer) -> Offer:
    least = registry.capabilities(order.provider).offer_min_disk_gb
    if not least <= order.disk_gb <= offer.disk_gb_max:
        raise LaunchRefused("disk_gb", f"Between {least} and {offer.disk_gb_max} GB.")
    price = offer.price_per_hour(order.disk_gb)
    if price > order.max_price_per_hour:
        enough = price.quantize(Decimal("0.0001"), ROUND_UP)
        raise LaunchRefused("max_price_per_hour", f"The offer costs ${enough}/h by now.")
    if not order.public_keys and not order.generate_key:
        raise LaunchRefused("public_keys", "Choose a key, or let one be generated.")
    return offer


def _insert(owner, order: Order, offer: Offer, now: datetime) -> Session:
    own, extra = keys.generate("gpubroker"), keys.generate() if order.generate_key else None
    pk = uuid4()
    session = Session.objects.create(
        id=pk,
        code="".join(secrets.choice(CODE_ALPHABET) for _ in range(16)),
        owner=owner,
        idempotency_key=order.idempotency_key,
        state_since=now,
        created_at=now,
        changed_at=now,
        due_at=now,
        expires_at=now + timedelta(hours=order.hours),
        provider=order.provider,
        offer_id=order.offer_id,
        gpu_name=offer.gpu_name,
        gpu_count=offer.gpu_count,
        gpu_memory_mb=offer.gpu_memory_mb,
        max_price_per_hour=order.max_price_per_hour,
        fallback=order.fallback,
        requirements=order.requirements,
        image=order.image,
        disk_gb=order.disk_gb,
        startup_script=order.startup_script,
        idle_minutes=order.idle_minutes,
        public_keys=order.public_keys + ([extra.public_line] if extra else []),
        checker_key=vault.seal(own.private_pem, vault.checker(pk)),
        checker_public_key=own.public_line,
        generated_key=vault.seal(extra.private_pem, vault.generated(pk)) if extra else "",
    )
    terms = {
        "offer": order.offer_id,
        "max_price_per_hour": str(order.max_price_per_hour),
        "image": order.image,
        "disk_gb": order.disk_gb,
        "hours": order.hours,
        "fallback": order.fallback,
        "idle_minutes": order.idle_minutes,
    }
    audit.append(
        "session.launch", session=session, actor=actor(owner), provider=order.provider,
        data=terms, now=now,
    )  # fmt: skip
    return session


def may_stop(user, session: Session) -> bool:
    return session.owner_id == user.pk or user.has_perm("gpu_sessions.stop_all_sessions")


def stop(session: Session, user, reason: str = "user", now: datetime | None = None) -> bool:
    """True when this call made it stop; False when it was stopping or ended already."""
    for _ in range(TRIES):
        session.refresh_from_db()
        if session.state in (State.STOPPING, State.ENDED):
            return False
        try:
            move_to_stopping(session, reason, "", Outcome.OK, actor=actor(user), now=now)
        except StaleSession:
            continue
        return True
    raise StaleSession(session.code)


def extend(session: Session, user, hours: int, now: datetime | None = None) -> bool:
    """Later end, at most MAX_HOURS after the launch. False when nothing could be added."""
    now = now or timezone.now()
    for _ in range(TRIES):
        session.refresh_from_db()
        new = min(session.expires_at + timedelta(hours=hours), latest_end(session.created_at))
        if new <= session.expires_at or session.state in (State.STOPPING, State.ENDED):
            return False
        try:
            _extend(session, user, new, now)
        except StaleSession:
            continue
        return True
    raise StaleSession(session.code)


def _extend(session: Session, user, new: datetime, now: datetime) -> None:
    """Who wants it for longer is using it: an announced idle stop is off."""
    data = {"from": session.expires_at.isoformat(), "to": new.isoformat()}
    with transaction.atomic():
        change(session, now=now, expires_at=new, **_idle_anew(now))
        audit.append("session.extend", session=session, actor=actor(user), data=data, now=now)


def idle_minutes_possible(minutes: int | None) -> bool:
    return minutes is None or MIN_MINUTES <= minutes <= MAX_MINUTES


def idle_stop(session: Session, user, minutes: int | None, now: datetime | None = None) -> bool:
    """Another time after which an idle machine is stopped; None = never. It counts from now.

    False when the session is stopping or the time is none that can be.
    """
    if not idle_minutes_possible(minutes):
        return False
    return _in_use(session, user, "session.idle_stop", now, idle_minutes=minutes)


def keep_running(session: Session, user, now: datetime | None = None) -> bool:
    """ "I am still using it": an announced stop is off, and idleness counts from now."""
    return _in_use(session, user, "session.keep_running", now)


def _in_use(session: Session, user, what: str, now: datetime | None, **columns: Any) -> bool:
    now = now or timezone.now()
    for _ in range(TRIES):
        session.refresh_from_db()
        if session.state in (State.STOPPING, State.ENDED):
            return False
        before = {f"{name}_before": getattr(session, name) for name in columns}
        try:
            with transaction.atomic():
                change(session, now=now, **_idle_anew(now), **columns)
                data = columns | before
                audit.append(what, session=session, actor=actor(user), data=data, now=now)
        except StaleSession:
            continue
        return True
    raise StaleSession(session.code)


def _idle_anew(now: datetime) -> dict[str, Any]:
    """The columns of a session that is in use just now."""
    return {"idle_from": now, "idle_warned_at": None, "idle_stops_at": None}


def actor(user) -> str:
    """How the audit names a person: never by a name or an address (safety.md section 7)."""
    return f"user:{user.pk}"
