"""The same once more: an offer and the terms of the launch form, from a session that was."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.db.models import QuerySet

from providers import memory
from providers.filters import plain_number
from providers.models import Offer
from providers.usage import MAX_HOURS

from . import market
from .models import Session, SSHKey
from .states import Outcome


def offer(session: Session, now: datetime) -> Offer | None:
    """The best of the comparable offers inside the same ceiling, for the person to look at. Where
    it failed it is offered again only if there is nothing else."""
    known = memory.recall(now)
    offers = market.untried(session, known, tried=[])
    elsewhere = _elsewhere(session, offers)[: market.LOOKED_AT]
    found = market.trusted_first(elsewhere, known)
    return found or market.trusted_first(offers[: market.LOOKED_AT], known)


def _elsewhere(session: Session, offers: QuerySet[Offer]) -> QuerySet[Offer]:
    last, blamed = session.attempt, session.reason in market.FAULTS
    if last is None or not (blamed or session.outcome == Outcome.LOST):
        return offers
    machine = last.offer.get("machine_id")
    offers = offers.exclude(offer_id=last.offer_id)
    return offers.exclude(machine_id=machine) if machine else offers


def mine(user: AbstractUser, given: str) -> Session | None:
    """Terms are for who fixed them: a startup script is nobody else's business."""
    try:
        pk = UUID(given)
    except ValueError:
        return None
    return Session.objects.visible_to(user).filter(owner=user, pk=pk).first()


def terms(session: Session, offer: Offer) -> dict[str, object]:
    """Initial values of the launch form. Keys that were unregistered since are left out; of an
    adopted session nobody knows image and disk."""
    wanted = session.requirements
    keys = SSHKey.objects.filter(owner=session.owner_id, public_key__in=session.public_keys)
    chosen = [key.pk for key in keys]
    share = wanted.get("min_reliability")
    disk = {"image": session.image, "disk_gb": min(session.disk_gb, offer.disk_gb_max)}
    return (disk if session.image else {}) | {
        "hours": _hours(session),
        "startup_script": session.startup_script,
        "public_keys": chosen,
        "generate_key": len(chosen) < max(len(session.public_keys), 1),
        "max_price_per_hour": plain_number(session.max_price_per_hour),
        "fallback": session.fallback,
        "idle_minutes": session.idle_minutes,
        "verified_only": bool(wanted.get("verified_only")),
        "same_country": offer.country in wanted.get("countries", []),
        "min_reliability": plain_number(Decimal(str(share)) * 100) if share else None,
    }


def _hours(session: Session) -> int:
    """Those it was allowed in the end, with what was added while it ran."""
    whole = round((session.expires_at - session.created_at) / timedelta(hours=1))
    return min(max(whole, 1), MAX_HOURS)
