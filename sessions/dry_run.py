"""What a session would try in which order, were each of its offers gone. Reads rows alone."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers import memory
from providers.models import Kind, Offer
from providers.templatetags.prices import percent

from . import market
from .models import Session
from .rules import MAX_OFFERS
from .states import Fallback

NO_CEILING = Decimal(9999)  # USD per hour


@dataclass(frozen=True, kw_only=True)
class Try:
    number: int
    offer: Offer
    per_hour: Decimal  # USD, with the disk
    why: str  # it may stand for the chosen one


@dataclass(frozen=True, kw_only=True)
class DryRun:
    tries: list[Try]  # the chosen offer first
    more: int  # that would fit too, but are too many for one session
    nearest: Decimal | None  # USD per hour of the cheapest that only the ceiling keeps out


@dataclass(frozen=True, kw_only=True)
class LaunchTerms:
    """Of a launch, as far as they choose offers."""

    disk_gb: int
    max_price_per_hour: Decimal
    fallback: str
    requirements: dict[str, Any]

    def session(self, chosen: Offer, ceiling: Decimal) -> Session:
        """Never saved."""
        return Session(
            provider=chosen.provider,
            gpu_name=chosen.gpu_name,
            gpu_count=chosen.gpu_count,
            gpu_memory_mb=chosen.gpu_memory_mb,
            disk_gb=self.disk_gb,
            max_price_per_hour=ceiling,
            fallback=self.fallback,
            requirements=self.requirements,
        )


def dry_run(chosen: Offer, terms: LaunchTerms, now: datetime) -> DryRun:
    """By the selection of market.py, with the memory that each failure would leave."""
    if terms.fallback == Fallback.NONE:
        return DryRun(tries=_numbered([chosen], chosen, terms), more=0, nearest=None)
    known, tried = memory.recall(now), [chosen.offer_id]
    fits = market.untried(terms.session(chosen, terms.max_price_per_hour), known, tried)
    left = list(fits[: market.LOOKED_AT + MAX_OFFERS])
    offers = _order(chosen, left, known)
    return DryRun(
        tries=_numbered(offers, chosen, terms),
        more=max(fits.count() + 1 - len(offers), 0),
        nearest=None if left else _nearest(chosen, terms, known),
    )


def _order(chosen: Offer, left: list[Offer], known: memory.Memory) -> list[Offer]:
    order, offer = [], chosen
    while offer and len(order) < MAX_OFFERS:
        order.append(offer)
        left = [one for one in left if one.pk != offer.pk]
        facts = market.facts(offer)
        known.add(memory.experience(offer.provider, offer.offer_id, facts, Kind.GONE, known.now))
        offer = market.trusted_first(left[: market.LOOKED_AT], known)
    return order


def _nearest(chosen: Offer, terms: LaunchTerms, known: memory.Memory) -> Decimal | None:
    offer = market.untried(terms.session(chosen, NO_CEILING), known, [chosen.offer_id]).first()
    return offer.total if offer else None


def _numbered(offers: list[Offer], chosen: Offer, terms: LaunchTerms) -> list[Try]:
    return [
        Try(
            number=number,
            offer=offer,
            per_hour=offer.price_per_hour(terms.disk_gb),
            why=_why(offer, chosen, terms.requirements) if number > 1 else "your choice",
        )
        for number, offer in enumerate(offers, 1)
    ]


def _why(offer: Offer, chosen: Offer, wanted: dict[str, Any]) -> str:
    """In words: same GPU, same country, verified host."""
    more = offer.gpu_memory_mb > chosen.gpu_memory_mb
    memory_words = "more memory" if more else "as much memory"
    words = ["same GPU" if offer.gpu_name == chosen.gpu_name else memory_words]
    if wanted.get("countries"):
        words.append("same country")
    if wanted.get("verified_only"):
        words.append("verified host")
    if wanted.get("min_reliability"):
        words.append(f"{percent(offer.reliability)} reliable")
    return ", ".join(words)
