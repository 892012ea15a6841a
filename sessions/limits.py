"""How often one person may launch and download keys (safety.md section 7).

Counted are the rows that each act leaves behind anyway; a refusal leaves none. They run by the
real clock: they are about people and their scripts, not about waiting for a marketplace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.db.models import QuerySet

from .models import AuditEvent, Session

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
KEY_DOWNLOAD = "session.key_downloaded"


class TooMany(Exception):
    """One act too many; the next one is possible after so many seconds."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.message, self.seconds = message, seconds


@dataclass(frozen=True, kw_only=True)
class Limit:
    most: int
    span: timedelta

    def again_at(self, times: Sequence[datetime], now: datetime) -> datetime | None:
        """When one more is possible, or None for now. `times` are the newest, newest first."""
        if len(times) < self.most:
            return None
        again = times[self.most - 1] + self.span
        return again if again > now else None


def one_at_a_time(owner: AbstractUser) -> None:
    """Until the transaction ends, so that what is counted holds. A transaction on SQLite is
    alone from its start; on PostgreSQL the person's row is locked."""
    get_user_model().objects.select_for_update(no_key=True).get(pk=owner.pk)


def check_launch(owner: AbstractUser, now: datetime) -> None:
    """After one_at_a_time(), inside the transaction of the launch. Raises TooMany."""
    limits = (
        Limit(most=settings.LAUNCHES_PER_MINUTE, span=MINUTE),
        Limit(most=settings.LAUNCHES_PER_HOUR, span=HOUR),
    )
    _check(Session.objects.filter(owner=owner), "created_at", limits, now, "launched {} session")


def check_key_download(actor: str, now: datetime) -> None:
    """After one_at_a_time(), inside the transaction of its audit event. Raises TooMany."""
    limits = (Limit(most=settings.KEY_DOWNLOADS_PER_HOUR, span=HOUR),)
    downloads = AuditEvent.objects.filter(action=KEY_DOWNLOAD, actor=actor)
    _check(downloads, "at", limits, now, "downloaded {} key")


def _check(acts: QuerySet, field: str, limits: Sequence[Limit], now: datetime, what: str) -> None:
    recent = acts.filter(**{f"{field}__gt": now - HOUR}).order_by(f"-{field}")
    times = list(recent.values_list(field, flat=True)[: max(limit.most for limit in limits)])
    waits = [(again, limit) for limit in limits if (again := limit.again_at(times, now))]
    if not waits:
        return
    again_at, limit = max(waits, key=lambda pair: pair[0])
    seconds = int((again_at - now).total_seconds()) + 1  # after them, it works
    unit = "a minute" if limit.span == MINUTE else "an hour"
    act = what.format(limit.most) + ("" if limit.most == 1 else "s")
    done = f"You have {act} within {unit}, the most for one person."
    raise TooMany(f"{done} The next is possible in {_words(seconds)}.", seconds)


def _words(seconds: int) -> str:
    return f"{seconds} s" if seconds < 100 else f"{-(-seconds // 60)} min"
