"""The TensorDock dialect: who calls, and which call goes where."""

from typing import ClassVar

from aiohttp import web

from . import tensordock_account as account
from . import tensordock_instances as instances
from .store import Record
from .tensordock_create import attributes_of, create
from .tensordock_offers import Listings
from .tensordock_replies import AMENDMENTS, REPLIES, answer, denied, too_often
from .wire import Call, Gateway, Handler
from .world import World

API = "/api/v2"


class TensorDock:
    provider = "tensordock"
    replies = REPLIES
    amendments = AMENDMENTS
    window = (100, 60.0)
    latency: ClassVar[dict[str, tuple[float, float]]] = {
        "search": (1.0, 4.0), "create": (5.0, 20.0), "list": (0.5, 2.0), "read": (0.2, 1.0),
        "destroy": (1.0, 6.0), "account": (0.5, 2.0),
    }  # fmt: skip

    def __init__(self, world: World) -> None:
        self.world = world

    def identity(self, request: web.Request) -> str:
        """Rate limits count per organisation."""
        return self.world.accounts.get(bearer(request)) or str(request.remote)

    def authenticate(self, call: Call) -> web.Response | None:
        token = bearer(call.request)
        places = call.request.path.endswith("/locations")
        if places:
            token = token or call.request.query.get("api_token", "")
        call.account = self.world.accounts.get(token, "")
        if call.account and call.has("other_account"):
            call.account = min(set(self.world.accounts.values()) - {call.account})
        own_way = call.request.path.startswith("/api/v0/") or (places and not token)
        return None if call.account or own_way else denied()

    def label_of(self, body: Record) -> str:
        return str(attributes_of(body).get("name") or "")

    def offer_of(self, body: Record) -> str:
        """Place or host node, and GPU: "8dd95ff0-dff9-489c-9b02-b38a366b6ab1/l4-pcie-24gb"."""
        wanted = attributes_of(body)
        resources = wanted.get("resources")
        gpus = resources.get("gpus") if isinstance(resources, dict) else None
        where = wanted.get("location_id") or wanted.get("hostnode_id") or ""
        return f"{where}/{next(iter(gpus))}" if isinstance(gpus, dict) and gpus else str(where)

    def too_often(self, call: Call, seconds: float) -> web.Response:
        return too_often()


def bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ").strip()


def nowhere(call: Call) -> web.Response:
    return answer({"error": "Not found"}, 404)


def not_allowed(call: Call) -> web.Response:
    return answer({"error": "Method not allowed"}, 405)


def routes(listings: Listings) -> list[tuple[str, str, str, Handler]]:
    """(method, path, operation, handler)"""
    machine, secret = f"{API}/instances/{{instance_id}}", f"{API}/secrets/{{secret_id}}"
    return [
        ("GET", f"{API}/locations", "search", listings.locations),
        ("GET", f"{API}/hostnodes", "search", listings.hostnodes),
        ("GET", f"{API}/hostnodes/{{node_id}}", "search", listings.hostnode),
        ("POST", f"{API}/instances", "create", create),
        ("GET", f"{API}/instances", "list", instances.listing),
        ("GET", machine, "read", instances.read),
        ("DELETE", machine, "destroy", instances.delete),
        ("POST", f"{machine}/start", "change", instances.start),
        ("POST", f"{machine}/stop", "change", instances.stop),
        ("PUT", f"{machine}/modify", "change", instances.modify),
        ("POST", f"{API}/secrets", "keys", account.add_secret),
        ("GET", f"{API}/secrets", "keys", account.secrets),
        ("GET", secret, "keys", account.secret),
        ("DELETE", secret, "keys", account.secret),
        ("PATCH", secret, "keys", not_allowed),
        ("POST", "/api/v0/billing/balance", "account", account.balance),
    ]


def application(gateway: Gateway) -> web.Application:
    app = web.Application(client_max_size=2**20)
    for method, path, operation, handler in routes(Listings(gateway.world)):
        app.router.add_route(method, path, gateway.route(operation, handler))
    app.router.add_route("*", "/{tail:.*}", gateway.route("other", nowhere))
    return app
