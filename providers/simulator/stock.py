"""The machines of a marketplace, drawn from a seed: models, prices, places, and their drift."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random

from .store import Record


@dataclass(frozen=True, kw_only=True)
class Model:
    name: str  # as Vast.ai writes it
    driver_name: str  # as nvidia-smi writes it
    memory_mb: int
    price: tuple[float, float]  # USD per hour and GPU, from and to
    capability: int
    power_w: int
    tflops: float
    weight: int
    sizes: tuple[int, ...] = (1, 2, 4, 8)  # GPUs in one machine
    arch: str = "consumer"


def model(
    name: str, driver_name: str, memory: int, low: float, high: float, cc: int, power: int,
    tflops: float, weight: int, sizes: tuple[int, ...] = (1, 2, 4, 8),
) -> Model:  # fmt: skip
    return Model(
        name=name, driver_name=driver_name, memory_mb=memory, price=(low, high), capability=cc,
        power_w=power, tflops=tflops, weight=weight, sizes=sizes,
    )  # fmt: skip


MODELS = [
    model("RTX 3060", "NVIDIA GeForce RTX 3060", 12288, 0.04, 0.06, 860, 170, 12.7, 6, (1, 2, 4)),
    model("RTX 3090", "NVIDIA GeForce RTX 3090", 24576, 0.06, 0.11, 860, 350, 35.6, 26),
    model("RTX 4090", "NVIDIA GeForce RTX 4090", 24564, 0.08, 0.32, 890, 450, 82.6, 28),
    model("RTX 5060 Ti", "NVIDIA GeForce RTX 5060 Ti", 16311, 0.054, 0.07, 1200, 180, 23.7, 14),
    model("RTX 5070 Ti", "NVIDIA GeForce RTX 5070 Ti", 16303, 0.07, 0.094, 1200, 300, 43.9, 12),
    model("RTX 5080", "NVIDIA GeForce RTX 5080", 16303, 0.105, 0.135, 1200, 360, 56.3, 10),
    model("RTX 5090", "NVIDIA GeForce RTX 5090", 32607, 0.18, 0.34, 1200, 575, 104.8, 22),
    model("RTX A4000", "NVIDIA RTX A4000", 16376, 0.08, 0.12, 860, 140, 19.2, 6),
    model("RTX A5000", "NVIDIA RTX A5000", 24564, 0.16, 0.30, 860, 230, 27.8, 7),
    model("RTX A6000", "NVIDIA RTX A6000", 49140, 0.37, 0.55, 860, 300, 38.7, 9),
    model("RTX 6000Ada", "NVIDIA RTX 6000 Ada Generation", 49140, 0.5, 0.7, 890, 300, 91.1, 6),
    model("Q RTX 8000", "Quadro RTX 8000", 46080, 0.22, 0.35, 750, 260, 16.3, 4),
    model("L4", "NVIDIA L4", 23034, 0.2, 0.3, 890, 72, 30.3, 6),
    model("L40S", "NVIDIA L40S", 46068, 0.45, 0.6, 890, 350, 91.6, 7),
    model("A100 PCIE", "NVIDIA A100 80GB PCIe", 81920, 0.33, 0.7, 800, 300, 19.5, 6),
    model("A100 SXM4", "NVIDIA A100-SXM4-80GB", 81920, 0.4, 0.9, 800, 400, 19.5, 8, (4, 8)),
    model("H100 PCIE", "NVIDIA H100 PCIe", 81559, 1.2, 1.7, 900, 350, 51.2, 4),
    model("H100 SXM", "NVIDIA H100 80GB HBM3", 81559, 1.4, 2.1, 900, 700, 66.9, 8, (8,)),
    model("H200 NVL", "NVIDIA H200 NVL", 143771, 1.9, 2.3, 900, 600, 60.3, 3, (4, 8)),
]  # fmt: skip

PLACES = [
    ("Spain, ES", 5), ("Vietnam, VN", 5), ("California, US", 9), ("Texas, US", 7),
    ("Quebec, CA", 6), ("Czechia, CZ", 6), ("Poland, PL", 7), ("Norway, NO", 5), ("Sweden, SE", 6),
    ("Bulgaria, BG", 5), (", CN", 6), ("Hong Kong, HK", 3), ("South Korea, KR", 4),
    ("Japan, JP", 3), ("Germany, DE", 5), ("France, FR", 3), ("United Kingdom, GB", 4),
    ("Netherlands, NL", 4), ("Estonia, EE", 3), ("Ukraine, UA", 3), ("Iceland, IS", 2),
    ("India, IN", 3), ("Australia, AU", 2), ("Brazil, BR", 2), ("Washington, US", 4),
]  # fmt: skip

PINNED = [  # (model, place, price, GPUs): always in the stock, and among the cheapest
    ("RTX 3090", "Spain, ES", 0.0612, 1),
    ("RTX 3090", "Spain, ES", 0.0667, 2),
    ("RTX 3090", "Spain, ES", 0.0733, 4),
    ("RTX 3090", "Spain, ES", 0.0789, 1),
    ("RTX 5060 Ti", "Vietnam, VN", 0.0571, 2),
    ("RTX 5060 Ti", "Vietnam, VN", 0.0584, 1),
    ("RTX 5090", "Norway, NO", 0.1852, 8),
    ("A100 PCIE", "Quebec, CA", 0.3341, 2),
]

CPUS = [
    ("AMD EPYC 7763 64-Core Processor", 128, 2.45), ("AMD EPYC 7K62 48-Core Processor", 192, 2.6),
    ("AMD EPYC 9354 32-Core Processor", 64, 3.25), ("AMD Ryzen 9 7950X 16-Core Processor", 32, 4.5),
    ("Xeon® E5-2680 v4", 56, 2.4), ("Intel® Core™ i7-12700K", 20, 3.6),
    ("AMD Ryzen Threadripper PRO 5975WX 32-Cores", 64, 3.6), ("Xeon® Gold 6330", 112, 2.0),
]  # fmt: skip
DRIVERS = [
    ("550.127.05", "12.4"), ("560.35.03", "12.6"), ("570.86.15", "12.8"), ("575.57.08", "12.9"),
    ("580.95.05", "13.0"),
]  # fmt: skip
DISKS = ["SAMSUNG MZQL27T6", "WD_BLACK SN850X 4000GB", "KINGSTON SFYRD2000G", "CT2000P3PSSD8"]


@dataclass(kw_only=True)
class Machine:
    machine_id: str
    host_id: int
    model: Model
    gpus: int
    price: float  # USD per hour and GPU
    base_price: float  # what the price drifts around
    first_offer: int  # offers are numbered from here, see offer_number
    place: str
    disk_price: float  # USD per GB and month
    disk_gb: float
    disk_name: str
    disk_mbps: float
    cpu_name: str
    cpu_cores: int | None
    cpu_ghz: float
    ram_mb: int
    up_mbps: float
    down_mbps: float
    up_price: float  # USD per GB
    down_price: float
    reliability: float
    driver: str
    cuda: str
    verified: bool
    datacenter: bool
    ports: int
    ip: str
    ends_in: float  # seconds from the start of the simulator
    listed: bool = True

    def slices(self) -> Iterator[tuple[int, int, list[int]]]:
        """(offer number, size, slots) of every aligned part that can be rented."""
        number, size = self.first_offer, self.gpus
        while size:
            for start in range(0, self.gpus, size):
                yield number, size, list(range(start, start + size))
                number += 1
            size //= 2

    def drift(self) -> Record:
        return {"price": self.price, "listed": self.listed}

    def dump(self) -> Record:
        return asdict(self)


def build(seed: int, count: int = 175) -> list[Machine]:
    random = Random(seed)
    weights = [item.weight for item in MODELS]
    drawn = random.choices(MODELS, weights, k=count - len(PINNED))
    by_name = {item.name: item for item in MODELS}
    wishes = [(by_name[name], place, price, gpus) for name, place, price, gpus in PINNED]
    wishes += [(item, "", 0.0, 0) for item in drawn]
    return [machine(random, index, *wish) for index, wish in enumerate(wishes)]


def machine(
    random: Random, index: int, model: Model, place: str, price: float, gpus: int
) -> Machine:
    pinned = bool(gpus)
    cpu_name, cores, ghz = random.choice(CPUS)
    newest = DRIVERS[2:] if model.capability >= 1200 else DRIVERS
    driver, cuda = random.choice(newest)
    datacenter = random.random() < 0.3
    price = price or round(random.triangular(*model.price, model.price[0]), 4)
    return Machine(
        machine_id=str(41_000 + 7 * index),
        host_id=230_000 + random.randrange(9_000),
        model=model,
        gpus=gpus or random.choice(model.sizes),
        price=price,
        base_price=price,
        first_offer=30_400_000 + 40 * index,
        place=place or random.choices(*zip(*PLACES, strict=True))[0],
        disk_price=random.choice([0.09, 0.1, 0.149333, 0.15, 0.186, 0.2]),
        disk_gb=round(random.uniform(120, 4_000), 1),
        disk_name=random.choice(DISKS),
        disk_mbps=round(random.uniform(600, 7_000), 1),
        cpu_name=cpu_name,
        cpu_cores=cores if pinned or random.random() > 0.03 else None,
        cpu_ghz=ghz,
        ram_mb=random.choice([64_215, 128_619, 257_603, 515_847, 1_031_700]),
        up_mbps=round(random.uniform(60, 4_000), 1),
        down_mbps=round(random.uniform(80, 8_000), 1),
        up_price=random.choice([0.0, 0.002, 0.0039, 0.01, 0.02]),
        down_price=random.choice([0.0, 0.002, 0.0039, 0.01, 0.02]),
        reliability=round(1 - random.expovariate(90), 7) if not pinned else 0.9971204,
        driver=driver,
        cuda=cuda,
        verified=pinned or random.random() > 0.09,
        datacenter=datacenter,
        ports=random.choice([0, 12, 31, 99, 249, 499]) if not pinned else 99,
        ip=f"203.0.113.{1 + index % 250}",
        ends_in=random.uniform(5, 180) * 86_400,
    )


def drift(machines: list[Machine], random: Random) -> list[Machine]:
    """A few prices move, some machines leave, others come back; returns those that changed."""
    changed = []
    for item in machines:
        dice = random.random()
        if not item.listed and dice < 0.25:
            item.listed = True
        elif item.listed and dice < 0.015:
            item.listed = False
        elif item.listed and dice < 0.06:
            moved = item.price * random.uniform(0.97, 1.03)
            item.price = round(min(max(moved, item.base_price * 0.85), item.base_price * 1.2), 4)
        else:
            continue
        changed.append(item)
    return changed
