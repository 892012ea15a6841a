"""TensorDock's create call: what it checks, where the machine is put, and what it answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from aiohttp import web

from .instances import Instance
from .stock import Machine
from .store import Record
from .tensordock_offers import PORTS, free, price, stock
from .tensordock_replies import (
    NO_IP,
    NO_NODE,
    NO_NODES,
    NO_SSH,
    POOR,
    UNEXPECTED,
    answer,
    invalid,
    refusal,
)
from .tensordock_stock import BY_ID, is_there
from .tensordock_switches import shape
from .wire import Call
from .world import Rental, World

IMAGES = (
    "ubuntu2404", "ubuntu2404_ml_everything", "ubuntu2404_ml_pytorch", "ubuntu2404_ml_tensorflow",
    "ubuntu2204", "ubuntu2004", "debian12", "windows10",
)  # fmt: skip
CLOUD_INIT = {"packages", "package_update", "package_upgrade", "write_files", "runcmd"}
WRITE_FILE = {"path", "content", "owner", "permissions"}
LEAST_DISK_GB = 100
STALE_SECONDS = 600  # until the dice say anew what is really there, in a market that moves


class Refused(Exception):
    """With the answer."""

    def __init__(self, answer: web.Response) -> None:
        self.answer = answer


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A create call that makes sense."""

    name: str
    image: str
    location_id: str
    hostnode_id: str
    gpu: str  # empty = none
    count: int
    vcpus: int
    ram_gb: int
    disk_gb: int
    dedicated: bool
    ports: tuple[int, ...]  # inside
    ssh_key: str
    cloud_init: Record


def create(call: Call) -> web.Response:
    try:
        wish = read_wish(call)
        if call.world.credit("tensordock", call.account, call.now) < 1:
            raise Refused(refusal(POOR))
        machine = choose(call.world, wish, call.now)
    except Refused as refused:
        return refused.answer
    instance = rent(call, wish, machine)
    if call.has("orphan"):
        return answer({"status": 400, "error": UNEXPECTED, "data": {"id": instance.instance_id}})
    return created(call, instance)


# -- the request


def attributes_of(body: Record) -> Record:
    data = body.get("data")
    attributes = data.get("attributes") if isinstance(data, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def read_wish(call: Call) -> Wish:
    """Raises Refused."""
    body = attributes_of(call.body)
    data = call.body.get("data")
    if not isinstance(data, dict) or data.get("type") != "virtualmachine" or not body:
        raise Refused(invalid("data.type", 'Invalid literal value, expected "virtualmachine"'))
    check_basics(body)
    ports = read_ports(body.get("port_forwards"))
    dedicated = body.get("useDedicatedIp") is True
    if str(body["image"]).startswith("ubuntu") and not dedicated and 22 not in ports:
        raise Refused(refusal(NO_SSH))
    resources = body.get("resources")
    if not isinstance(resources, dict):
        raise Refused(invalid("data.attributes.resources", "Required"))
    gpu, count = read_gpus(resources.get("gpus"), needed=bool(body.get("location_id")))
    return Wish(
        name=str(body["name"]), image=str(body["image"]), gpu=gpu, count=count,
        location_id=str(body.get("location_id") or ""),
        hostnode_id=str(body.get("hostnode_id") or ""),
        vcpus=whole(resources, "vcpu_count", 2, even=True), ram_gb=whole(resources, "ram_gb", 1),
        disk_gb=whole(resources, "storage_gb", LEAST_DISK_GB), dedicated=dedicated, ports=ports,
        ssh_key=read_key(call, body), cloud_init=read_cloud_init(call.world, body),
    )  # fmt: skip


def check_basics(body: Record) -> None:
    if not isinstance(body.get("name"), str) or not body["name"]:
        raise Refused(invalid("data.attributes.name", "Required"))
    if body.get("type") != "virtualmachine":
        raise Refused(invalid("data.attributes.type", "Invalid literal value"))
    if body.get("image") not in IMAGES:
        raise Refused(invalid("data.attributes.image", "Invalid enum value", "invalid_enum_value"))
    if bool(body.get("location_id")) == bool(body.get("hostnode_id")):
        text = "Exactly one of location_id and hostnode_id is required"
        raise Refused(invalid("data.attributes.location_id", text, "custom"))


def whole(resources: Record, name: str, least: int, *, even: bool = False) -> int:
    value, path = resources.get(name), f"data.attributes.resources.{name}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(invalid(path, f"Expected number, received {type(value).__name__}"))
    if value < least:
        text = f"Number must be greater than or equal to {least}"
        raise Refused(invalid(path, text, "too_small"))
    if even and value % 2:
        raise Refused(invalid(path, "Number must be a multiple of 2", "not_multiple_of"))
    return value


def read_gpus(gpus: object, *, needed: bool) -> tuple[str, int]:
    path = "data.attributes.resources.gpus"
    if not gpus and not needed:
        return "", 0
    if not isinstance(gpus, dict) or not gpus:
        raise Refused(invalid(path, "Expected object"))
    if len(gpus) > 1:
        raise Refused(invalid(path, "Only one GPU model per virtual machine", "custom"))
    name, wanted = next(iter(gpus.items()))
    count = wanted.get("count") if isinstance(wanted, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise Refused(invalid(f"{path}.{name}.count", "Expected number of at least 1"))
    return name, count


def read_ports(forwards: object) -> tuple[int, ...]:
    path = "data.attributes.port_forwards"
    found = []
    for item in forwards if isinstance(forwards, list) else []:
        ports = [item.get("internal_port"), item.get("external_port")]
        if not all(isinstance(port, int) and 1 <= port <= 65_535 for port in ports):
            raise Refused(invalid(path, "Ports are numbers from 1 to 65535"))
        found.append(int(ports[0]))
    return tuple(found)


def read_key(call: Call, body: Record) -> str:
    text, number = body.get("ssh_key"), body.get("ssh_key_id")
    if body.get("image") == "windows10":
        return str(text or "")
    if bool(text) == bool(number):
        problem = "Exactly one of ssh_key and ssh_key_id is required"
        raise Refused(invalid("data.attributes.ssh_key", problem, "custom"))
    if text:
        return str(text)
    secret = call.world.store.all("secret").get(str(number))
    if secret is None or secret["account"] != call.account or secret.get("gone"):
        raise Refused(refusal("SSH key not found", 404))
    return str(secret["value"])


def read_cloud_init(world: World, body: Record) -> Record:
    """Only what TensorDock knows, the rest left out or refused."""
    wanted, path = body.get("cloud_init"), "data.attributes.cloud_init"
    if wanted is None:
        return {}
    if not isinstance(wanted, dict):
        raise Refused(invalid(path, "Expected object"))
    files = wanted.get("write_files") or []
    if not isinstance(files, list) or not all(
        isinstance(item, dict) and item.get("path") for item in files
    ):
        raise Refused(invalid(f"{path}.write_files", "Expected array of objects with a path"))
    strange = set(wanted) - CLOUD_INIT | {key for item in files for key in item} - WRITE_FILE
    if strange and world.switches.get("foreign_cloud_init") == "rejected":
        text = f"Unrecognized key(s) in object: {sorted(strange)}"
        raise Refused(invalid(path, text, "unrecognized_keys"))
    commands = wanted.get("runcmd") or []
    if not isinstance(commands, list) or not all(isinstance(item, str) for item in commands):
        raise Refused(invalid(f"{path}.runcmd", "Expected array of strings"))
    known: Record = {key: value for key, value in wanted.items() if key in CLOUD_INIT}
    known["write_files"] = [{k: v for k, v in item.items() if k in WRITE_FILE} for item in files]
    return known


# -- the place


def choose(world: World, wish: Wish, now: float) -> Machine:
    """A node that is listed, really there, large enough, and has an address to give."""
    nodes = [item for item in candidates(world, wish) if fits(world, item, wish, now)]
    if not nodes:
        raise Refused(refusal(NO_NODE if wish.hostnode_id else NO_NODES))
    if wish.dedicated:
        nodes = [item for item in nodes if item.datacenter]
    if not nodes:
        raise Refused(refusal(NO_IP))
    return nodes[0]


def candidates(world: World, wish: Wish) -> Iterator[Machine]:
    for machine in stock(world):
        here = machine.place == wish.location_id or machine.machine_id == wish.hostnode_id
        if (
            here
            and machine.listed
            and machine.model.name in (wish.gpu, wish.gpu or machine.model.name)
        ):
            yield machine


def fits(world: World, machine: Machine, wish: Wish, now: float) -> bool:
    period = 0 if world.steady else int(now * world.clock // STALE_SECONDS)
    there = world.switches.get("true_stock") or is_there(world.meta["seed"], machine, period)
    return bool(
        there
        and free(world, machine, now) >= wish.count
        and wish.vcpus <= (machine.cpu_cores or 0)
        and wish.ram_gb <= machine.ram_mb // 1000
        and wish.disk_gb <= machine.disk_gb
    )


# -- the machine


def rent(call: Call, wish: Wish, machine: Machine) -> Instance:
    world, now = call.world, call.now
    busy = world.busy("tensordock", machine.machine_id, now)
    slots = [slot for slot in range(machine.gpus) if slot not in busy][: wish.count]
    place = BY_ID[machine.place]
    base = wish.count * price(world, machine)
    base += wish.vcpus * place.vcpu_price + wish.ram_gb * place.ram_price
    dice = Random(f"{world.meta['seed']} {world.meta['serial']} {wish.name}")
    up = dice.uniform(10, 30)
    installs = world.switches.get("ssh_key_installs")
    rental = Rental(
        account=call.account, label=wish.name, machine=machine, offer_id=call.offer_id, slots=slots,
        disk_gb=wish.disk_gb, gpu_rate=round(base, 6), disk_rate=wish.disk_gb * place.disk_price,
        ssh_user="user", boot=((0, "creating"), (up / 2, "starting"), (up, "running")),
    )  # fmt: skip
    instance = world.rent("tensordock", world.next_id("tensordock"), rental, now)
    address = now + world.real(up + dice.uniform(-8, 20))
    instance.details = {
        "image": wish.image, "cloud_init": wish.cloud_init, "ssh_key": wish.ssh_key,
        "dedicated": wish.dedicated, "ports": list(wish.ports), "address_at": address,
        "forwards_at": address + (0 if wish.dedicated else world.real(dice.choice([0, 0, 10]))),
        "first_boot_seconds": dice.uniform(60, 90),
        "resources": {"vcpu_count": wish.vcpus, "ram_gb": wish.ram_gb, "storage_gb": wish.disk_gb},
    }  # fmt: skip
    if installs:
        world.add_key(instance, wish.ssh_key, works_at=now, account="user")
    call.instance_id, call.label, call.effect = instance.instance_id, instance.label, True
    call.strike(instance)
    if call.has("orphan"):
        world.stop(instance, now)
    world.save(instance)
    return instance


def created(call: Call, instance: Instance) -> web.Response:
    """Never an address, never a price."""
    switches, turn = call.world.switches, int(str(call.world.meta["serial"]))
    status = shape(switches, "first_status", turn // 4)
    facts = {"name": instance.label, "status": status}
    core: Record = {"type": "virtualmachine", "id": instance.instance_id}
    body: Record = {"data": core | facts}
    kind = shape(switches, "create_shape", turn)
    if kind == "bare":
        body = {"id": instance.instance_id} | facts
    if kind == "attributes":
        body = {"data": core | {"attributes": facts}}
    return answer(body, 201 if kind == "created" else 200)


def forwards(instance: Instance) -> list[Record]:
    """The outer port is another than the one asked for; the others lead nowhere."""
    inside = list(instance.details.get("ports") or [])  # type: ignore[call-overload]
    if instance.details.get("dedicated") or not inside:
        inside = [22]  # no simulated machine can have port 22 of this computer
    others = iter(PORTS)
    outside = [instance.ssh_port if port == 22 else next(others) for port in inside]
    return [
        {"internal_port": port, "external_port": outer}
        for port, outer in zip(inside, outside, strict=True)
    ]
