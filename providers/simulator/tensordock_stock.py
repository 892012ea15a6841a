"""TensorDock's host nodes, drawn from a seed: few models, many places, one model a node."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from uuid import NAMESPACE_DNS, uuid5

from .stock import DISKS, DRIVERS, Machine, Model

MONTH_HOURS = 720
STALE_RATE = (0.5, 0.7)  # of what a place lists and does not have


@dataclass(frozen=True, kw_only=True)
class Place:
    """Prices in USD per hour: of one vCPU, of a GB of RAM, of a GB of disk."""

    location_id: str
    city: str
    state: str
    country: str
    tier: int
    down_gbps: float
    up_gbps: float
    organization: str
    vcpu_price: float
    ram_price: float
    disk_price: float


def identity(*words: object) -> str:
    return str(uuid5(NAMESPACE_DNS, " ".join(map(str, words)) + " simulated.example.org"))


def place(
    city: str, state: str, country: str, tier: int, speed: float,
    prices: tuple[float, float, float] = (0.003, 0.002, 0.00005),
) -> Place:  # fmt: skip
    return Place(
        location_id=identity(city, state, country), city=city, state=state, country=country,
        tier=tier, down_gbps=speed, up_gbps=round(speed * 1.25, 2),
        organization=f"Example Host {city}", vcpu_price=prices[0], ram_price=prices[1],
        disk_price=prices[2],
    )  # fmt: skip


PLACES = [
    place("Chubbuck", "Idaho", "United States", 1, 2.5),
    place("Joplin", "Missouri", "United States", 0, 1.0),
    place("Manassas", "Virginia", "United States", 3, 10.0, (0.004, 0.0025, 0.00008)),
    place("Dallas", "Texas", "United States", 2, 5.0),
    place("Las Vegas", "Nevada", "United States", 2, 10.0, (0.0035, 0.002, 0.00006)),
    place("Salt Lake City", "Utah", "United States", 1, 2.0),
    place("Ottawa", "Ontario", "Canada", 1, 3.0),
    place("Winnipeg", "Manitoba", "Canada", 0, 0.9),
    place("Frankfurt", "Hesse", "Germany", 3, 10.0, (0.0045, 0.003, 0.00009)),
    place("London", "England", "United Kingdom", 2, 5.0),
    place("Warsaw", "Masovian Voivodeship", "Poland", 2, 2.5),
    place("Stockholm", "Stockholm County", "Sweden", 3, 10.0),
    place("Tallinn", "Harju County", "Estonia", 1, 1.0),
    place("Mumbai", "Maharashtra", "India", 1, 1.5, (0.003, 0.0015, 0.00005)),
]
BY_ID = {item.location_id: item for item in PLACES}


def model(
    name: str, driver_name: str, memory: int, low: float, high: float, power: int, weight: int,
    sizes: tuple[int, ...] = (1, 2, 4, 8),
) -> Model:  # fmt: skip
    return Model(
        name=name, driver_name=driver_name, memory_mb=memory, price=(low, high), capability=0,
        power_w=power, tflops=0.0, weight=weight, sizes=sizes,
    )  # fmt: skip


MODELS = [
    model("geforcertx3090-pcie-24gb", "NVIDIA GeForce RTX 3090", 24576, 0.2, 0.24, 350, 12),
    model("geforcertx4090-pcie-24gb", "NVIDIA GeForce RTX 4090", 24564, 0.377, 0.44, 450, 14),
    model("geforcertx5090-pcie-32gb", "NVIDIA GeForce RTX 5090", 32607, 0.55, 0.75, 575, 5),
    model("rtxa4000-pcie-16gb", "NVIDIA RTX A4000", 16376, 0.2, 0.22, 140, 8),
    model("rtxa5000-pcie-24gb", "NVIDIA RTX A5000", 24564, 0.21, 0.3, 230, 5),
    model("rtxa6000-pcie-48gb", "NVIDIA RTX A6000", 49140, 0.4, 0.55, 300, 8),
    model("l4-pcie-24gb", "NVIDIA L4", 23034, 0.225, 0.29, 72, 6),
    model("l40-pcie-48gb", "NVIDIA L40", 46068, 0.75, 1.0, 300, 4),
    model("teslav100-pcie-16gb", "Tesla V100-PCIE-16GB", 16384, 0.19, 0.25, 250, 5),
    model("a100-pcie-80gb", "NVIDIA A100 80GB PCIe", 81920, 1.0, 1.6, 300, 6),
    model("h100-sxm5-80gb", "NVIDIA H100 80GB HBM3", 81559, 2.2, 2.4, 700, 4, (8,)),
]
BY_NAME = {item.name: item for item in MODELS}
DISPLAY = {
    "geforcertx3090-pcie-24gb": "NVIDIA GeForce RTX 3090 PCIe 24GB",
    "geforcertx4090-pcie-24gb": "NVIDIA GeForce RTX 4090 PCIe 24GB",
    "geforcertx5090-pcie-32gb": "NVIDIA GeForce RTX 5090 PCIe 32GB",
    "rtxa4000-pcie-16gb": "NVIDIA RTX A4000 PCIe 16GB",
    "rtxa5000-pcie-24gb": "NVIDIA RTX A5000 PCIe 24GB",
    "rtxa6000-pcie-48gb": "NVIDIA RTX A6000 PCIe 48GB",
    "l4-pcie-24gb": "NVIDIA L4 PCIe 24GB",
    "l40-pcie-48gb": "NVIDIA L40 PCIe 48GB",
    "teslav100-pcie-16gb": "NVIDIA Tesla V100 PCIe 16GB",
    "a100-pcie-80gb": "NVIDIA A100 PCIe 80GB",
    "h100-sxm5-80gb": "NVIDIA H100 SXM5 80GB",
}
PINNED = [  # (city, model, price, GPUs): always listed
    ("Frankfurt", "l4-pcie-24gb", 0.225, 2),
    ("Chubbuck", "geforcertx4090-pcie-24gb", 0.3966, 4),
    ("Manassas", "geforcertx4090-pcie-24gb", 0.377, 1),
    ("Tallinn", "geforcertx3090-pcie-24gb", 0.2, 1),
    ("Stockholm", "h100-sxm5-80gb", 2.2, 8),
]


def build(seed: int) -> list[Machine]:
    return [node(seed, number, *wish) for number, wish in enumerate(wishes(seed))]


def wishes(seed: int) -> Iterator[tuple[Place, Model, float, int]]:
    """(place, model, price of one GPU, GPUs); a place asks one price for a model."""
    random = Random(seed)
    by_city = {item.city: item for item in PLACES}
    pinned = {(city, name): price for city, name, price, _ in PINNED}
    yield from ((by_city[city], BY_NAME[name], price, gpus) for city, name, price, gpus in PINNED)
    for where in PLACES:
        drawn = {*random.choices(MODELS, [item.weight for item in MODELS], k=7)}
        for kind in sorted(drawn, key=lambda item: item.name):
            drawn_price = round(random.triangular(*kind.price, kind.price[0]), 4)
            price = pinned.get((where.city, kind.name), drawn_price)
            for _ in range(random.choice([1, 1, 1, 2, 3])):
                yield where, kind, price, random.choice(kind.sizes)


def node(seed: int, number: int, where: Place, kind: Model, price: float, gpus: int) -> Machine:
    random = Random(f"{seed} {number}")
    driver, cuda = random.choice(DRIVERS[2:])
    return Machine(
        machine_id=identity("node", number), host_id=number, model=kind, gpus=gpus, price=price,
        base_price=price, first_offer=1 + 40 * number, place=where.location_id,
        disk_price=where.disk_price * MONTH_HOURS,
        disk_gb=float(random.choice([2_000, 4_000, 8_000, 30_200])), disk_name=random.choice(DISKS),
        disk_mbps=2_500.0, cpu_name="AMD EPYC 7763 64-Core Processor",
        cpu_cores=max(16, 14 * gpus), cpu_ghz=2.45, ram_mb=max(64, 82 * gpus) * 1000,
        up_mbps=where.up_gbps * 1000, down_mbps=where.down_gbps * 1000, up_price=0.0,
        down_price=0.0, reliability=round(1 - random.expovariate(200), 4), driver=driver, cuda=cuda,
        verified=True, datacenter=random.random() < 0.7, ports=40,
        ip=f"198.51.100.{1 + number % 250}",
        ends_in=1e9,
    )  # fmt: skip


def is_there(seed: object, machine: Machine, period: int) -> bool:
    """Whether a listed node can really be rented; between 30 and 50 % can, place by place."""
    missing = Random(f"{seed} {machine.place}").uniform(*STALE_RATE)
    return Random(f"{seed} {machine.machine_id} {period}").random() >= missing
