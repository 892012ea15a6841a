"""What sessions cost, from their attempts. Money in USD."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from .models import Attempt, Session
from .rules import CENT_OF_A_CENT, PRICE_TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Cost:
    so_far: Decimal
    per_hour: Decimal | None  # of the newest attempt that may be billed; None = nothing agreed yet
    agreed: Decimal | None
    billed: Decimal | None  # what the provider says it bills
    at_most: Decimal | None  # None: nobody can say, it runs until the proof
    billing: bool  # money may flow at this moment
    as_of: datetime


def cost(session: Session, attempts: Iterable[Attempt], now: datetime) -> Cost:
    attempts = list(attempts)
    last = attempts[-1] if attempts else None
    so_far = sum((attempt.cost(now) for attempt in attempts), Decimal(0))
    rate = price(last) if last else None
    billing = any(map(is_billing, attempts))
    return Cost(
        so_far=so_far,
        per_hour=rate,
        agreed=last.price_per_hour if last else None,
        billed=last.actual_price_per_hour if last else None,
        at_most=_at_most(session, so_far, rate, billing, now),
        billing=billing,
        as_of=now,
    )


def _at_most(
    session: Session, so_far: Decimal, rate: Decimal | None, billing: bool, now: datetime
) -> Decimal | None:
    if session.state == "ended":
        return so_far
    if session.state == "stopping":
        return None if billing else so_far
    hours = Decimal(max((session.expires_at - now).total_seconds(), 0)) / 3600
    certain = rate if billing and rate is not None else session.max_price_per_hour
    return so_far + certain * hours


def price(attempt: Attempt) -> Decimal:
    return attempt.actual_price_per_hour or attempt.price_per_hour


def dearer(attempt: Attempt) -> bool:
    """Its price rose after it was handed out: no reason to destroy it (I15), but to be told."""
    most = attempt.price_per_hour * PRICE_TOLERANCE + CENT_OF_A_CENT
    return (attempt.actual_price_per_hour or 0) > most


def is_billing(attempt: Attempt) -> bool:
    """Sent, and not proven to be nothing: it may cost money."""
    return attempt.sent_at is not None and not attempt.is_closed
