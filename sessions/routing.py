"""Websocket addresses; gpubroker/asgi.py puts login and origin checks around them."""

from django.urls import path

from .consumers import ListConsumer, SessionConsumer, StripConsumer

websocket_urlpatterns = [
    path("ws/strip/", StripConsumer.as_asgi()),
    path("ws/sessions/", ListConsumer.as_asgi()),
    path("ws/sessions/<uuid:pk>/", SessionConsumer.as_asgi()),
]
