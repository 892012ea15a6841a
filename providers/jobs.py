"""The readings that are due: stock, instances, account. A work source (claim, perform, finish)."""

import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from . import catalog, lanes, registry, stats, waits
from .base import (
    Account,
    AuthRefused,
    BadResponse,
    Listing,
    OfferListing,
    ProviderError,
    RateLimited,
    RequestRefused,
)
from .models import ProviderHealth

LISTING_SECONDS = 60  # while nothing of ours is waiting; want_listing() asks for more
ACCOUNT_SECONDS = 300
REFUSED_SECONDS = 60  # a key that is not accepted is tried once a minute
FIRST_BACK_OFF, LONGEST_BACK_OFF = 7, 60  # seconds
CLAIM_SECONDS = {"offers": 300, "listing": 120}
PATIENCE = timedelta(seconds=60)  # after that, a reading that was asked for is missing
LEAST_CLAIM = 15  # real seconds: deadlines on the wire do not shrink with the clock
LANES = {"offers": "offers", "listing": "list", "account": "account"}

_unread: dict[str, str] = {}  # a hint of this process alone; lost, the stock is read anew

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Call:
    provider: str
    kind: str  # "offers", "listing", "account"
    fence: int = 0
    after: str = ""  # where the last reading of the stock stopped


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What came back, or why nothing did."""

    started_at: datetime
    found: OfferListing | Listing | Account | None = None
    error: ProviderError | None = None
    seconds: float = 0  # how long it took


def ensure_rows(now: datetime | None = None) -> None:
    """One ProviderHealth row for each configured provider."""
    now = now or timezone.now()
    rows = [
        ProviderHealth(provider=name, offers_due_at=now, listing_due_at=now)
        for name in registry.names()
    ]
    ProviderHealth.objects.bulk_create(rows, ignore_conflicts=True)


def want_listing(provider: str, now: datetime, within_seconds: float) -> None:
    """Pull the next listing forward, but never against a back-off. Seconds as they are."""
    wanted = now + timedelta(seconds=within_seconds)
    ProviderHealth.objects.filter(
        provider=provider, listing_due_at__gt=wanted, listing_failures=0, auth_error=""
    ).update(listing_due_at=wanted)


def want_account(provider: str, now: datetime) -> None:
    """Somebody waits for a reading of the account; who asks meanwhile waits with them."""
    patience = Q(account_asked_at=None) | Q(account_asked_at__lt=now - PATIENCE)
    rows = ProviderHealth.objects.filter(patience, provider=provider)
    rows.update(account_asked_at=now, version=F("version") + 1)


def waiting_since(health: ProviderHealth, now: datetime) -> datetime | None:
    """When a reading was asked for that may still come."""
    asked = health.account_asked_at
    return asked if asked and asked >= now - PATIENCE else None


# claim


def claim(limit: int, now: datetime) -> list[Call]:
    """At most `limit` readings that are due; each takes its token from its lane."""
    calls: list[Call] = []
    for health in ProviderHealth.objects.filter(provider__in=registry.names()):
        for kind in ("listing", "account", "offers"):
            if len(calls) < limit and (call := _claim(health, kind, now)):
                calls.append(call)
    return calls


def _claim(health: ProviderHealth, kind: str, now: datetime) -> Call | None:
    if not _due(health, kind, now):
        return None
    with transaction.atomic():
        if not _hold(health, kind, now):
            return None
        later = lanes.take(health.provider, LANES[kind], now)
        if later:
            transaction.set_rollback(True)
    if later:
        _postpone(health, kind, later)
        return None
    after = _unread.get(health.provider, "") if kind == "offers" else ""
    return Call(provider=health.provider, kind=kind, fence=_fence(health, kind) + 1, after=after)


def _due(health: ProviderHealth, kind: str, now: datetime) -> bool:
    if kind == "account":
        seconds = REFUSED_SECONDS if health.auth_error else ACCOUNT_SECONDS
        checked, asked = health.account_checked_at, health.account_asked_at
        if checked is None or (asked and checked < asked):
            return True
        return checked + waits.span(seconds) <= now
    claimed = getattr(health, f"{kind}_claimed_until")
    return getattr(health, f"{kind}_due_at") <= now and (claimed is None or claimed <= now)


def _hold(health: ProviderHealth, kind: str, now: datetime) -> bool:
    """Compare-and-set: of several processes one gets it."""
    row = ProviderHealth.objects.filter(provider=health.provider)
    if kind == "account":
        as_read = row.filter(account_checked_at=health.account_checked_at)
        return bool(as_read.update(account_checked_at=now))
    fence = getattr(health, f"{kind}_fence")
    seconds = max(LEAST_CLAIM, waits.seconds(CLAIM_SECONDS[kind]))
    until = now + timedelta(seconds=seconds)
    changes = {f"{kind}_fence": fence + 1, f"{kind}_claimed_until": until}
    return bool(row.filter(**{f"{kind}_fence": fence}).update(**changes))


def _fence(health: ProviderHealth, kind: str) -> int:
    return -1 if kind == "account" else getattr(health, f"{kind}_fence")


def _postpone(health: ProviderHealth, kind: str, later: datetime) -> None:
    """Nobody has to ask again before the lane opens."""
    if kind != "account":
        row = ProviderHealth.objects.filter(provider=health.provider)
        row.filter(**{f"{kind}_fence": _fence(health, kind)}).update(**{f"{kind}_due_at": later})


# perform


def perform(call: Call) -> Reading:
    """The network part, in any thread. Never raises, never touches the database."""
    started_at = timezone.now()
    timed = stats.timed(lambda: _read(call))
    key = "error" if isinstance(timed.answer, ProviderError) else "found"
    return Reading(started_at=started_at, seconds=timed.seconds, **{key: timed.answer})


def _read(call: Call) -> OfferListing | Listing | Account | ProviderError:
    try:
        provider = registry.get(call.provider)
        if call.kind == "offers":
            return provider.search_offers(call.after)
        return provider.list_instances() if call.kind == "listing" else provider.account()
    except ProviderError as error:
        return error
    except Exception as error:
        log.exception("reading %s of %s went wrong", call.kind, call.provider)
        return BadResponse(f"an answer that we could not handle ({type(error).__name__})")


# finish


def finish(call: Call, reading: Reading, now: datetime) -> None:
    """The rows. A reading whose claim was taken over meanwhile is thrown away."""
    with transaction.atomic():
        if not _release(call):
            return
        health = ProviderHealth.objects.get(provider=call.provider)
        _tell_lane(call, reading, now)
        FINISH[call.kind](health, reading, now)
        _note_key(health, reading, now)
        verdict = stats.verdict(reading.error or reading.found)
        stats.note(call.provider, LANES[call.kind], reading.seconds, verdict, now)


def _release(call: Call) -> bool:
    if call.kind == "account":
        return True
    row = ProviderHealth.objects.filter(provider=call.provider)
    held = row.filter(**{f"{call.kind}_fence": call.fence})
    return bool(held.update(**{f"{call.kind}_claimed_until": None}))


def _tell_lane(call: Call, reading: Reading, now: datetime) -> None:
    if reading.error is None or isinstance(reading.error, AuthRefused | RequestRefused):
        lanes.succeeded(call.provider, LANES[call.kind])
    elif not isinstance(reading.error, RateLimited):
        lanes.failed(call.provider, LANES[call.kind], now)


def _finish_offers(health: ProviderHealth, reading: Reading, now: datetime) -> None:
    if reading.error:
        failures = health.offers_failures + 1
        _unread.pop(health.provider, None)
        _write(
            health,
            offers_due_at=now + waits.span(_back_off(failures, reading.error)),
            offers_error=str(reading.error)[:300],
            offers_failures=failures,
        )
        return
    catalog.store_offers(health.provider, reading.found, now)
    _unread[health.provider] = reading.found.next_after
    seconds = registry.capabilities(health.provider).offers_ttl_seconds
    wait = waits.span(seconds)
    if reading.found.next_after:
        wait = lanes.interval(health.provider, LANES["offers"])
    _write(
        health,
        offers_due_at=now + wait,
        offers_read_at=now,
        offers_error="",
        offers_failures=0,
        offers_note=reading.found.note[:300],
    )


def _finish_listing(health: ProviderHealth, reading: Reading, now: datetime) -> None:
    snapshot = catalog.store_listing(
        health.provider,
        reading.found,
        started_at=reading.started_at,
        now=now,
        error=str(reading.error or ""),
    )
    failures = health.listing_failures + 1 if reading.error else 0
    seconds = _back_off(failures, reading.error) if reading.error else LISTING_SECONDS
    changes = {"listing_due_at": now + waits.span(seconds), "listing_failures": failures}
    if snapshot.error == health.listing_error:  # every few seconds: no news for the page
        ProviderHealth.objects.filter(pk=health.pk).update(**changes)
    else:
        _write(health, listing_error=snapshot.error, **changes)


def _finish_account(health: ProviderHealth, reading: Reading, now: datetime) -> None:
    """A person who asked before this reading began has the answer."""
    if reading.found:
        catalog.store_account(health.provider, reading.found)
    asked = health.account_asked_at
    changes: dict[str, object] = {"account_error": str(reading.error or "")[:300]}
    if reading.found:
        changes["account_read_at"] = now
    if asked and asked <= reading.started_at:
        changes["account_asked_at"] = None
    _write(health, **changes)


FINISH = {"offers": _finish_offers, "listing": _finish_listing, "account": _finish_account}


def _note_key(health: ProviderHealth, reading: Reading, now: datetime) -> None:
    """Only an answered or a refused call says something about our key; a search needs none."""
    refused = isinstance(reading.error, AuthRefused)
    trusted = isinstance(reading.found, Listing | Account)
    problem = str(reading.error)[:300] or "refused" if refused else ""
    if (refused or trusted) and problem != health.auth_error:
        since = (health.auth_refused_at or now) if problem else None
        _write(health, auth_error=problem, auth_refused_at=since)


def _write(health: ProviderHealth, **changes: object) -> None:
    """Columns that people see."""
    row = ProviderHealth.objects.filter(pk=health.pk)
    row.update(version=F("version") + 1, **changes)


def _back_off(failures: int, error: ProviderError) -> float:
    """Unscaled seconds: full jitter above a floor that respects the slowest rate limit."""
    if isinstance(error, AuthRefused):
        return REFUSED_SECONDS
    longest = min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2 ** min(failures, 10))
    return random.uniform(FIRST_BACK_OFF, longest)
