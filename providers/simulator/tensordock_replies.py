"""How TensorDock words its refusals, among them those a fault asks for."""

from collections.abc import Callable
from itertools import count

from aiohttp import web

from .store import Record
from .wire import Call

turn = count()
NO_NODES = "No available nodes found"
NO_NODE = "Hostnode unavailable"
NO_IP = "No available public IPs on hostnode"
UNEXPECTED = "unexpected error during deployment"
NO_SSH = "SSH port (22) must be forwarded for Ubuntu VMs"
POOR = "Insufficient balance: need at least $1.00"


def answer(body: object, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


def refusal(text: str, status: int = 400) -> web.Response:
    """With HTTP 200: the status is in the body, before or after the error."""
    parts = [("status", status), ("error", text)]
    return answer(dict(parts if next(turn) % 2 else parts[::-1]))


def invalid(path: str, message: str, code: str = "invalid_type") -> web.Response:
    return answer([{"code": code, "message": message, "path": path.split(".")}], 400)


def denied() -> web.Response:
    if next(turn) % 2:
        return web.Response(status=401, text="Unauthorized")
    return answer({"error": "Unauthorized"}, 401)


def too_often() -> web.Response:
    return web.Response(status=429)


def missing() -> web.Response:
    return answer({"error": "Instance not found"}, 404)


def empty_list(call: Call) -> web.Response:
    if call.operation == "search":
        name = "hostnodes" if call.request.path.endswith("hostnodes") else "locations"
        return answer({"data": {name: []}})
    return answer([{"data": []}, {"data": {"instances": []}}][next(turn) % 2])


def odd(body: Record) -> Record:
    """Unknown fields and values that no careful client believes, in every GPU of every place."""
    values = [float("nan"), -1.0, "0.05", None, 1e308, True, []]
    data = dict(body.get("data") or {})  # type: ignore[call-overload]
    for at, where in enumerate(data.get("locations") or []):
        where["news"] = {"a": [1]}
        for gpu in where["gpus"]:
            gpu["price_per_hr"] = values[at % len(values)]
    for at, node in enumerate(data.get("hostnodes") or []):
        for gpu in node["available_resources"]["gpus"]:
            gpu["price_per_hr"] = values[at % len(values)]
    return body | {"data": data}


def rows_of(body: Record) -> list[Record]:
    """The rows of a listing, whatever its shape; changing them changes the body."""
    data = body.get("data")
    if isinstance(data, dict):
        data = data.get("instances", data.get("attributes", {}).get("instances"))
    return data if isinstance(data, list) else []


def doubled(body: Record) -> Record:
    rows_of(body).extend(rows_of(body)[:1])
    return body


def strange(body: Record) -> Record:
    for row in rows_of(body):
        row["id"] = "../x"
    return body


def nameless(body: Record) -> Record:
    for row in rows_of(body)[:1]:
        row.pop("id", None)
    return body


def unknown_shape(body: Record) -> Record:
    return {"data": {"virtualmachines": rows_of(body)}}


Reply = tuple[Callable[[Call], web.Response], str]
REPLIES: dict[str, Reply] = {
    "rate_limited": (lambda call: too_often(), "429 without a body, nothing done"),
    "auth_401": (lambda call: denied(), "401 as text or JSON"),
    "auth_403": (lambda call: answer({"error": "Forbidden"}, 403), "403"),
    "no_nodes": (lambda call: refusal(NO_NODES), f"200 with {NO_NODES}"),
    "no_nodes_400": (lambda call: answer({"error": NO_NODES}, 400), f"400 with {NO_NODES}"),
    "hostnode_unavailable": (lambda call: refusal(NO_NODE), f"200 with {NO_NODE}"),
    "no_public_ip": (lambda call: refusal(NO_IP), f"200 with {NO_IP}"),
    "unexpected": (lambda call: refusal(UNEXPECTED, 500), f"200 with {UNEXPECTED}"),
    "ssh_rule": (lambda call: refusal(NO_SSH), f"200 with {NO_SSH}"),
    "low_balance": (lambda call: refusal(POOR), "200 with the need for $1.00"),
    "more_balance": (
        lambda call: answer({"message": "Insufficient balance: need at least $13.50"}, 402),
        "402 with the need for more than $1",
    ),
    "validation": (
        lambda call: invalid(
            "data.attributes.resources.storage_gb",
            "Number must be greater than or equal to 100", "too_small",
        ),
        "400 with an array",
    ),
    "not_found": (lambda call: missing(), "404"),
    "empty_list": (empty_list, "200 with nothing in it"),
    "list_error": (lambda call: refusal("Internal error", 500), "200 with an error in the body"),
}  # fmt: skip
AMENDMENTS: dict[str, tuple[Callable[[Record], Record], str]] = {
    "duplicate_rows": (doubled, "the first row appears twice"),
    "odd_rows": (odd, "prices NaN, negative, text, null, huge, true, a list; unknown fields"),
    "strange_ids": (strange, "ids that are no ids"),
    "row_without_id": (nameless, "a row without an id"),
    "unknown_shape": (unknown_shape, "a listing in a shape that nobody knows"),
}
