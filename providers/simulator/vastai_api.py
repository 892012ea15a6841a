"""Vast.ai's instance calls: create, list, read, change, destroy."""

import base64
import json
import secrets
from functools import cmp_to_key

from aiohttp import web

from .instances import Instance
from .stock import Machine
from .store import Record
from .vastai_json import STORED, instance_record
from .vastai_replies import answer, no_such_ask, refusal
from .vastai_search import BadQuery, fits, listed, min_bid, number
from .wire import Call
from .world import MONTH_HOURS, Rental, World

PAGE = 25
RUNTYPES = {"ssh", "jupyter", "args", "ssh_proxy", "ssh_direct", "jupyter_proxy", "jupyter_direct"}
COMPOSITES = {"ssh_direc", "jupyter_direc"}  # old spelling, still accepted
SCRIPT_MAX = 4096


def create(call: Call) -> web.Response:
    try:
        check_request(call.body)
    except BadQuery as problem:
        return refusal(400, "invalid_args", str(problem))
    found = find_offer(call.world, call.offer_id)
    if found is None:
        return no_such_ask(call, 404)
    machine, slots = found
    if float(str(call.body.get("disk") or 8)) > machine.disk_gb:
        return refusal(400, "invalid_args", "error 400/3467: Invalid args: disk too large")
    if call.world.credit("vastai", call.account, call.now) <= 0:
        return refusal(400, "insufficient_credit", "You lack credit, see the billing page.")
    slots = free_slots(call, machine, slots)
    late = not slots or call.has("orphan") or bid_too_low(call, machine, len(found[1]))
    if not slots and call.body.get("cancel_unavail", "price" not in call.body):
        return no_such_ask(call, 410)
    instance = rent(call, machine, slots or found[1], stopped=late, queued=not slots)
    created = {"new_contract": int(instance.instance_id)}
    return answer(
        {"success": not late} | created | {"instance_api_key": instance.details["api_key"]}
    )


def check_request(body: Record) -> None:
    """Raises BadQuery with what the marketplace would say."""
    image, label, runtype = body.get("image"), body.get("label"), str(body.get("runtype") or "ssh")
    if not image and not body.get("template_hash_id"):
        raise BadQuery("error 400/3467: Invalid args: image or template_hash_id is required")
    if len(str(image)) > 1024:
        raise BadQuery("image too long")
    if label is not None and (not isinstance(label, str) or len(label) > 256):
        raise BadQuery("label_too_long: label must be text of at most 256 characters")
    if number(body.get("disk") or 8) < 8:
        raise BadQuery("disk must be at least 8 GB")
    if "runtype" in body and "use_ssh" in body:
        raise BadQuery("runtype and use_ssh cannot both be set")
    if not set(runtype.split()) <= RUNTYPES | COMPOSITES:
        raise BadQuery(f"invalid runtype {runtype}")
    if body.get("price") is not None and not 0.001 <= number(body["price"]) <= 128:
        raise BadQuery("Please set a bid price >= 0.001.")
    scripts = [body.get("onstart"), body.get("args_str"), *(body.get("args") or [])]
    if sum(len(str(text)) for text in scripts if text) > SCRIPT_MAX:
        raise BadQuery(f"onstart and args together exceed {SCRIPT_MAX} characters")
    env = body.get("env")
    pairs = env.items() if isinstance(env, dict) else ()
    if any(len(str(name)) > 256 or len(str(value)) > 256 for name, value in pairs):
        raise BadQuery("env names and values are limited to 256 characters")


def find_offer(world: World, offer_id: str) -> tuple[Machine, list[int]] | None:
    for machine in world.stock("vastai").values():
        for number_, _, slots in machine.slices():
            if str(number_) == offer_id:
                return machine, slots
    return None


def free_slots(call: Call, machine: Machine, slots: list[int]) -> list[int]:
    """The offer's GPUs, or [] when they cannot be had now."""
    busy = call.world.busy("vastai", machine.machine_id, call.now)
    if machine.listed and not busy & set(slots):
        return slots
    if call.has("second_slice"):
        for _, size, others in machine.slices():
            if size == len(slots) and not busy & set(others):
                return others
    return []


def bid_too_low(call: Call, machine: Machine, size: int) -> bool:
    price = call.body.get("price")
    return price is not None and number(price) < min_bid(machine, size)


def rent(
    call: Call, machine: Machine, slots: list[int], *, stopped: bool, queued: bool
) -> Instance:
    body, world = call.body, call.world
    disk = number(body.get("disk") or 8)
    bid = body.get("price")
    rental = Rental(
        account=call.account, label=str(body.get("label") or ""), machine=machine,
        offer_id=call.offer_id, slots=slots, disk_gb=disk,
        gpu_rate=number(bid) if bid is not None else round(machine.price * len(slots), 6),
        disk_rate=disk * machine.disk_price / MONTH_HOURS,
        keys=tuple(str(key["public_key"]) for key in account_keys(world, call.account)),
        wanted="stopped" if stopped or body.get("target_state") == "stopped" else "running",
    )  # fmt: skip
    instance = world.rent("vastai", world.next_id("vastai"), rental, call.now)
    instance.details = details(body, bid is not None, min_bid(machine, len(slots)))
    if "args" in str(instance.details["runtype"]).split():
        instance.ssh_delay = 1e9  # the image's own entrypoint: no SSH server
    if queued:  # starts, and bills, when the GPUs are free
        instance.queued, instance.wanted = True, "running"
    call.instance_id, call.label, call.effect = instance.instance_id, instance.label, True
    call.strike(instance)
    world.save(instance)
    return instance


def details(body: Record, is_bid: bool, least: float) -> Record:
    env = body.get("env")
    asked = str(body.get("runtype") or ("args" if body.get("args") else "ssh"))
    direct = "ssh_direc ssh_proxy" if "direc" in asked else "ssh_proxy"
    return {
        "image": body.get("image"), "template_hash_id": body.get("template_hash_id"),
        "runtype": "args" if asked == "args" else f"{asked.split('_')[0].split()[0]} {direct}",
        "env": env if isinstance(env, dict) else {},  # as text it was seen to be ignored
        "onstart": body.get("onstart"), "args": body.get("args") or [], "is_bid": is_bid,
        "min_bid": least, "api_key": secrets.token_hex(32), "jupyter_token": secrets.token_hex(16),
    }  # fmt: skip


def account_keys(world: World, account: str) -> list[Record]:
    keys = world.store.all("account key").values()
    return [key for key in keys if key["account"] == account and not key["deleted_at"]]


# -- list and read


def listing(call: Call) -> web.Response:
    query = call.request.query
    now = call.now
    try:
        wanted = json.loads(query.get("select_filters") or "{}")
        order = json.loads(query.get("order_by") or "[]")
        check_columns([*wanted, *(item["col"] for item in order)])
        owned = call.world.owned("vastai", call.account, now)
        records = [instance_record(call.world, instance, now) for instance in owned]
        matching = [record for record in records if fits(record, wanted)]
        page, token = cut_page(matching, order, query)
        columns = json.loads(query.get("select_cols") or '["*"]')
    except (BadQuery, ValueError, KeyError, TypeError) as problem:
        return refusal(400, "invalid_request", str(problem) or "Error in query parameters")
    counts: dict[str, int] = {}
    for record in matching:
        label = str(record["label"] or "")
        counts[label] = counts.get(label, 0) + 1
    if "*" not in columns:
        page = [{name: record.get(name) for name in columns} for record in page]
    return answer({
        "success": True, "total_instances": len(matching), "instances_found": len(page),
        "label_counts": counts, "next_token": token, "instances": page,
    })  # fmt: skip


def check_columns(names: list[str]) -> None:
    for name in names:
        if name not in STORED:
            raise BadQuery(f"Error in query parameters: {name} is not a valid search key")


def cut_page(
    records: list[Record], order: list[Record], query: object
) -> tuple[list[Record], str | None]:
    """Keyset paging: the token holds the last row's place, so rows that come or go do no harm."""
    columns = [(str(item["col"]), item.get("dir") == "desc") for item in order]
    if not any(name == "id" for name, _ in columns):
        columns.append(("id", False))

    def compare(left: Record, right: Record) -> int:
        for name, down in columns:
            a, b = (
                (str(left[name] or ""), str(right[name] or ""))
                if name != "id"
                else (left[name], right[name])
            )
            if a != b:
                return (1 if a > b else -1) * (-1 if down else 1)  # type: ignore[operator]
        return 0

    rows = sorted(records, key=cmp_to_key(compare))
    if text := query.get("after_token"):  # type: ignore[attr-defined]
        last = read_token(text, [name for name, _ in columns])
        rows = [row for row in rows if compare(row, last) > 0]
    limit = int(query.get("limit") or PAGE)  # type: ignore[attr-defined]
    page = rows[: min(limit, PAGE) if limit > 0 else 5]
    more = len(rows) > len(page)
    return page, make_token({name: page[-1][name] for name, _ in columns}) if more else None


def make_token(values: Record) -> str:
    return base64.b64encode(json.dumps({"values": values}).encode()).decode()


def read_token(text: str, names: list[str]) -> Record:
    try:
        values = json.loads(base64.b64decode(text, validate=True))["values"]
        return {name: values[name] for name in names}
    except (ValueError, KeyError, TypeError):
        raise BadQuery("Invalid after_token") from None


def read(call: Call) -> web.Response:
    if not call.instance_id.isdigit():
        return refusal(400, "invalid_args", "invalid instance_id")
    instance = call.world.see("vastai", call.account, call.instance_id, call.now)
    if instance is None:
        return answer({"instances": None})
    record = instance_record(call.world, instance, call.now)
    record.pop("volume_info")
    return answer({"instances": record})


# -- change and destroy


def missing(call: Call) -> web.Response:
    return refusal(404, "no_such_instance", f"Instance {call.instance_id} not found.")


def change(call: Call) -> web.Response:
    instance = call.world.find("vastai", call.account, call.instance_id, call.now)
    if instance is None:
        return missing(call)
    return change_one(call, instance)


def change_one(call: Call, instance: Instance) -> web.Response:
    body = call.body
    if "label" in body:
        if len(str(body["label"])) > 1024:
            return refusal(400, "label_too_long", "label is too long")
        instance.label = str(body["label"])
        call.world.save(instance)
        call.effect = True
        return answer({"success": True})
    if body.get("state") == "stopped":
        call.world.stop(instance, call.now)
    elif body.get("state") == "running":
        call.effect = True
        if call.world.credit("vastai", call.account, call.now) <= 0:
            return refusal(400, "missing_billing", "You lack credit, see the billing page.")
        if not call.world.start(instance, call.now):
            text = "Required resources are currently unavailable, state change queued."
            return refusal(200, "resources_unavailable", text)
    else:
        return answer({"success": False, "msg": "Invalid target state"}, 400)
    call.effect = True
    return answer({"success": True})


def change_many(call: Call) -> web.Response:
    numbers = listed(call.body.get("ids") or call.body.get("instance_ids") or [])
    if not numbers:
        return refusal(400, "invalid_args", "ids list required")
    if len(numbers) > 64:
        return refusal(400, "invalid_args", f"chunk length of {len(numbers)} > 64")
    found = [call.world.find("vastai", call.account, str(item), call.now) for item in numbers]
    alive = [instance for instance in found if instance is not None]
    if not alive:
        return refusal(404, "invalid_args", "Invalid instance ID list ids.")
    return [change_one(call, instance) for instance in alive][-1]


def reboot(call: Call) -> web.Response:
    instance = call.world.find("vastai", call.account, call.instance_id, call.now)
    if instance is None:
        return missing(call)
    if instance.phase != "running":
        return refusal(200, "invalid_id", "Instance is not running.")
    start = call.now + call.world.real(5)
    instance.plan((call.now, "rebooting"), (start, "running"))
    call.world.save(instance)
    call.effect = True
    return answer({"success": True})


def change_bid(call: Call) -> web.Response:
    instance = call.world.find("vastai", call.account, call.instance_id, call.now)
    if instance is None:
        return missing(call)
    if not instance.details.get("is_bid"):
        return refusal(400, "invalid_args", "Can't change price of on-demand contract.")
    price = call.body.get("price")
    if not isinstance(price, int | float) or not 0.001 <= price <= 32 * instance.gpu_count:
        return refusal(400, "invalid_price", "Please set a bid price >= 0.001.")
    instance.reprice(float(price), call.now)
    call.world.save(instance)
    call.effect = True
    return answer({"success": True})


def destroy(call: Call) -> web.Response:
    if not call.instance_id.isdigit():
        return refusal(400, "invalid_args", "invalid instance_id")
    instance = call.world.find("vastai", call.account, call.instance_id, call.now)
    if instance is None:
        return missing(call)
    call.end(instance)
    return answer({"success": True})


def destroy_many(call: Call) -> web.Response:
    numbers = listed(call.body.get("instance_ids") or [])
    if not numbers:
        return refusal(400, "invalid_args", "instance_ids list required")
    found = [call.world.find("vastai", call.account, str(item), call.now) for item in numbers]
    alive = [instance for instance in found if instance is not None]
    if not alive:
        return refusal(404, "instances_not_found", "None of the instances were found.")
    for instance in alive:
        call.end(instance)
    return answer({"success": True})
