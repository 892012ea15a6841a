"""The control port: what the tests and the operator of the simulator ask. JSON throughout.

GET  /__sim__       {"nonce", "clock", "providers"}
GET  /ledger        {"instances": [...]}: what was billed, see ledger_line
GET  /wire?since=N  {"requests": [...], "last"}: every request with n > N, see wire.Entry
GET  /faults        {"active": [...], "catalogue": {name: sentence}}
POST /faults        {"operation", "fault", ...} -> {"id", "struck"}, see faults
DELETE /faults[/ID] {"lifted"}
GET  /instances     {"instances": [...]}: the truth, with ssh host, port and keys, see truth
POST /instances     {"label", "provider"?, "account"?, "gpu_name"?, "keys"?, "state"?,
                    "instance_id"?} -> {"instance_id"}: made by somebody else, runs at once
POST /instances/ID  {"gpu_load"?: 0 to 100 per cent or null = not told, "gpu_memory_mb"?: in use on
                    each GPU}: what nvidia-smi shows from now on -> both
DELETE /instances[/ID]  gone by itself, now: {"removed"}
POST /market        {"steady"?: bool, and the switches of TensorDock, see tensordock_switches}
                    -> all of them
POST /accounts      {"account", "credit", "provider"?}

Instants are ISO 8601 in UTC with microseconds; money is USD.
"""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from . import tensordock_switches
from .faults import FaultBook, apply_at_once, describe
from .instances import GONE, Instance
from .store import Record
from .wire import WireLog, iso, parse
from .world import MONTH_HOURS, Rental, World

FOREIGN_DISK_GB = 20


def ledger_line(instance: Instance, now: float) -> Record:
    meter = instance.bill(now)
    return {
        "provider": instance.provider, "instance_id": instance.instance_id,
        "label": instance.label, "created_at": iso(instance.created_at),
        "gone_at": iso(instance.gone_at) if instance.gone_at is not None else None,
        "price_per_hour": instance.price_per_hour,
        "disk_rate": instance.disk_rate, "billed_usd": instance.cost(now),
        "billed_seconds": meter.billed_seconds, "gpu_seconds": meter.gpu_seconds,
        "foreign": instance.foreign, "machine_id": instance.machine_id,
        "offer_id": instance.offer_id, "account": instance.account,
    }  # fmt: skip


def truth(world: World, instance: Instance, now: float) -> Record:
    return ledger_line(instance, now) | {
        "state": instance.phase if instance.alive else GONE,
        "wanted": instance.wanted, "queued": instance.queued,
        "gpu_name": instance.gpu_name, "gpu_count": instance.gpu_count,
        "ssh_host": world.host, "ssh_port": instance.ssh_port, "ssh_user": instance.ssh_user,
        "ssh": instance.ssh_mode(now), "keys": [key.text for key in instance.keys],
        "keys_working": instance.key_lines(now), "visible": instance.visible(now),
        "booted": bool(instance.details.get("booted")),
    }  # fmt: skip


class Control:
    def __init__(self, world: World, book: FaultBook, log: WireLog) -> None:
        self.world = world
        self.book = book
        self.log = log

    async def simulator(self, request: web.Request) -> web.Response:
        facts = {"nonce": self.world.meta["nonce"], "clock": self.world.clock}
        return web.json_response(facts | {"providers": sorted(self.world.stocks)})

    async def ledger(self, request: web.Request) -> web.Response:
        now = time.time()
        self.world.tick(now)
        lines = [ledger_line(item, now) for item in self.world.instances.values()]
        return web.json_response({"instances": lines})

    async def wire(self, request: web.Request) -> web.Response:
        since = int(request.query.get("since", "0"))
        return web.json_response({"requests": self.log.since(since), "last": self.log.last})

    async def faults(self, request: web.Request) -> web.Response:
        active = [describe(fault) for fault in self.book.faults]
        return web.json_response({"active": active, "catalogue": self.book.catalogue})

    async def post_fault(self, request: web.Request) -> web.Response:
        now = time.time()
        try:
            fault = self.book.post(parse(await request.read()), self.world.serial(), now)
        except (ValueError, TypeError) as problem:
            return web.json_response({"error": str(problem)}, status=400)
        struck = apply_at_once(self.world, fault, now) if fault not in self.book.faults else 0
        self.world.tick(now)
        return web.json_response({"id": fault.id, "struck": struck})

    async def lift_faults(self, request: web.Request) -> web.Response:
        text = request.match_info.get("id")
        return web.json_response({"lifted": self.book.lift(int(text) if text else None)})

    async def instances(self, request: web.Request) -> web.Response:
        now = time.time()
        self.world.tick(now)
        found = [truth(self.world, item, now) for item in self.world.instances.values()]
        return web.json_response({"instances": found})

    async def add_instance(self, request: web.Request) -> web.Response:
        body = parse(await request.read())
        try:
            instance = foreign(self.world, body, time.time())
        except (ValueError, LookupError) as problem:
            return web.json_response({"error": str(problem)}, status=400)
        return web.json_response({"instance_id": instance.instance_id})

    async def work(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        instance = next((i for i in self.world.alive() if i.instance_id == wanted), None)
        if instance is None:
            return web.json_response({"error": "no such instance"}, status=404)
        try:
            set_work(instance, parse(await request.read()))
        except ValueError as problem:
            return web.json_response({"error": str(problem)}, status=400)
        self.world.save(instance)
        shown = {"gpu_load": instance.gpu_load, "gpu_memory_mb": instance.gpu_memory_mb}
        return web.json_response(shown)

    async def remove_instances(self, request: web.Request) -> web.Response:
        wanted = request.match_info.get("id")
        found = [item for item in self.world.alive() if wanted in (None, item.instance_id)]
        for instance in found:
            self.world.destroy(instance, time.time())
        return web.json_response({"removed": len(found)})

    async def market(self, request: web.Request) -> web.Response:
        body = parse(await request.read())
        try:
            self.world.steady = bool(body.pop("steady", self.world.steady))
            self.world.switches = tensordock_switches.turned(self.world.switches, body)
        except ValueError as problem:
            return web.json_response({"error": str(problem)}, status=400)
        return web.json_response({"steady": self.world.steady} | self.world.switches)

    async def accounts(self, request: web.Request) -> web.Response:
        body = parse(await request.read())
        account = str(body.get("account"))
        if account not in self.world.accounts.values():
            return web.json_response({"error": "no such account"}, status=400)
        provider = str(body.get("provider") or "vastai")
        self.world.set_credit(provider, account, float(str(body["credit"])), time.time())
        return web.json_response({"account": account, "credit": body["credit"]})

    def application(self) -> web.Application:
        app = web.Application()
        routes: list[tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]] = [
            ("GET", "/__sim__", self.simulator),
            ("GET", "/ledger", self.ledger),
            ("GET", "/wire", self.wire),
            ("GET", "/faults", self.faults),
            ("POST", "/faults", self.post_fault),
            ("DELETE", "/faults", self.lift_faults),
            ("DELETE", r"/faults/{id:\d+}", self.lift_faults),
            ("GET", "/instances", self.instances),
            ("POST", "/instances", self.add_instance),
            ("POST", "/instances/{id}", self.work),
            ("DELETE", "/instances", self.remove_instances),
            ("DELETE", "/instances/{id}", self.remove_instances),
            ("POST", "/market", self.market),
            ("POST", "/accounts", self.accounts),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
        return app


def set_work(instance: Instance, body: Record) -> None:
    """What its GPUs do. Raises ValueError."""
    load, used = body.get("gpu_load", instance.gpu_load), body.get("gpu_memory_mb")
    used = instance.gpu_memory_mb if used is None else used
    if load is not None and (type(load) is not int or not 0 <= load <= 100):
        raise ValueError("gpu_load is a whole number from 0 to 100, or null")
    if type(used) is not int or not 0 <= used <= instance.board.memory_mb:
        raise ValueError("gpu_memory_mb is a whole number, and no more than there is")
    instance.gpu_load, instance.gpu_memory_mb = load, used


def foreign(world: World, body: Record, now: float) -> Instance:
    """Rented by somebody else's hand on a machine that is free. Raises LookupError when none is."""
    provider = str(body.get("provider") or "vastai")
    account = str(body.get("account") or next(iter(world.accounts.values())))
    model = body.get("gpu_name")
    machine, offer_id, slots = next(
        (machine, offer_id, slots)
        for machine in world.stock(provider).values()
        for offer_id, size, slots in machine.slices()
        if size == 1 and machine.listed and model in (None, machine.model.name)
        and not world.busy(provider, machine.machine_id, now) & set(slots)
    )  # fmt: skip
    state = str(body.get("state") or "running")
    rental = Rental(
        account=account, label=str(body.get("label") or ""), machine=machine, foreign=True,
        offer_id=str(offer_id), slots=slots, disk_gb=FOREIGN_DISK_GB, gpu_rate=machine.price,
        disk_rate=FOREIGN_DISK_GB * machine.disk_price / MONTH_HOURS,
        keys=tuple(str(key) for key in list(body.get("keys") or [])),
        wanted="stopped" if state == "stopped" else "running",
    )  # fmt: skip
    instance = world.rent(
        provider, str(body.get("instance_id") or world.next_id(provider)), rental, now
    )
    if provider == "vastai":
        image = {"image": "pytorch/pytorch:latest", "runtype": "ssh ssh_direc ssh_proxy"}
        instance.details = dict(image)
    if state == "running":
        instance.plan((now, "running"))
    world.advance(instance, now)
    world.save(instance)
    return instance
