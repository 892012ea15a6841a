"""HTTP through Django, websockets through Channels: same sessions, same allowed hosts."""

import gc
import os

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gpubroker.settings")
django = get_asgi_application()  # loads the apps; what follows needs their models

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

import gpubroker.urls  # noqa: E402, F401  what the first request would load
from providers import stock  # noqa: E402
from sessions.routing import websocket_urlpatterns  # noqa: E402


async def http(scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """From the first request on, as a rule a health check, this process follows the offers."""
    stock.keep()
    await django(scope, receive, send)


application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter(websocket_urlpatterns))
        ),
    }
)

# What is loaded stays until the end. Each time that the garbage collector looked through all of it
# would cost a request 0.1 s.
gc.collect()
gc.freeze()
