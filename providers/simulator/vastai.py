"""The Vast.ai dialect: who calls, and which call goes where."""

from typing import ClassVar

from aiohttp import web

from . import vastai_account as account
from . import vastai_api as api
from .stock import MODELS
from .store import Record
from .vastai_replies import AMENDMENTS, REPLIES, answer, denied, refusal, too_often
from .vastai_search import BadQuery, query_of, search
from .wire import Call, Gateway, Handler
from .world import World


class Vastai:
    provider = "vastai"
    replies = REPLIES
    amendments = AMENDMENTS
    window = None
    latency: ClassVar[dict[str, tuple[float, float]]] = {}

    def __init__(self, world: World) -> None:
        self.world = world

    def identity(self, request: web.Request) -> str:
        """Rate limits count per credential and address."""
        return f"{bearer(request)} {request.remote}"

    def authenticate(self, call: Call) -> web.Response | None:
        key = bearer(call.request)
        call.account = self.world.accounts.get(key, "")
        if not call.account and (own := self.instance_account(key, call)):
            call.account, call.own_key = own, True
        if call.account and call.has("other_account"):
            others = sorted(set(self.world.accounts.values()) - {call.account})
            call.account = others[0]
        if call.account or (call.operation == "search" and not key):
            return None
        return denied(404 if call.operation == "search" else 401 if key else 403)

    def instance_account(self, key: str, call: Call) -> str:
        """An instance's own key is good for that instance only."""
        instance = self.world.instances.get(("vastai", call.instance_id))
        own = instance is not None and key and instance.details.get("api_key") == key
        return instance.account if own and instance is not None else ""

    def label_of(self, body: Record) -> str:
        return str(body.get("label") or "")

    def offer_of(self, body: Record) -> str:
        return ""  # it is in the path

    def too_often(self, call: Call, seconds: float) -> web.Response:
        return too_often(call, seconds)


def bearer(request: web.Request) -> str:
    header = request.headers.get("Authorization", "")
    return header.removeprefix("Bearer ").strip() or request.query.get("api_key", "")


def search_post(call: Call) -> web.Response:
    if not call.body and call.raw.strip() != b"{}":
        return refusal(400, "invalid_request", "Invalid json body")
    return found(call, call.body)


def search_get(call: Call) -> web.Response:
    try:
        query = query_of(call.request.query.get("q", "{}"))
        columns = query_of(call.request.query.get("select_cols", '["*"]'))
    except BadQuery as problem:
        return refusal(400, "invalid_request", str(problem))
    return found(call, query, columns)


def search_put(call: Call) -> web.Response:
    return found(call, call.body.get("q"), call.body.get("select_cols", ["*"]))


def found(call: Call, query: object, columns: object = ("*",)) -> web.Response:
    try:
        offers = search(call.world, query, call.now)
    except BadQuery as problem:
        return refusal(400, "invalid_request", str(problem))
    names = [str(name) for name in columns] if isinstance(columns, list | tuple) else ["*"]
    if "*" not in names:
        offers = [{name: offer.get(name) for name in names} for offer in offers]
    return answer({"offers": offers})


def gpu_names(call: Call) -> web.Response:
    return answer({"gpu_names": sorted(model.name for model in MODELS)})


def filters(call: Call) -> web.Response:
    return answer({"success": True, "filters": []})


def legacy_list(call: Call) -> web.Response:
    text = "/api/v0/instances/ is deprecated. Use /api/v1/instances/ instead."
    return refusal(410, "gone", f"Endpoint deprecated: {text}")


def nowhere(call: Call) -> web.Response:
    return refusal(404, "not_found", f"No such endpoint: {call.request.path}")


ROUTES: list[tuple[str, str, str, Handler, float]] = [
    # method, path, operation, handler, least seconds between two calls
    ("POST", "/api/v0/bundles", "search", search_post, 2),
    ("GET", "/api/v0/bundles", "search", search_get, 0.8),
    ("PUT", "/api/v0/search/asks", "search", search_put, 2),
    ("GET", "/api/v0/gpu_names/unique", "search", gpu_names, 0),
    ("PUT", "/api/v0/asks/{offer_id}", "create", api.create, 4.5),
    ("GET", "/api/v1/instances", "list", api.listing, 1),
    ("GET", "/api/v1/instances/lite", "list", nowhere, 1),
    ("GET", "/api/v0/instances", "list", legacy_list, 20),
    ("PUT", "/api/v0/instances", "change", api.change_many, 4),
    ("DELETE", "/api/v0/instances", "destroy", api.destroy_many, 3),
    ("GET", "/api/v0/instances/filters", "filters", filters, 1),
    ("GET", "/api/v0/instances/{instance_id}", "read", api.read, 2),
    ("PUT", "/api/v0/instances/{instance_id}", "change", api.change, 1),
    ("DELETE", "/api/v0/instances/{instance_id}", "destroy", api.destroy, 3),
    ("PUT", "/api/v0/instances/reboot/{instance_id}", "reboot", api.reboot, 1),
    ("PUT", "/api/v0/instances/bid_price/{instance_id}", "bid", api.change_bid, 5.5),
    ("POST", "/api/v0/instances/{instance_id}/ssh", "attach", account.attach, 2),
    ("GET", "/api/v0/instances/{instance_id}/ssh", "attached", account.attached, 2),
    ("DELETE", "/api/v0/instances/{instance_id}/ssh/{key_id}", "detach", account.detach, 2),
    ("GET", "/api/v0/ssh", "keys", account.list_keys, 1),
    ("POST", "/api/v0/ssh", "keys", account.add_key, 1),
    ("DELETE", "/api/v0/ssh/{key_id}", "keys", account.delete_key, 1),
    ("GET", "/api/v0/users/current", "account", account.user, 1),
    ("GET", "/api/v0/users/spend-rate", "spend", account.spend_rate, 2),
]


def application(gateway: Gateway) -> web.Application:
    app = web.Application(client_max_size=2**20)
    for method, path, operation, handler, interval in ROUTES:
        respond = gateway.route(operation, handler, interval)
        for spelling in (path, f"{path}/"):
            app.router.add_route(method, spelling, respond)
    app.router.add_route("*", "/{tail:.*}", gateway.route("other", nowhere))
    return app
