"""Notices what others committed, renders it once, and hands it to this process's sockets.

One task a web process, started by the first socket. The database is the only bus; commits.py hears
of what is written there.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.utils import timezone

from . import commits, live
from .models import Session
from .overview import overview
from .states import State

logger = logging.getLogger(__name__)

BATCH_SECONDS = 0.25  # no object is sent more often
TOTALS_SECONDS = 15  # money grows without a commit
OVERLAP = timedelta(seconds=60)  # commits become visible out of order, and clocks differ
RESTART_SECONDS = 1.0


@dataclass(frozen=True)
class Push:
    group: str
    text: str
    read_at: float  # monotonic, from before the rows were read: what is older never follows
    about: str = ""  # the session that it is news of: its own page shows it without being told


@dataclass
class Tailer:
    versions: dict[UUID, int] | None = None  # of what was looked at; None before the first look
    sent: dict[str, dict[str, str]] = field(default_factory=dict)  # by group and name, as sent
    layouts: dict[str, tuple] = field(default_factory=dict)  # lists by audience, as sent
    told: set[tuple[UUID, datetime]] = field(default_factory=set)  # (session, its milestone's time)
    warned: set[UUID] = field(default_factory=set)  # sessions whose idle stop is announced
    totals_at: float = 0

    async def run(self) -> None:
        """Until cancelled. A failure (database away, bug) costs a second and a log line."""
        while True:
            try:
                await self.follow()
            except asyncio.CancelledError:
                raise
            except Exception:
                logger.exception("the live stream stumbled")
            await asyncio.sleep(RESTART_SECONDS)

    async def follow(self) -> None:
        async with commits.listening() as news:
            while True:
                if (await news() or self.totals_due()) and await self.push():
                    await asyncio.sleep(BATCH_SECONDS)

    def totals_due(self) -> bool:
        return time.monotonic() - self.totals_at > TOTALS_SECONDS

    async def push(self) -> bool:
        """Whether there was anything to send."""
        layer = get_channel_layer("local")
        pushes = await self.collected()
        for push in pushes:
            message = {"type": "live.push"} | asdict(push)
            await layer.group_send(push.group, message)
        return bool(pushes)

    async def collected(self) -> list[Push]:
        """What fails half-way sends nothing: the next look must find all of it again."""
        before = self.versions, self.told, self.warned
        try:
            return await database_sync_to_async(self.collect)()
        except Exception:
            self.versions, self.told, self.warned = before
            self.sent.clear()
            self.layouts.clear()
            raise

    def collect(self) -> list[Push]:
        """What must be sent now; reads the database."""
        read_at = time.monotonic()
        changed = self.changed()
        pushes = [*self.session_pushes(changed, read_at), *self.toasts(changed, read_at)]
        audiences = set(live.audiences_of(changed)) if changed else set()
        if self.totals_due():
            self.totals_at = time.monotonic()
            audiences = live.listening()
        for audience in sorted(audiences):
            pushes += self.list_pushes(audience, changed, read_at)
        return pushes

    def changed(self) -> list[Session]:
        """Sessions that others wrote since the last look. The first look only remembers."""
        recent = Session.objects.filter(changed_at__gt=timezone.now() - OVERLAP)
        if self.versions is None:
            self.versions = {session.pk: session.version for session in recent}
            self.told = set(self.milestones(recent))
            announced = Session.objects.filter(state=State.RUNNING, idle_stops_at__isnull=False)
            self.warned = set(announced.values_list("pk", flat=True))
            return []
        found = dict(recent.values_list("pk", "version"))
        self.told = {told for told in self.told if told[0] in found}
        new = [pk for pk, version in found.items() if self.versions.get(pk) != version]
        self.versions = found
        return list(Session.objects.filter(pk__in=new).select_related("owner")) if new else []

    def milestones(self, sessions: Iterable[Session]) -> Iterator[tuple[UUID, datetime]]:
        """What its owner wants to hear of, as far as it happened within what is looked at."""
        since = timezone.now() - OVERLAP
        for session in sessions:
            at = live.milestone_at(session)
            if at > since and live.milestone(session):
                yield session.pk, at

    def toasts(self, changed: list[Session], read_at: float) -> Iterator[Push]:
        new = set(self.milestones(changed)) - self.told
        self.told |= new
        for session in changed:
            group = live.owner_group(session.owner_id)
            what = self.called_off(session)
            if not what and (session.pk, live.milestone_at(session)) in new:
                what = live.milestone(session)
            if live.watched[group] and what:
                text = live.toast_html(session, what)
                yield Push(group, text, read_at, about=str(session.pk))
        self.remember(changed)

    def called_off(self, session: Session) -> str:
        """The milestone of a session whose announced stop does not come, else ""."""
        over = session.pk in self.warned and live.milestone(session) == State.RUNNING
        return live.CALLED_OFF if over else ""

    def remember(self, changed: Iterable[Session]) -> None:
        """Whose stop is announced by now; a new set, so that a failed look can take it back."""
        idle = {session.pk for session in changed if live.milestone(session) == "idle"}
        self.warned = self.warned - {session.pk for session in changed} | idle

    def session_pushes(self, changed: list[Session], read_at: float) -> Iterator[Push]:
        for session in changed:
            group = live.session_group(session.pk)
            if not live.watched[group]:
                self.forget(group)
            elif text := self.news_of(session, group):
                yield Push(group, text, read_at)

    def news_of(self, session: Session, group: str) -> str:
        """The parts of its page that differ from what was sent last, and its title if it does."""
        parts = live.session_parts(live.session_context(session, timezone.now()))
        texts = {
            name: live.wrap(name, inner, session.version, push=True)
            for name, inner in parts.items()
        }
        return self.news(group, texts | {"title": live.title_push(session)})

    def news(self, group: str, texts: Mapping[str, str]) -> str:
        """Of what may have changed for a group that which says something else than was sent."""
        before = self.sent.get(group, {})
        still = {name: live.still(text) for name, text in texts.items()}
        self.sent[group] = before | still
        return "".join(text for name, text in texts.items() if before.get(name) != still[name])

    def forget(self, group: str) -> None:
        """A new listener knows nothing of what was sent before it came."""
        self.sent.pop(group, None)

    def list_pushes(self, audience: str, changed: list[Session], read_at: float) -> Iterator[Push]:
        group, now = live.strip_group(audience), timezone.now()
        if live.watched[group]:
            totals = self.news(group, {"totals": live.strip_push(audience, now)})
            if totals:
                yield Push(group, totals, read_at)
        group = live.list_group(audience)
        if not live.watched[group]:
            self.layouts.pop(audience, None)
            return
        shown = overview(live.seen_by(audience), now)
        if self.layouts.get(audience) != shown.layout:
            self.layouts[audience] = shown.layout
            self.forget(group)
            yield Push(group, live.list_html(shown, push=True), read_at)
            return
        codes = {session.code for session in changed}
        rows = {r.session.code: r for r in shown.rows if r.session.code in codes}
        text = self.news(group, {code: live.row_html(r, push=True) for code, r in rows.items()})
        if text:
            yield Push(group, text, read_at)


tailer = Tailer()
_task: asyncio.Task | None = None


def ensure() -> None:
    """Start the task of this process, or start it again; call from the event loop."""
    global _task
    loop = asyncio.get_running_loop()
    if _task is None or _task.done() or _task.get_loop() is not loop:
        _task = loop.create_task(tailer.run())
