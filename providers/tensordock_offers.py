"""TensorDock's offers: places and their GPUs become exactly what a create call asks for. Pure."""

import re
from collections.abc import Iterator
from decimal import Decimal

from . import clean, gpus
from .base import BadResponse, OfferListing, OfferRecord
from .countries import NAMES
from .replies import Json

MIN_DISK_GB = 100
HIGHEST_PRICE = 200  # USD per hour
MICRO, NANO = Decimal("0.000001"), Decimal("0.000000001")
GPU_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,79}", re.ASCII)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
MEMORY = re.compile(r"(?<![0-9])([0-9]{1,3}) ?gb\b", re.ASCII | re.IGNORECASE)
SHARES = ((16, 4, 16), (24, 4, 32), (48, 8, 64))  # up to this many GB a GPU: vCPUs, RAM in GB
LARGEST_SHARE = (12, 96)
RAM_STEP = 16  # what its machines can be resized to is a multiple, or one of 2, 4, 6, 8, 10
COUNTRIES = {name.lower(): code for code, name in NAMES.items()} | {
    "united states of america": "US",
    "czech republic": "CZ",
    "turkey": "TR",
    "united arab emirates": "AE",
}


class BadRow(Exception):
    """A place or a GPU that cannot be believed."""


def parse_offers(body: Json) -> OfferListing:
    """Raises BadResponse when there is no list of locations at all."""
    data = body.get("data")
    places = data.get("locations") if isinstance(data, dict) else None
    if not isinstance(places, list):
        raise BadResponse("no list of locations")
    offers: dict[str, OfferRecord] = {}
    dropped = 0
    for place, gpu in _pairs(places):
        try:
            found = parse_gpu(place, gpu)
        except BadRow:
            dropped += 1
        else:
            offers |= {offer.offer_id: offer for offer in found}
    note = f"{len(offers)} offers in {len(places)} places"
    note += f", {dropped} unusable" if dropped else ""
    return OfferListing(offers=tuple(offers.values()), complete=True, note=note, dropped=dropped)


def _pairs(places: list[object]) -> Iterator[tuple[object, object]]:
    """Each GPU with its place; an unreadable place counts as one unusable row."""
    for place in places:
        rows = place.get("gpus") if isinstance(place, dict) else None
        if isinstance(rows, list):
            yield from ((place, row) for row in rows)
        else:
            yield place, None


def parse_gpu(place: Json, gpu: object) -> list[OfferRecord]:
    """One offer for each number of GPUs and way in. Raises BadRow."""
    if not isinstance(gpu, dict) or not uuid(place.get("id")):
        raise BadRow
    most = clean.whole(gpu.get("max_count"), 0, 64)
    if most is None:
        raise BadRow
    ways = _ways_in(_part(gpu, "network_features"))
    return [_offer(place, gpu, count, own) for count in _counts(most) for own in ways]


def _counts(most: int) -> list[int]:
    return sorted({count for count in (1, 2, 4, 8, 16, 32, most) if 0 < count <= most})


def _ways_in(network: Json) -> list[bool]:
    """True is an address of its own, tried first; False a forwarded port of a shared one.

    Two offers, because a create is one request: when no address is left, the first offer is
    gone and the second, at the same price, comes next.
    """
    own = [True] if network.get("dedicated_ip_available") is True else []
    return own + ([] if network.get("port_forwarding_available") is False else [False])


def _offer(place: Json, gpu: Json, count: int, own_address: bool) -> OfferRecord:
    raw = _raw_name(gpu)
    memory_gb = _memory_gb(gpu, raw)
    limits = _part(gpu, "resources")
    disk = clean.whole(limits.get("max_storage_gb"), MIN_DISK_GB, 10**7)
    vcpus, ram = _share(limits, count, memory_gb)
    if not disk:
        raise BadRow
    base, disk_price = _prices(gpu, count, vcpus, ram)
    location, way = uuid(place.get("id")), "own" if own_address else "shared"
    return OfferRecord(
        provider="tensordock",
        offer_id=f"{location}:{raw}:{count}:{way}",
        gpu_name=_canonical(gpu, raw),
        gpu_name_raw=raw,
        gpu_count=count,
        gpu_memory_mb=memory_gb * 1024,
        base_price_per_hour=base,
        disk_price_per_gb_hour=disk_price,
        disk_gb_max=disk,
        cpu_cores=vcpus,
        ram_mb=ram * 1024,
        country=COUNTRIES.get(clean.clean(place.get("country"), 80).lower(), ""),
        place=_place(place, own_address),
        verified=bool(clean.whole(place.get("tier"), 1, 4)),  # tier 0 is somebody's home
        details={
            "location_id": location,
            "vcpu_count": vcpus,
            "ram_gb": ram,
            "dedicated_ip": own_address,
        },
    )


def uuid(value: object) -> str:
    return value if isinstance(value, str) and UUID.fullmatch(value) else ""


def _part(row: Json, key: str) -> Json:
    found = row.get(key)
    return found if isinstance(found, dict) else {}


def _raw_name(gpu: Json) -> str:
    raw = gpu.get("v0Name")
    if not isinstance(raw, str) or not GPU_NAME.fullmatch(raw):
        raise BadRow
    return raw


def _canonical(gpu: Json, raw: str) -> str:
    shown = clean.clean(gpu.get("displayName"), 80)
    return gpus.canonical(raw if gpus.find(raw) else shown or raw)


def _memory_gb(gpu: Json, raw: str) -> int:
    """Only the names say it; else the only size that the GPU is made in."""
    for text in (raw, clean.clean(gpu.get("displayName"), 80)):
        if (found := MEMORY.search(text)) and int(found[1]) > 0:
            return int(found[1])
    known = gpus.find(raw)
    if known and len(known.memory_gb) == 1:
        return known.memory_gb[0]
    raise BadRow


def _share(limits: Json, count: int, memory_gb: int) -> tuple[int, int]:
    """(vCPUs, RAM in GB) that we ask for: enough to feed the GPUs, inside the place's limits."""
    most_vcpus = clean.whole(limits.get("max_vcpus"), 2, 10**4)
    most_ram = clean.whole(limits.get("max_ram_gb"), 2, 10**5)
    if not most_vcpus or not most_ram:
        raise BadRow
    wished = (share[1:] for share in SHARES if memory_gb <= share[0])
    vcpus, ram = next(wished, LARGEST_SHARE)
    ram = min(ram * count, most_ram)
    vcpus = min(vcpus * count, most_vcpus) // 2 * 2  # odd numbers were refused
    return vcpus, ram // RAM_STEP * RAM_STEP or min(ram // 2 * 2, 10)


def _prices(gpu: Json, count: int, vcpus: int, ram: int) -> tuple[Decimal, Decimal]:
    """(GPUs, vCPUs and RAM per hour, one GB of disk per hour)."""
    prices = _part(gpu, "pricing")
    one = clean.number(gpu.get("price_per_hr"), MICRO, HIGHEST_PRICE)
    parts = ("per_vcpu_hr", "per_gb_ram_hr", "per_gb_storage_hr")
    vcpu, gb_ram, gb_disk = (clean.number(prices.get(key), 0, 10) for key in parts)
    if one is None or vcpu is None or gb_ram is None or gb_disk is None:
        raise BadRow
    base = count * one + vcpus * vcpu + ram * gb_ram
    if base > HIGHEST_PRICE:
        raise BadRow
    return base.quantize(MICRO), gb_disk.quantize(NANO)


def _place(place: Json, own_address: bool) -> str:
    names = [clean.clean(place.get(key), 40) for key in ("city", "stateprovince")]
    way = "own address" if own_address else "shared address"
    return ", ".join([name for name in names if name] + [way])
