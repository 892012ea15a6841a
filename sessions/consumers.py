"""Sockets: subscribe first, then send the whole present state, then what the tailer sends."""

import asyncio
import time
from abc import ABC, abstractmethod
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string

from . import live, tailer
from .models import Session

BEAT_SECONDS = 30
SIGNED_OUT, NOT_FOUND, NOTHING_TO_SAY = 4401, 4404, 1008


class LiveConsumer(AsyncWebsocketConsumer, ABC):
    """What all sockets share. Nothing that a browser sends is of interest."""

    channel_layer_alias = "local"

    async def connect(self) -> None:
        self.joined: list[str] = []
        self.read_at = 0.0
        self.beating: asyncio.Task | None = None
        await self.accept()  # a code can be given only to an open socket
        refused = await self.refused()
        if refused:
            await self.close(code=refused)
            return
        tailer.ensure()
        for group in await database_sync_to_async(self.wanted_groups)():
            await self.join(group)
        self.read_at = time.monotonic()
        await self.send(text_data=await database_sync_to_async(self.snapshot)())
        self.beating = asyncio.create_task(self.beat())

    async def join(self, group: str) -> None:
        tailer.tailer.forget(group)
        await self.channel_layer.group_add(group, self.channel_name)
        self.joined.append(group)
        live.watched[group] += 1

    async def disconnect(self, code: int) -> None:
        if self.beating:
            self.beating.cancel()
        for group in self.joined:
            live.watched[group] -= 1
            if not live.watched[group]:
                del live.watched[group]
            await self.channel_layer.group_discard(group, self.channel_name)
        self.joined = []

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.close(code=NOTHING_TO_SAY)

    async def live_push(self, message: dict) -> None:
        """What was read before our snapshot never replaces it."""
        if message["read_at"] >= self.read_at:
            await self.send(text_data=message["text"])

    async def live_goodbye(self, message: dict) -> None:
        await self.close(code=SIGNED_OUT)

    async def beat(self) -> None:
        """Proof of life for the browser, and proof of permission for us."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            refused = await self.refused()
            if refused:
                await self.close(code=refused)
                return
            tailer.ensure()
            await self.send(text_data=live.beat_push(timezone.now()))

    async def refused(self) -> int:
        """The code to close with, or 0. Asks the database each time: rights may have changed."""
        self.user = await get_user(self.scope | {"session": self.fresh_login()})
        if not self.user.is_authenticated:
            return SIGNED_OUT
        return await database_sync_to_async(self.forbidden)()

    def fresh_login(self):
        store = import_string(settings.SESSION_ENGINE + ".SessionStore")
        return store(self.scope["session"].session_key)

    def wanted_groups(self) -> list[str]:
        self.audience = live.audience(self.user)
        login = live.login_group(self.scope["session"].session_key)
        owner = live.owner_group(self.user.pk)
        return [login, owner, live.strip_group(self.audience), *self.own_groups()]

    def forbidden(self) -> int:
        """Reads the database. The audience is fixed at connect: a new one needs a new socket."""
        moved = getattr(self, "audience", None) not in (None, live.audience(self.user))
        return NOT_FOUND if moved else 0

    @abstractmethod
    def own_groups(self) -> list[str]:
        """What this socket listens to beside its login and its totals."""

    @abstractmethod
    def snapshot(self) -> str:
        """The whole present state, as fragments; reads the database."""


class StripConsumer(LiveConsumer):
    """/ws/strip/: the totals, and what becomes of one's own sessions; for every other page."""

    def own_groups(self) -> list[str]:
        return []

    def snapshot(self) -> str:
        now = timezone.now()
        return live.strip_push(self.audience, now) + live.beat_push(now)


class ListConsumer(LiveConsumer):
    """/ws/sessions/: the list, the totals, everything this person may see."""

    def own_groups(self) -> list[str]:
        return [live.list_group(self.audience)]

    def snapshot(self) -> str:
        now = timezone.now()
        return live.list_push(self.audience, now) + live.beat_push(now)


class SessionConsumer(LiveConsumer):
    """/ws/sessions/<uuid>/: one session, and the totals."""

    @property
    def pk(self) -> UUID:
        return self.scope["url_route"]["kwargs"]["pk"]

    def forbidden(self) -> int:
        visible = Session.objects.visible_to(self.user).filter(pk=self.pk).exists()
        return super().forbidden() if visible else NOT_FOUND

    def own_groups(self) -> list[str]:
        return [live.session_group(self.pk)]

    async def live_push(self, message: dict) -> None:
        """The page itself shows what a toast would say."""
        if message.get("about") != str(self.pk):
            await super().live_push(message)

    def snapshot(self) -> str:
        now = timezone.now()
        session = Session.objects.get(pk=self.pk)
        strip = live.strip_push(self.audience, now)
        return live.session_push(session, now) + strip + live.beat_push(now)


@receiver(user_logged_out)
def goodbye(request: HttpRequest, **kwargs: object) -> None:
    """Closes the sockets of this login in this process; others find out at their next beat."""
    key = request.session.session_key
    if key:
        send = async_to_sync(get_channel_layer("local").group_send)
        send(live.login_group(key), {"type": "live.goodbye"})
