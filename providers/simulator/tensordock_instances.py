"""TensorDock's calls on machines that exist: list, read, start, stop, modify, delete."""

from itertools import count

from aiohttp import web

from .instances import Instance
from .store import Record
from .tensordock_create import LEAST_DISK_GB, forwards
from .tensordock_offers import price
from .tensordock_replies import answer, missing, refusal
from .tensordock_stock import BY_ID
from .tensordock_switches import shape
from .wire import Call, iso
from .world import World

turn = count()
SPELLINGS = {  # of every phase, one after the other
    "": ["queued"],
    "creating": ["creating", "queued", "Provisioning", "pending"],
    "created": ["creating"],
    "loading": ["provisioning"],
    "starting": ["starting", "Starting"],
    "running": ["running", "Running", "running"],
    "stopping": ["stopping"],
    "stopped": ["stopped", "Stopped"],
    "exited": ["stopped"],
    "detached": ["StoppedDisassociated", "stopped_disassociated", "stoppeddisassociated"],
    "unknown": ["error"],
    "offline": ["error", "failed"],
    "error": ["error", "failed"],
}
RAM_STEPS = (2, 4, 6, 8, 10, 16, 32, 48, *range(64, 257, 16), 512)


def status(instance: Instance) -> str:
    words = SPELLINGS.get(instance.phase, [instance.phase]) if instance.alive else ["deleting"]
    return words[next(turn) % len(words)]


def address(world: World, instance: Instance, now: float) -> str:
    return world.host if now >= float(str(instance.details.get("address_at", 0))) else ""


def resources(instance: Instance) -> Record:
    default = {"vcpu_count": 4, "ram_gb": 16, "storage_gb": int(instance.disk_gb)}
    return dict(instance.details.get("resources") or default)  # type: ignore[call-overload]


def as_row(world: World, instance: Instance, now: float) -> Record:
    sizes = resources(instance)
    return {
        "id": instance.instance_id, "name": instance.label, "status": status(instance),
        "ipAddress": address(world, instance, now),
        "gpu_model": world.machine(instance).model.name, "gpu_count": instance.gpu_count,
        "vcpus": sizes["vcpu_count"], "ram_gb": sizes["ram_gb"], "storage_gb": sizes["storage_gb"],
        "price_per_hour": instance.price_per_hour,
        "created_at": f"{iso(instance.created_at)[:19]}Z",
        "location_id": world.machine(instance).place,
    }  # fmt: skip


def listing(call: Call) -> web.Response:
    number = next(turn)
    kind = shape(call.world.switches, "list_shape", number)
    owned = call.world.owned("tensordock", call.account, call.now)
    if kind == "array":
        return answer({"data": [as_row(call.world, item, call.now) for item in owned]})
    rows = [
        {
            "type": ["virtualmachine", "VM", "instance"][number % 3], "id": item.instance_id,
            "attributes": {"name": item.label, "status": status(item)},
        }
        for item in owned
    ]  # fmt: skip
    if kind == "instances":
        return answer({"data": {"instances": rows}})
    return answer({"data": {"type": "list", "id": "instances", "attributes": {"instances": rows}}})


def read(call: Call) -> web.Response:
    instance = call.world.see("tensordock", call.account, call.instance_id, call.now)
    if instance is None:
        return missing()
    record = as_machine(call.world, instance, call.now)
    wrapped = shape(call.world.switches, "read_shape", next(turn)) == "wrapped"
    return answer({"data": record} if wrapped else record)


def as_machine(world: World, instance: Instance, now: float) -> Record:
    gpu = world.machine(instance).model.name
    gpus = {gpu: {"count": instance.gpu_count, "v0Name": gpu}} if instance.gpu_count else {}
    has_ports = now >= float(str(instance.details.get("forwards_at", 0)))
    ports = forwards(instance) if has_ports and not instance.details.get("no_forwards") else []
    return {
        "type": "virtualmachine", "id": instance.instance_id, "name": instance.label,
        "status": status(instance), "ipAddress": address(world, instance, now),
        "portForwards": ports, "rateHourly": round(rate(instance), 6),
        "resources": resources(instance) | {"gpus": gpus},
    }  # fmt: skip


def rate(instance: Instance) -> float:
    """USD per hour as it is billed in this state."""
    return instance.disk_rate + (0.0 if instance.phase == "detached" else instance.gpu_rate)


def found(call: Call) -> Instance | None:
    return call.world.find("tensordock", call.account, call.instance_id, call.now)


def changing(call: Call, instance: Instance, word: str) -> web.Response:
    call.world.save(instance)
    call.effect = True
    core = {"type": "virtualmachine", "id": instance.instance_id}
    return answer({"data": core | {"attributes": {"status": word}}})


def start(call: Call) -> web.Response:
    instance = found(call)
    if instance is None:
        return missing()
    if instance.phase not in ("stopped", "exited", "detached"):
        return answer({"error": "Instance is already running; it must be stopped"}, 409)
    taken = call.world.busy("tensordock", instance.machine_id, call.now) & set(instance.slots)
    if instance.phase == "detached" and (taken or instance.details.get("reclaimed")):
        return refusal("Requested GPU is not available on the hostnode")
    instance.wanted = "running"
    instance.plan((call.now, "starting"), (call.now + call.world.real(8), "running"))
    instance.advance(call.now)
    return changing(call, instance, "starting")


def stop(call: Call) -> web.Response:
    instance = found(call)
    if instance is None:
        return missing()
    instance.wanted = "stopped"
    instance.plan((call.now, "stopping"), (call.now + call.world.real(5), "stopped"))
    instance.advance(call.now)
    return changing(call, instance, "stopping")


def modify(call: Call) -> web.Response:
    instance = found(call)
    if instance is None:
        return missing()
    if instance.phase not in ("stopped", "exited", "detached"):
        return refusal("Instance must be stopped to be modified")
    sizes, body = resources(instance), call.body
    vcpus, ram = body.get("cpuCores", sizes["vcpu_count"]), body.get("ramGb", sizes["ram_gb"])
    disk = body.get("diskGb", sizes["storage_gb"])
    if not all(isinstance(value, int) for value in (vcpus, ram, disk)):
        return answer({"error": "cpuCores, ramGb and diskGb are whole numbers"}, 400)
    if vcpus % 2 or ram not in RAM_STEPS or disk < max(LEAST_DISK_GB, sizes["storage_gb"]):
        return answer({"error": "Invalid cpuCores, ramGb or diskGb"}, 400)
    resize(call, instance, {"vcpu_count": vcpus, "ram_gb": ram, "storage_gb": disk})
    return changing(call, instance, status(instance))


def resize(call: Call, instance: Instance, sizes: Record) -> None:
    machine = call.world.machine(instance)
    place = BY_ID[machine.place]
    gpu = instance.gpu_count * price(call.world, machine)
    vcpus, ram, disk = (int(str(value)) for value in sizes.values())
    instance.reprice(gpu + vcpus * place.vcpu_price + ram * place.ram_price, call.now)
    instance.meter.disk_rate = disk * place.disk_price
    instance.disk_gb, instance.details["resources"] = disk, sizes


def delete(call: Call) -> web.Response:
    instance = found(call)
    if instance is None:
        return missing()
    call.end(instance)
    kind = shape(call.world.switches, "delete_shape", next(turn))
    if kind == "empty":
        return web.Response(status=204)
    text = {"message": "Instance deleted successfully"}
    documented = {"type": "success", "attributes": text}
    return answer({"data": documented if kind == "documented" else text})
