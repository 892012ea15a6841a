"""The same once more: an offer and the terms of the launch form, from a session that was."""

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import AbstractUser

from providers import memory
from providers.models import Offer

from . import market
from .models import Session, SSHKey


def offer(session: Session, now: datetime) -> Offer | None:
    """The best of the comparable offers inside the same ceiling, for the person to look at."""
    known = memory.recall(now)
    offers = market.untried(session, known, tried=[])
    return market.trusted_first(offers[: market.LOOKED_AT], known)


def mine(user: AbstractUser, given: str) -> Session | None:
    """Terms are for who fixed them: a startup script is nobody else's business."""
    try:
        pk = UUID(given)
    except ValueError:
        return None
    return Session.objects.visible_to(user).filter(owner=user, pk=pk).first()


def terms(session: Session, offer: Offer) -> dict[str, object]:
    """Initial values of the launch form. Keys that were unregistered since are left out."""
    wanted = session.requirements
    keys = SSHKey.objects.filter(owner=session.owner_id, public_key__in=session.public_keys)
    chosen = [key.pk for key in keys]
    return {
        "image": session.image,
        "disk_gb": min(session.disk_gb, offer.disk_gb_max),
        "startup_script": session.startup_script,
        "public_keys": chosen,
        "generate_key": len(chosen) < max(len(session.public_keys), 1),
        "max_price_per_hour": session.max_price_per_hour.normalize(),
        "fallback": session.fallback,
        "idle_minutes": session.idle_minutes,
        "verified_only": bool(wanted.get("verified_only")),
        "same_country": offer.country in wanted.get("countries", []),
        "min_reliability": wanted.get("min_reliability"),
    }
