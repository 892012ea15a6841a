"""Websockets of the application as tests open them, and rows that change behind them."""

import time

from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.test import Client
from django.utils import timezone

from gpubroker.asgi import application
from sessions.models import Session

PATIENCE = 30  # seconds


def login(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def socket(path: str, client: Client | None, origin: str = "http://127.0.0.1:8080"):
    headers = [(b"origin", origin.encode())] if origin else []
    if client:
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        headers.append((b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()))
    return WebsocketCommunicator(application, path, headers=headers)


async def opened(path: str, client: Client) -> tuple[WebsocketCommunicator, str]:
    """An open socket and the present state that it got first."""
    link = socket(path, client)
    connected, _ = await link.connect(timeout=PATIENCE)
    assert connected
    return link, await link.receive_from(timeout=PATIENCE)


async def closed_with(link: WebsocketCommunicator) -> int:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        message = await link.receive_output(timeout=PATIENCE)
        if message["type"] == "websocket.close":
            return message["code"]
    raise AssertionError("the socket stayed open")


def touch(session: Session, **columns) -> None:
    columns |= {"changed_at": timezone.now(), "version": session.version + 1}
    Session.objects.filter(pk=session.pk).update(**columns)
    session.refresh_from_db()


change = database_sync_to_async(touch)


def path_of(session: Session) -> str:
    return f"/ws/sessions/{session.pk}/"
