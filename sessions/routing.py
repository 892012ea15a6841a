"""Websocket addresses; gpubroker/asgi.py puts login and origin checks around them."""

from channels.generic.websocket import AsyncWebsocketConsumer
from django.urls import path, re_path

from .consumers import ListConsumer, SessionConsumer, StripConsumer


class Nowhere(AsyncWebsocketConsumer):
    """What no address leads to is refused; else any stranger could fill the log with tracebacks."""

    async def connect(self) -> None:
        await self.close()


websocket_urlpatterns = [
    path("ws/strip/", StripConsumer.as_asgi()),
    path("ws/sessions/", ListConsumer.as_asgi()),
    path("ws/sessions/<uuid:pk>/", SessionConsumer.as_asgi()),
    re_path("", Nowhere.as_asgi()),
]
