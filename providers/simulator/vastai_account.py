"""Vast.ai's SSH keys (of the account, of an instance) and money."""

import json
from random import Random

from aiohttp import web

from .instances import Key
from .ssh_server import key_data
from .store import Record
from .vastai_api import account_keys
from .vastai_replies import answer, refusal
from .wire import Call, iso


def key_record(number: int, account: str, text: str, now: float) -> Record:
    return {
        "id": number, "account": account, "user_id": int(account), "public_key": text,
        "created_at": iso(now)[:19], "deleted_at": None,
    }  # fmt: skip


def shown(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != "account"}


def list_keys(call: Call) -> web.Response:
    keys = [shown(key) for key in account_keys(call.world, call.account)]
    if not keys:
        return refusal(404, "not_found", "No SSH keys found for the user.")
    return answer(keys)


def add_key(call: Call) -> web.Response:
    text = str(call.body.get("ssh_key") or "").strip()
    if key_data(text) is None:
        return refusal(400, "no_ssh_key", "Invalid ssh key.")
    record = key_record(9_000 + call.world.serial(), call.account, text, call.now)
    call.world.store.put("account key", str(record["id"]), record)
    call.effect = True
    return answer({"success": True, "key": shown(record)})


def delete_key(call: Call) -> web.Response:
    number = call.request.match_info["key_id"]
    for record in account_keys(call.world, call.account):
        if str(record["id"]) == number:
            gone = record | {"deleted_at": iso(call.now)}
            call.world.store.put("account key", number, gone)
            call.effect = True
            return answer({"success": True})
    return refusal(400, "no_ssh_key", f"No ssh key {number}.")


def as_key(call: Call, key: Key) -> Record:
    return {"id": key.key_id, "user_id": int(call.account), "public_key": key.text}


def attach(call: Call) -> web.Response:
    """An instance_id in the body wins over the path."""
    call.instance_id = str(call.body.get("instance_id") or call.instance_id)
    instance = call.world.find("vastai", call.account, call.instance_id, call.now)
    if instance is None:
        return refusal(200, "no_such_instance", f"Instance {call.instance_id} not found.")
    text = str(call.body.get("ssh_key") or "").strip()
    data = key_data(text)
    if data is None:
        return refusal(400, "no_ssh_key", "Invalid ssh key.")
    if data in [key_data(key.text) for key in instance.keys]:
        return answer({"success": False, "msg": "SSH key already associated with instance."})
    wait = Random(f"{instance.instance_id} {len(instance.keys)}").uniform(10, 15)
    key = call.world.add_key(instance, text, works_at=call.now + call.world.real(wait))
    call.strike(instance)
    call.world.save(instance)
    call.effect = True
    key_text = json.dumps(as_key(call, key))
    return answer({"success": True, "msg": "SSH key added to instance.", "key": key_text})


def attached(call: Call) -> web.Response:
    instance = call.world.find("vastai", call.account, call.instance_id, call.now)
    if instance is None:
        return refusal(200, "no_such_instance", f"Instance {call.instance_id} not found.")
    keys = json.dumps([as_key(call, key) for key in instance.keys])
    return answer({"success": True, "ssh_keys": keys})


def detach(call: Call) -> web.Response:
    number = call.request.match_info["key_id"]
    instance = call.world.find("vastai", call.account, call.instance_id, call.now)
    if instance is None:
        return refusal(200, "no_such_instance", f"Instance {call.instance_id} not found.")
    left = [key for key in instance.keys if str(key.key_id) != number]
    if len(left) == len(instance.keys):
        return refusal(200, "no_such_ssh_key", f"No ssh key {number}.")
    instance.keys = left
    call.world.save(instance)
    call.effect = True
    return answer({"success": True, "msg": "SSH key removed from instance."})


def user(call: Call) -> web.Response:
    return answer({
        "id": int(call.account), "key_id": 88, "email": "ops@example.org", "balance": 0.0,
        "credit": call.world.credit("vastai", call.account, call.now), "ssh_key": "",
        "sid": "simulated",
    })  # fmt: skip


def spend_rate(call: Call) -> web.Response:
    mine = call.world.owned("vastai", call.account, call.now)
    alive = [instance for instance in mine if instance.alive]
    gpu = sum(instance.gpu_rate for instance in alive if instance.meter.gpu_on)
    disk = sum(instance.disk_rate for instance in alive if instance.meter.disk_on)
    return answer({
        "success": True, "gpu_cost_per_hour": gpu, "container_storage_cost_per_hour": disk,
        "volume_storage_cost_per_hour": 0.0, "has_active_resources": bool(alive),
    })  # fmt: skip
