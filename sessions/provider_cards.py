"""What the providers page says of each marketplace, as plain values from rows alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Count

from providers import catalog, jobs, lanes, registry, stats
from providers.models import CallHour, Lane, Offer, ProviderHealth
from providers.views import Freshness, freshness, health_rows
from providers.waits import span

from . import sweep
from .stages import Stages, stages
from .survey import Survey, rate, survey

CREDENTIALS = {"vastai": "VASTAI_API_KEY", "tensordock": "TENSORDOCK_API_TOKEN"}
PREFIXES = {"vastai": ("VASTAI_", "VAST_"), "tensordock": ("TENSORDOCK_",)}
HOURS_LOW = 6  # of balance left at the present burn
LISTINGS_MISSED = 5
OPERATIONS = {
    "offers": "Offers",
    "list": "List machines",
    "account": "Account",
    "create": "Create",
    "attach": "Install a key",
    "read": "Read a machine",
    "destroy": "Destroy",
}
RELEASES = {
    catalog.OTHER_ACCOUNT: "This ends by itself when the key of our account is back.",
    sweep.MISSING: "This ends by itself when a complete listing shows them again.",
}
RELEASED_BY_HAND = "Somebody has to look at the account at the marketplace first."


@dataclass(frozen=True, kw_only=True)
class Key:
    tone: str
    state: str
    since: datetime | None = None
    checked_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One kind of calls in the last day, and whether its circuit lets them through."""

    name: str
    circuit: str  # a word of lanes.circuit
    until: datetime | None
    failures: int
    day: stats.Figures


@dataclass(frozen=True, kw_only=True)
class Card:
    health: ProviderHealth
    key: Key
    freshness: Freshness
    offers: int
    waiting: bool  # a test was asked for and its answer may still come
    unanswered: bool  # a test was asked for and nothing came
    seen: Survey
    listing_old: bool
    foreign_burn: Decimal
    hours_left: Decimal | None  # None = nothing is spent, or no balance is known
    hour_start: datetime
    hour: stats.Figures
    day: stats.Figures
    operations: list[Operation]
    stages: Stages
    problems: list[str]
    release: str

    @property
    def name(self) -> str:
        return self.health.provider

    @property
    def variable(self) -> str:
        return CREDENTIALS.get(self.name, "")

    @property
    def foreign_unpriced(self) -> bool:
        """Some have no known price: the burn is a lower bound."""
        return any(instance.price_per_hour is None for instance in self.seen.foreign)

    @property
    def low(self) -> bool:
        return self.hours_left is not None and self.hours_left < HOURS_LOW


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A marketplace without a key."""

    title: str
    variable: str
    problems: list[str]


def cards(now: datetime, names: Iterable[str] | None = None) -> list[Card]:
    """Of the configured marketplaces. The number of queries grows with them alone."""
    rows = [row for row in health_rows() if names is None or row.provider in names]
    counts = Offer.objects.filter(listed=True).values_list("provider").annotate(Count("pk"))
    offers, history = dict(counts.order_by()), stages(now)
    circuits, hours = list(Lane.objects.all()), _hours(now)
    return [
        _card(
            row,
            now,
            offers=offers.get(row.provider, 0),
            circuits={lane.operation: lane for lane in circuits if lane.provider == row.provider},
            hours=[hour for hour in hours if hour.provider == row.provider],
            history=history.get(row.provider, Stages()),
        )
        for row in rows
    ]


def _hours(now: datetime) -> list[CallHour]:
    return list(CallHour.objects.filter(hour__gte=stats.since(now, 23)))


def _card(
    health: ProviderHealth,
    now: datetime,
    *,
    offers: int,
    circuits: dict[str, Lane],
    hours: list[CallHour],
    history: Stages,
) -> Card:
    seen = survey(health.provider)
    waiting = jobs.waiting_since(health, now) is not None
    late = span(jobs.LISTING_SECONDS * LISTINGS_MISSED)
    hour_start = stats.since(now, 1)
    return Card(
        health=health,
        key=key(health),
        freshness=freshness(health, now),
        offers=offers,
        waiting=waiting,
        unanswered=health.account_asked_at is not None and not waiting,
        seen=seen,
        listing_old=seen.read_at is not None and seen.read_at < now - late,
        foreign_burn=rate(seen.foreign),
        hours_left=_hours_left(health.balance, seen.burn),
        hour_start=hour_start,
        hour=stats.together(row for row in hours if row.hour >= hour_start),
        day=stats.together(hours),
        operations=operations(health.provider, circuits, hours, now),
        stages=history,
        problems=problems(health.provider),
        release=_release(health.frozen_reason),
    )


def key(health: ProviderHealth) -> Key:
    """Accepted once an answered call has shown whose account it opens."""
    checked_at = health.account_read_at or health.account_checked_at
    if health.auth_error:
        return Key(tone="bad", state="refused", since=health.auth_refused_at)
    if health.account_id:
        return Key(tone="ok", state="accepted", checked_at=checked_at)
    return Key(tone="warn" if health.account_error else "", state="not checked yet")


def _hours_left(balance: Decimal | None, burn: Decimal) -> Decimal | None:
    return max(balance, Decimal(0)) / burn if balance is not None and burn else None


def operations(
    provider: str, circuits: dict[str, Lane], hours: list[CallHour], now: datetime
) -> list[Operation]:
    known = lanes.INTERVALS.get(provider, OPERATIONS)
    found = []
    for name in (name for name in OPERATIONS if name in known):
        lane = circuits.get(name)
        found.append(
            Operation(
                name=OPERATIONS[name],
                circuit=lanes.circuit(name, lane, now),
                until=lane.open_until if lane else None,
                failures=lane.failures if lane else 0,
                day=stats.together(row for row in hours if row.operation == name),
            )
        )
    return found


def problems(provider: str) -> list[str]:
    """Sentences about variables that look like this marketplace's."""
    prefixes = PREFIXES.get(provider, (provider.upper(),))
    return [text for text in settings.CONFIG_PROBLEMS if text.startswith(prefixes)]


def missing() -> list[Missing]:
    return [
        Missing(
            title=registry.title(name),
            variable=CREDENTIALS.get(name, ""),
            problems=problems(name),
        )
        for name in registry.ADAPTERS
        if name not in settings.PROVIDERS
    ]


def _release(reason: str) -> str:
    words = (text for start, text in RELEASES.items() if reason.startswith(start))
    return next(words, RELEASED_BY_HAND)
