"""The canonical GPU table: one name for what every marketplace and driver spells its own way."""

import re
from dataclasses import dataclass

from .clean import clean


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_gb: tuple[int, ...]  # the sizes that exist
    aliases: tuple[str, ...] = ()


GPUS = (
    Gpu("B300 SXM", (288, 270), ("B300",)),
    Gpu("B200 SXM", (192, 180), ("B200",)),
    Gpu("GH200", (96, 144), ("GH200 SXM",)),
    Gpu("H200 SXM", (141,), ("H200", "H200 SXM5")),
    Gpu("H200 NVL", (141,)),
    Gpu("H100 SXM", (80,), ("H100", "H100 SXM5")),
    Gpu("H100 NVL", (94,)),
    Gpu("H100 PCIe", (80,)),
    Gpu("A100 SXM4", (40, 80), ("A100 SXM", "A100X SXM4")),
    Gpu("A100 PCIe", (40, 80), ("A100",)),
    Gpu("A800 PCIe", (40, 80)),
    Gpu("A40", (48,)),
    Gpu("A30", (24,)),
    Gpu("A16", (16,)),
    Gpu("A10", (24,)),
    Gpu("A10G", (24,)),
    Gpu("A2", (16,)),
    Gpu("L40S", (48,)),
    Gpu("L40", (48,)),
    Gpu("L4", (24,)),
    Gpu("T4", (16,)),
    Gpu("P100", (16,), ("P100 SXM2",)),
    Gpu("P40", (24,)),
    Gpu("P4", (8,)),
    Gpu("V100 SXM2", (16, 32), ("V100 SXM3",)),
    Gpu("V100 PCIe", (16, 32)),
    Gpu("V100", (16, 32)),  # sold without saying which
    Gpu("RTX PRO 6000", (96,), ("RTX PRO 6000 Blackwell",)),
    Gpu("RTX PRO 6000 Server", (96,), ("RTX PRO 6000 S", "RTX PRO 6000 Blackwell Server")),
    Gpu("RTX PRO 5000", (48, 72), ("RTX PRO 5000 Blackwell",)),
    Gpu("RTX PRO 4500", (32,), ("RTX PRO 4500 Blackwell",)),
    Gpu("RTX PRO 4000", (24,), ("RTX PRO 4000 Blackwell",)),
    Gpu("RTX 6000 Ada", (48,)),
    Gpu("RTX 5880 Ada", (48,)),
    Gpu("RTX 5000 Ada", (32,)),
    Gpu("RTX 4500 Ada", (24,)),
    Gpu("RTX 4000 Ada", (20,), ("RTX 4000 SFF Ada",)),
    Gpu("RTX 2000 Ada", (16,)),
    Gpu("RTX A6000", (48,), ("A6000",)),
    Gpu("RTX A5500", (24,), ("A5500",)),
    Gpu("RTX A5000", (24,), ("A5000",)),
    Gpu("RTX A4500", (20,), ("A4500",)),
    Gpu("RTX A4000", (16,), ("A4000",)),
    Gpu("RTX A2000", (6, 12), ("A2000",)),
    Gpu("Quadro RTX 8000", (48,), ("Q RTX 8000", "RTX 8000")),
    Gpu("Quadro RTX 6000", (24,), ("Q RTX 6000",)),
    Gpu("Quadro RTX 5000", (16,), ("Q RTX 5000",)),
    Gpu("Quadro RTX 4000", (8,), ("Q RTX 4000",)),
    Gpu("Titan RTX", (24,)),
    Gpu("Titan V", (12,)),
    Gpu("Titan Xp", (12,)),
    Gpu("RTX 5090", (32,)),
    Gpu("RTX 5090 D", (32,)),
    Gpu("RTX 5080", (16,)),
    Gpu("RTX 5070 Ti", (16,)),
    Gpu("RTX 5070", (12,)),
    Gpu("RTX 5060 Ti", (8, 16)),
    Gpu("RTX 5060", (8,)),
    Gpu("RTX 4090", (24, 48)),
    Gpu("RTX 4090 D", (24, 48)),
    Gpu("RTX 4080 Super", (16,), ("RTX 4080S",)),
    Gpu("RTX 4080", (16,)),
    Gpu("RTX 4070 Ti Super", (16,), ("RTX 4070S Ti", "RTX 4070 Ti S")),
    Gpu("RTX 4070 Ti", (12,)),
    Gpu("RTX 4070 Super", (12,), ("RTX 4070S",)),
    Gpu("RTX 4070", (12,)),
    Gpu("RTX 4060 Ti", (8, 16)),
    Gpu("RTX 4060", (8,)),
    Gpu("RTX 3090 Ti", (24,)),
    Gpu("RTX 3090", (24,)),
    Gpu("RTX 3080 Ti", (12,)),
    Gpu("RTX 3080", (10, 12)),
    Gpu("RTX 3070 Ti", (8,)),
    Gpu("RTX 3070", (8,)),
    Gpu("RTX 3060 Ti", (8,)),
    Gpu("RTX 3060", (8, 12)),
    Gpu("RTX 3050", (6, 8)),
    Gpu("RTX 2080 Ti", (11, 22)),
    Gpu("RTX 2080 Super", (8,), ("RTX 2080S",)),
    Gpu("RTX 2080", (8,)),
    Gpu("RTX 2070 Super", (8,), ("RTX 2070S",)),
    Gpu("RTX 2070", (8,)),
    Gpu("RTX 2060 Super", (8,), ("RTX 2060S",)),
    Gpu("RTX 2060", (6, 12)),
    Gpu("GTX 1660 Super", (6,), ("GTX 1660 S",)),
    Gpu("GTX 1660 Ti", (6,)),
    Gpu("GTX 1660", (6,)),
    Gpu("GTX 1080 Ti", (11,)),
    Gpu("GTX 1080", (8,)),
    Gpu("GTX 1070 Ti", (8,)),
    Gpu("GTX 1070", (8,)),
    Gpu("GTX 1060", (3, 6)),
)

NOISE = re.compile(r"NVIDIA|GEFORCE|TESLA|GENERATION|EDITION|WORKSTATION|HBM\d?E?|\d+ ?GI?B\b")


def _key(name: str) -> str:
    """Letters and digits that tell one GPU from another: no maker, no memory size."""
    return re.sub(r"[^A-Z0-9]", "", NOISE.sub("", name.upper().replace("_", " ")))


BY_KEY = {_key(alias): gpu for gpu in GPUS for alias in (gpu.name, *gpu.aliases)}


def find(raw: str) -> Gpu | None:
    """ "NVIDIA A100-SXM4-80GB", "rtxa6000-pcie-48gb", "RTX 4070S Ti" -> the table's entry."""
    key = _key(raw)
    for candidate in (key, key.removesuffix("PCIE"), key.removesuffix("WS")):
        if candidate in BY_KEY:
            return BY_KEY[candidate]
    return None


def canonical(raw: str) -> str:
    """The table's name; a name that it does not know passes through cleaned."""
    cleaned = clean(raw, 80)
    gpu = find(cleaned)
    return gpu.name if gpu else cleaned
