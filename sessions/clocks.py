"""After a clock that ran ahead was put right: what waits for a time that is far off waits no more.

No honest wait is longer than minutes. Left alone, such rows would close lanes, hide sessions that
are due and pass an old listing off as the newest, for as long as the clock was wrong (I19). When
something was sent, seen first or came into its state is left as it is: that could only make
deadlines and quarantines shorter. Evidence of absence from such a time counts no more.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet

from providers.models import Lane, ProviderHealth, Snapshot

from . import audit
from .models import Attempt, Heartbeat, Session, Sighting, Slot
from .states import Resolution

AHEAD = timedelta(minutes=15)  # the longest wait is shorter, and clocks of several machines agree
EVERY = timedelta(minutes=10)  # shorter than AHEAD, so that no such jump and return goes unseen
READINGS = ("account_checked_at", "account_asked_at") + tuple(
    f"{kind}_{name}" for kind in ("offers", "listing") for name in ("due_at", "claimed_until")
)

last_mend: list[datetime] = []  # of this process


def watch(now: datetime) -> None:
    """Mend at first, after the clock has jumped forth or back, and now and then."""
    if not last_mend or not last_mend[-1] <= now < last_mend[-1] + EVERY:
        last_mend[:] = [now]
        mend(now)


def mend(now: datetime) -> dict[str, int]:
    """How many values of each kind were dated ahead. On record, where there were any."""
    with transaction.atomic():
        found = {name: count for name, count in _mended(now + AHEAD, now) if count}
        if found:
            audit.append("clock.mended", actor="watch", data=found, now=now)
    return found


def _mended(ahead: datetime, now: datetime) -> Iterator[tuple[str, int]]:
    for rows, columns in _waits():
        if rows.filter(_any(columns, ahead)).exists():
            found = ((c, rows.filter(**{f"{c}__gt": ahead})) for c in columns)
            yield rows.model.__name__, sum(late.update(**{c: now}) for c, late in found)
    for rows, nothing in _absences():
        late = rows.filter(last_absence_at__gt=ahead)
        yield f"{rows.model.__name__}.absences", late.update(**nothing) if late.exists() else 0
    old = Snapshot.objects.filter(started_at__gt=ahead)
    yield "Snapshot", old.delete()[0] if old.exists() else 0


def _any(columns: tuple[str, ...], ahead: datetime) -> Q:
    found = Q()
    for column in columns:
        found |= Q(**{f"{column}__gt": ahead})
    return found


def _open_attempts() -> QuerySet[Attempt]:
    return Attempt.objects.exclude(resolution__in=[Resolution.NOT_CREATED, Resolution.GONE])


def _waits() -> Iterator[tuple[QuerySet, tuple[str, ...]]]:
    yield Session.objects.open(), ("due_at", "claimed_until", "ssh_checked_at", "ssh_seen_at")
    yield _open_attempts(), ("destroy_sent_at", "destroy_accepted_at")
    yield Sighting.objects.filter(gone_at__isnull=True), ("next_destroy_at",)
    yield Lane.objects.all(), ("next_at", "open_until")
    yield ProviderHealth.objects.all(), READINGS
    yield Heartbeat.objects.all(), ("at",)
    yield Slot.objects.all(), ("beat_at",)


def _absences() -> Iterator[tuple[QuerySet, dict[str, object]]]:
    nothing = {"absences": 0, "last_absence_at": None}
    yield _open_attempts(), nothing | {"first_absence_at": None}
    yield Sighting.objects.filter(gone_at__isnull=True), nothing
