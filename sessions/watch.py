"""Alerts on record: raised and cleared once each, also when nobody looks at a page.

The newest list stands in one row, so that every page can show what is wrong for one query.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from providers.waits import span

from . import audit, clocks
from .attention import BAD, INFO, Alert, alerts, scene, silence
from .models import Heartbeat, Session

logger = logging.getLogger(__name__)

ACTOR = "watch"
NAME = "alerts"
EVERY = 15  # seconds: with a listing a minute, trouble is told within two
AT_LEAST = timedelta(seconds=2)  # however fast the clock: it takes dozens of queries
NOT_WATCHED = timedelta(minutes=2)  # the list is too old to be believed
Entry = dict[str, str]  # of one alert: key, severity, title, session, provider

last_look: list[datetime] = []  # of this process: passes come many times a second


@dataclass(frozen=True, kw_only=True)
class Banner:
    count: int = 0
    red: tuple[str, ...] = ()


def watch(now: datetime) -> None:
    """Record, where that is due. An error here must not stop those who destroy."""
    every = max(span(EVERY), AT_LEAST)
    if last_look and abs(now - last_look[-1]) < every:
        return
    last_look[:] = [now]
    try:
        clocks.watch(now)
        row = _row(now)
        if abs(now - row.at) >= every:
            record(now, row)
    except Exception:
        logger.exception("the alerts cannot be recorded")


def record(now: datetime, row: Heartbeat | None = None) -> bool:
    """Write the list and what changed in it. False = another process did."""
    row = row or _row(now)
    found = [_entry(alert) for alert in alerts(scene(now), now) if alert.severity != INFO]
    before = {entry["key"]: entry for entry in row.data.get("alerts", [])}
    after = {entry["key"]: entry for entry in found}
    with transaction.atomic():
        mine = Heartbeat.objects.filter(name=NAME, at=row.at)
        if not mine.update(at=now, data={"alerts": found}):
            return False
        for key, entry in after.items():
            if entry["severity"] != before.get(key, {}).get("severity"):
                _note("alert.raised", entry, now)
        for key in before.keys() - after.keys():
            _note("alert.cleared", before[key], now)
    return True


def banner(now: datetime) -> Banner:
    """From the newest list; one query. Silence of those who write it is an alert itself."""
    rows = {row.name: row for row in Heartbeat.objects.filter(name__in=["worker", NAME])}
    entries = list(rows[NAME].data.get("alerts", [])) if NAME in rows else []
    known = [entry for entry in entries if entry["key"] != "worker"]
    titles = [entry["title"] for entry in known if entry["severity"] == BAD]
    silent = list(silence(rows["worker"].at if "worker" in rows else None, now))
    if not silent and NAME in rows and now - rows[NAME].at > NOT_WATCHED:
        silent = list(silence(None, now))
    red = (*(alert.title for alert in silent), *titles)
    return Banner(count=len(known) + len(silent), red=red)


def _row(now: datetime) -> Heartbeat:
    long_ago = now - timedelta(days=1)
    return Heartbeat.objects.get_or_create(name=NAME, defaults={"at": long_ago})[0]


def _entry(alert: Alert) -> Entry:
    return {
        "key": alert.key,
        "severity": alert.severity,
        "title": alert.title,
        "provider": alert.provider,
        "session": str(alert.session.pk) if alert.session else "",
    }


def _note(action: str, entry: Entry, now: datetime) -> None:
    session = Session.objects.filter(pk=entry["session"]).first() if entry["session"] else None
    audit.append(
        action, actor=ACTOR, session=session, reason=entry["title"], provider=entry["provider"],
        data={"alert": entry["key"], "severity": entry["severity"]}, now=now,
    )  # fmt: skip
