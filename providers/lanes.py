"""When the next request of one kind may leave: rate lanes and breakers, shared by all processes."""

import random
from datetime import datetime, timedelta

from django.db import transaction

from . import waits
from .models import Lane

INTERVALS = {  # seconds between two requests, a little more than the provider demands
    "vastai": {
        "create": 5,
        "destroy": 3.2,
        "read": 2.2,
        "list": 1.2,
        "attach": 2.2,
        "offers": 6.5,
        "account": 1.2,
    },
    "tensordock": {  # together under 80 of the 100 a minute that all operations share
        "create": 6,
        "destroy": 2.4,
        "read": 3,
        "list": 4,
        "offers": 15,
        "account": 30,
    },
}
INTERVAL = 0.75  # where the table says nothing
THRESHOLD = 5  # failures in a row that open a breaker
FIRST_BREAK, LONGEST_BREAK = 15, 300  # seconds
PROBE_SECONDS = 60  # how long one trial request may stay without a result
NEVER_BROKEN = "destroy"


def take(provider: str, operation: str, now: datetime) -> datetime | None:
    """None: granted, send one request. Else when to come back. Call it inside a transaction."""
    lane, _ = Lane.objects.get_or_create(
        provider=provider, operation=operation, defaults={"next_at": now}
    )
    wait = max(lane.next_at, lane.open_until or lane.next_at)
    if wait > now:
        return wait
    changes: dict[str, object] = {"next_at": now + interval(provider, operation)}
    if lane.open_until:  # half open: this one is the trial, its failure opens again
        changes |= {"open_until": now + waits.span(PROBE_SECONDS), "failures": THRESHOLD - 1}
    as_read = Lane.objects.filter(pk=lane.pk, next_at=lane.next_at, open_until=lane.open_until)
    return None if as_read.update(**changes) else now + interval(provider, operation)


def interval(provider: str, operation: str) -> timedelta:
    return waits.span(INTERVALS.get(provider, {}).get(operation, INTERVAL))


def succeeded(provider: str, operation: str) -> None:
    """An answer of any sense came back: the breaker closes."""
    lanes = Lane.objects.filter(provider=provider, operation=operation)
    lanes.exclude(failures=0, open_until=None).update(failures=0, open_until=None, opened=0)


def failed(provider: str, operation: str, now: datetime) -> None:
    """No usable answer. Not for "too often", a gone offer, or a request that was wrong."""
    if operation == NEVER_BROKEN:
        return
    with transaction.atomic():
        lane = (
            Lane.objects.select_for_update().filter(provider=provider, operation=operation).first()
        )
        if lane is None:
            return
        lane.failures += 1
        if lane.failures == THRESHOLD:  # later ones left before it opened
            lane.opened += 1
            lane.open_until = now + waits.span(_break_seconds(lane.opened))
        lane.save(update_fields=["failures", "opened", "open_until"])


def circuit(operation: str, lane: Lane | None, now: datetime) -> str:
    """In words for people: closed, open, half-open (one trial decides), never held back."""
    if operation == NEVER_BROKEN:
        return "never held back"
    if lane is None or lane.open_until is None:
        return "closed"
    return "open" if lane.open_until > now and lane.failures >= THRESHOLD else "half-open"


def _break_seconds(times: int) -> float:
    """15, 30, 60 ... 300, each up to a fifth more or less so that processes do not march."""
    seconds = min(FIRST_BREAK * 2 ** min(times - 1, 10), LONGEST_BREAK)
    return seconds * random.uniform(0.8, 1.2)
