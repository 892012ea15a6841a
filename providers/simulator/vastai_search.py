"""Vast.ai's offer search: the query language and the offer records."""

import json
from collections.abc import Callable, Iterator

from .stock import Machine
from .store import Record
from .world import MONTH_HOURS, World

CAP = 64  # offers in one answer, whatever was asked for
DEFAULTS: Record = {"verified": {"eq": True}, "rentable": {"eq": True}, "rented": {"eq": False}}
SPECIAL = {"type", "order", "limit", "allocated_storage", "disable_bundling", "client_id"}
OFFER_LIFE = 180 * 86_400


class BadQuery(Exception):
    """The text goes into msg."""


def search(world: World, query: object, now: float) -> list[Record]:
    if not isinstance(query, dict):
        raise BadQuery("Invalid query: must be dict of conditions")
    kind = query.get("type", "on-demand")
    if kind not in ("ondemand", "on-demand", "bid", "reserved"):
        raise BadQuery(f"Invalid query: unknown type {kind}")
    disk = number(query.get("allocated_storage", 8))
    conditions = {k: v for k, v in (DEFAULTS | query).items() if k not in SPECIAL}
    found = [
        offer for offer in offers(world, now, disk, bid=kind == "bid") if fits(offer, conditions)
    ]
    for column, direction in reversed(order_of(query)):
        found.sort(key=lambda offer: sortable(offer.get(column)), reverse=direction == "desc")
    limit = int(number(query.get("limit", CAP)) or CAP)
    return found[: min(max(limit, 0), CAP)]


def order_of(query: Record) -> list[tuple[str, str]]:
    order = query.get("order", [])
    if not isinstance(order, list) or not all(isinstance(item, list | tuple) for item in order):
        raise BadQuery("Invalid query: order must be a list of [field, direction]")
    return [(str(item[0]), str(item[1]) if len(item) > 1 else "asc") for item in order]


def sortable(value: object) -> tuple[bool, object]:
    return value is not None, (value if isinstance(value, int | float | str) else 0)


def offers(world: World, now: float, disk: float, *, bid: bool) -> Iterator[Record]:
    """One per machine and size: the first part that is free, else the first, as rented."""
    for machine in world.stock("vastai").values():
        if not machine.listed:
            continue
        busy = world.busy("vastai", machine.machine_id, now)
        shown: dict[int, tuple[int, list[int], bool]] = {}
        for offer_id, size, slots in machine.slices():
            free = not busy & set(slots)
            if size not in shown or (free and not shown[size][2]):
                shown[size] = offer_id, slots, free
        for offer_id, slots, free in shown.values():
            yield offer(world, machine, offer_id, len(slots), disk, now, free=free, bid=bid)


def min_bid(machine: Machine, size: int) -> float:
    return round(machine.price * size * (0.55 + machine.host_id % 60 / 100), 6)


def offer(
    world: World, machine: Machine, offer_id: int, size: int, disk: float, now: float,
    *, free: bool, bid: bool,
) -> Record:  # fmt: skip
    base = round(machine.price * size, 6)
    least = min_bid(machine, size)
    hour = disk * machine.disk_price / MONTH_HOURS
    total = (least if bid else base) + hour
    costs = {"discountTotalHour": 0, "diskHour": hour}
    flops = machine.model.tflops * size
    return {
        "id": offer_id, "ask_contract_id": offer_id, "bundle_id": 1_200_000 + offer_id % 90_000,
        "dph_base": base, "dph_total": total, "min_bid": least, "is_bid": bid,
        "storage_total_cost": hour, "discounted_dph_total": total, "dph_total_adj": total * 1.05,
        "search": {"gpuCostPerHour": total - hour, "totalHour": total,
                   "discountedTotalPerHour": total} | costs,
        "instance": {"gpuCostPerHour": 0, "totalHour": hour,
                     "discountedTotalPerHour": hour} | costs,
        "discount_rate": None, "credit_discount_max": 0.4, "vram_costperhour": total / 24_000,
        "rentable": free, "rented": not free, "time_remaining": "", "time_remaining_isbid": "",
        "total_flops": flops, "flops_per_dphtotal": flops / total, "dlperf": flops * 1.45,
        "dlperf_per_dphtotal": flops * 1.45 / total, "score": round(flops / total * 0.9, 2),
        "avail_vol_ask_id": None, "avail_vol_dph": None, "avail_vol_size": None, "rn": 1,
    } | hardware(machine, size) | contract(world, machine, now)  # fmt: skip


def hardware(machine: Machine, size: int) -> Record:
    """What offers and instances both say of the machine."""
    share = size / machine.gpus
    model = machine.model
    cores = machine.cpu_cores
    return {
        "resource_type": "gpu", "num_gpus": size, "gpu_name": model.name,
        "gpu_ram": model.memory_mb, "gpu_total_ram": model.memory_mb * size, "gpu_frac": share,
        "gpu_arch": "nvidia", "compute_cap": model.capability, "cuda_max_good": float(machine.cuda),
        "driver_version": machine.driver, "driver_vers": sortable_driver(machine.driver),
        "gpu_mem_bw": round(model.tflops * 14, 1), "gpu_max_power": float(model.power_w),
        "gpu_max_temp": 90.0, "gpu_display_active": False, "pci_gen": 4.0, "pcie_bw": 24.1,
        "gpu_lanes": 16, "bw_nvlink": 0.0, "cpu_name": machine.cpu_name, "cpu_arch": "amd64",
        "cpu_cores": cores, "cpu_cores_effective": (cores or 32) * share,
        "cpu_ghz": machine.cpu_ghz, "cpu_ram": machine.ram_mb, "has_avx": 1,
        "disk_name": machine.disk_name, "disk_space": round(machine.disk_gb * share, 1),
        "disk_bw": machine.disk_mbps, "inet_up": machine.up_mbps, "inet_down": machine.down_mbps,
        "inet_up_cost": machine.up_price, "inet_down_cost": machine.down_price,
        "internet_up_cost_per_tb": machine.up_price * 1000,
        "internet_down_cost_per_tb": machine.down_price * 1000,
        "mobo_name": "H12SSL-i", "os_version": "22.04", "vms_enabled": False, "webpage": None,
    }  # fmt: skip


def contract(world: World, machine: Machine, now: float) -> Record:
    """Who offers it, where, and how long."""
    since = float(str(world.meta["since"]))
    left = (machine.ends_in - (now - since)) % OFFER_LIFE
    return {
        "machine_id": int(machine.machine_id), "host_id": machine.host_id,
        "storage_cost": machine.disk_price, "geolocation": machine.place,
        "geolocode": sum(machine.place.encode()), "hosting_type": int(machine.datacenter),
        "reliability": machine.reliability, "reliability2": machine.reliability,
        "expected_reliability": machine.reliability, "reliability_mult": 0.97,
        "verification": "verified" if machine.verified else "unverified",
        "vericode": int(machine.verified), "external": False, "static_ip": machine.datacenter,
        "public_ipaddr": machine.ip, "direct_port_count": machine.ports, "direct_port_start": -1,
        "start_date": since, "end_date": now + left, "duration": left,
    }  # fmt: skip


def sortable_driver(version: str) -> int:
    major, minor, patch = (int(part) for part in version.split("."))
    return major * 1_000_000 + minor * 1_000 + patch


# -- conditions

OPERATORS: dict[str, Callable[[object, object], bool]] = {
    "eq": lambda value, wanted: equal(value, wanted),
    "neq": lambda value, wanted: not equal(value, wanted),
    "gt": lambda value, wanted: value is not None and number(value) > number(wanted),
    "gte": lambda value, wanted: value is not None and number(value) >= number(wanted),
    "lt": lambda value, wanted: value is not None and number(value) < number(wanted),
    "lte": lambda value, wanted: value is not None and number(value) <= number(wanted),
    "in": lambda value, wanted: any(equal(value, item) for item in listed(wanted)),
    "notin": lambda value, wanted: not any(equal(value, item) for item in listed(wanted)),
}
COLUMNS: dict[str, Callable[[Record], object]] = {  # names that are not fields of the answer
    "id": lambda offer: None,  # filtering by id finds nothing
    "verified": lambda offer: offer["verification"] == "verified",
    "datacenter": lambda offer: offer["hosting_type"] == 1,
    "geolocation": lambda offer: str(offer["geolocation"])[-2:],
    "cuda_vers": lambda offer: offer["cuda_max_good"],
    "gpu_totalram": lambda offer: offer["gpu_total_ram"],
}


def fits(row: Record, conditions: Record) -> bool:
    """Raises BadQuery for columns and operators that do not exist."""
    for column, condition in conditions.items():
        if not isinstance(condition, dict):
            raise BadQuery("Invalid query: must be dict of conditions")
        if column not in row and column not in COLUMNS:
            raise BadQuery(f"Error in query parameters: {column} is not a valid search key")
        value = COLUMNS[column](row) if column in COLUMNS else row[column]
        for operator, wanted in condition.items():
            if operator not in OPERATORS:
                raise BadQuery(f"Invalid query: unknown operator {operator}")
            if not OPERATORS[operator](value, wanted):
                return False
    return True


def number(value: object) -> float:
    """Numbers arrive as text, too."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise BadQuery(f"Invalid query: {value!r} is not a number") from None


def equal(value: object, wanted: object) -> bool:
    if value is None or wanted is None:
        return value is wanted
    if isinstance(value, bool):
        return value == (str(wanted).lower() in ("true", "1"))
    if isinstance(value, int | float):
        return value == number(wanted)
    return str(value) == str(wanted)


def listed(wanted: object) -> list[object]:
    return wanted if isinstance(wanted, list) else [wanted]


def query_of(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise BadQuery("Invalid json body") from None
