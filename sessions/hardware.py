"""Claimed and found: is this the machine that was sold?"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from providers.gpus import canonical

TOLERANCE = 0.07  # of the memory: drivers and error correction keep some of it
MAKERS = re.compile(r"NVIDIA|GEFORCE|TESLA|[^A-Z0-9]")


@dataclass(frozen=True, kw_only=True)
class FoundGPU:
    name: str  # as the driver writes it
    memory_mb: int


def compare(
    found: Sequence[FoundGPU], gpu_name: str, gpu_count: int, gpu_memory_mb: int
) -> list[str]:
    """What differs, in sentences. Empty = what was sold. The memory is that of one GPU, 0 = nobody
    knows what was sold."""
    problems = []
    if len(found) != gpu_count:
        problems.append(f"Sold with {gpu_count} GPU, found {len(found)}")
    for name in sorted({gpu.name for gpu in found if _model(gpu.name) != _model(gpu_name)}):
        problems.append(f"Sold as {gpu_name}, found {canonical(name)}")
    wrong = {gpu.memory_mb for gpu in found if not _close(gpu.memory_mb, gpu_memory_mb)}
    for memory in sorted(wrong) if gpu_memory_mb else ():
        problems.append(f"Sold with {gpu_memory_mb} MB on each GPU, found {memory} MB")
    return problems


def _model(name: str) -> str:
    """Comparable also for a model that the table of GPUs does not know yet."""
    return MAKERS.sub("", canonical(name).upper())


def _close(found: int, sold: int) -> bool:
    return abs(found - sold) <= TOLERANCE * sold
