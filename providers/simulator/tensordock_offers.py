"""TensorDock's stock as it is told: places, and host nodes. Both are older than they look."""

from collections.abc import Iterable

from aiohttp import web

from .stock import Machine
from .store import Record
from .tensordock_replies import answer
from .tensordock_stock import BY_ID, DISPLAY, Place
from .wire import Call
from .world import World

PLACES_AGE, NODES_AGE = 60, 25  # seconds until a listing is made anew
PORTS = range(20_000, 20_040)
VCPUS_PER_GPU, RAM_PER_GPU = 16, 64


class Listings:
    """Each is made from the truth, and then told unchanged until its time is over."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.places: tuple[float, list[Record]] = (0.0, [])
        self.nodes: tuple[float, list[Record]] = (0.0, [])

    def locations(self, call: Call) -> web.Response:
        if call.now >= self.places[0]:
            due = call.now + self.world.real(PLACES_AGE)
            self.places = due, all_places(self.world, call.now)
        return answer({"data": {"locations": self.places[1]}})

    def hostnodes(self, call: Call) -> web.Response:
        return answer({"data": {"hostnodes": self.all_nodes(call.now)}})

    def hostnode(self, call: Call) -> web.Response:
        wanted = call.request.match_info["node_id"]
        found = [node for node in self.all_nodes(call.now) if node["id"] == wanted]
        return answer({"data": found[0]}) if found else answer({"error": "Not found"}, 404)

    def all_nodes(self, now: float) -> list[Record]:
        if now >= self.nodes[0]:
            due = now + self.world.real(NODES_AGE)
            listed = [item for item in stock(self.world) if item.listed]
            self.nodes = due, [as_node(self.world, item, now) for item in listed]
        return self.nodes[1]


def stock(world: World) -> Iterable[Machine]:
    return world.stock("tensordock").values()


def free(world: World, machine: Machine, now: float) -> int:
    return machine.gpus - len(world.busy("tensordock", machine.machine_id, now))


def price(world: World, machine: Machine) -> float:
    """USD per hour of one GPU. Nodes drift, but a place has one price for a model."""
    alike = machine.place, machine.model.name
    return next(item.price for item in stock(world) if (item.place, item.model.name) == alike)


def all_places(world: World, now: float) -> list[Record]:
    return [
        record
        for place in BY_ID.values()
        if (record := as_place(world, place, now))["gpus"]
    ]  # fmt: skip


def as_place(world: World, place: Place, now: float) -> Record:
    there = [item for item in stock(world) if item.place == place.location_id and item.listed]
    names = dict.fromkeys(item.model.name for item in there)
    gpus = [as_gpu(world, [m for m in there if m.model.name == name], now) for name in names]
    return {
        "id": place.location_id, "city": place.city, "stateprovince": place.state,
        "country": place.country, "tier": place.tier, "gpus": gpus,
    }  # fmt: skip


def as_gpu(world: World, nodes: list[Machine], now: float) -> Record:
    most = max(nodes, key=lambda item: free(world, item, now))
    return {
        "v0Name": most.model.name, "displayName": DISPLAY[most.model.name],
        "max_count": free(world, most, now), "price_per_hr": price(world, most),
        "resources": limits(most), "pricing": pricing(most),
        "network_features": {
            "dedicated_ip_available": any(item.datacenter for item in nodes),
            "port_forwarding_available": True, "network_storage_available": False,
        },
    }  # fmt: skip


def limits(machine: Machine) -> Record:
    return {
        "max_vcpus": machine.cpu_cores, "max_ram_gb": machine.ram_mb // 1000,
        "max_storage_gb": int(machine.disk_gb),
    }  # fmt: skip


def pricing(machine: Machine) -> Record:
    place = BY_ID[machine.place]
    return {
        "per_vcpu_hr": place.vcpu_price, "per_gb_ram_hr": place.ram_price,
        "per_gb_storage_hr": place.disk_price,
    }  # fmt: skip


def as_node(world: World, machine: Machine, now: float) -> Record:
    gpu = {
        "v0Name": machine.model.name, "availableCount": free(world, machine, now),
        "price_per_hr": price(world, machine),
    }  # fmt: skip
    return {
        "id": machine.machine_id, "location_id": machine.place, "engine": "kvm",
        "uptime_percentage": round(machine.reliability * 100, 2),
        "available_resources": limits(machine) | {
            "gpus": [gpu], "vcpu_count": machine.cpu_cores, "ram_gb": machine.ram_mb // 1000,
            "storage_gb": int(machine.disk_gb), "max_vcpus_per_gpu": VCPUS_PER_GPU,
            "max_ram_per_gpu": RAM_PER_GPU, "available_ports": list(PORTS),
            "has_public_ip_available": machine.datacenter,
        },
        "pricing": pricing(machine), "location": where(BY_ID[machine.place]),
    }  # fmt: skip


def where(place: Place) -> Record:
    return {
        "uuid": place.location_id, "city": place.city, "stateprovince": place.state,
        "country": place.country, "has_network_storage": False,
        "network_speed_gbps": place.down_gbps, "network_speed_upload_gbps": place.up_gbps,
        "organization": f"org-{place.tier}{place.city[0].lower()}",
        "organizationName": place.organization, "tier": place.tier,
    }  # fmt: skip
