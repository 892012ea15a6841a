"""TensorDock's secrets, and the balance, which only the old API tells."""

from urllib.parse import parse_qs

from aiohttp import web

from .store import Record
from .tensordock_create import attributes_of
from .tensordock_replies import answer, invalid
from .wire import Call


def mine(call: Call) -> list[Record]:
    secrets = call.world.store.all("secret").values()
    return [item for item in secrets if item["account"] == call.account and not item.get("gone")]


def add_secret(call: Call) -> web.Response:
    body = attributes_of(call.body)
    kind, value = body.get("type"), body.get("value")
    if kind not in ("SSHKEY", "GENERIC") or not isinstance(value, str) or not body.get("name"):
        return invalid("data.attributes.type", "Expected SSHKEY or GENERIC with name and value")
    number = f"sec-{call.world.serial()}"
    shown: Record = {"id": number, "name": str(body["name"]), "type": str(kind)}
    call.world.store.put("secret", number, shown | {"value": value, "account": call.account})
    call.effect = True
    return answer({"data": shown})


def secrets(call: Call) -> web.Response:
    return answer({"data": {"secrets": [shown(item) for item in mine(call)]}})


def shown(secret: Record) -> Record:
    return {name: secret[name] for name in ("type", "id", "name")}


def secret(call: Call) -> web.Response:
    number = call.request.match_info["secret_id"]
    for item in mine(call):
        if item["id"] == number and call.request.method == "DELETE":
            call.world.store.put("secret", number, item | {"gone": True})
            call.effect = True
            return answer({"data": {"message": "Secret deleted successfully"}})
        if item["id"] == number:
            value = {"value": item["value"]} if item["type"] == "SSHKEY" else {}
            return answer({"data": shown(item) | value})
    return answer({"error": "Secret not found"}, 404)


def balance(call: Call) -> web.Response:
    """A form with api_key and api_token; what api_key is, nobody checks here."""
    form = parse_qs(call.raw.decode(errors="replace"))
    token = form.get("api_token", [""])[0]
    call.account = call.world.accounts.get(token, "")
    if not call.account or not form.get("api_key"):
        return answer({"success": False, "error": "Invalid API key or token"})
    owned = call.world.owned("tensordock", call.account, call.now)
    hourly = sum(
        item.disk_rate * item.meter.disk_on + item.gpu_rate * item.meter.gpu_on
        for item in owned
        if item.alive
    )
    left = call.world.credit("tensordock", call.account, call.now)
    return answer({"success": True, "balance": round(left, 6), "hourly_cost": round(hourly, 6)})
