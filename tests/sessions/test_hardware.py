"""Claimed and found: real spellings of drivers against names of the marketplaces."""

import pytest

from sessions.hardware import FoundGPU, compare


def gpus(name: str, memory_mb: int, count: int = 1) -> tuple[FoundGPU, ...]:
    return (FoundGPU(name=name, memory_mb=memory_mb),) * count


@pytest.mark.parametrize(
    ("found", "memory", "sold", "sold_memory"),
    [
        ("NVIDIA GeForce RTX 4090", 24564, "RTX 4090", 24564),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX 4090", 24576),
        ("NVIDIA A100-SXM4-80GB", 81920, "A100 SXM4", 81920),
        ("NVIDIA A100 80GB PCIe", 81920, "A100 PCIe", 80 * 1024),
        ("NVIDIA H100 80GB HBM3", 81559, "H100 SXM", 80 * 1024),
        ("Tesla T4", 15360, "T4", 16384),
        ("NVIDIA A10", 23028, "A10", 24576),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "RTX 6000 Ada", 49140),
        ("NVIDIA GeForce RTX 9090", 65536, "RTX 9090", 65536),  # in no table yet
    ],
)
def test_what_was_sold(found: str, memory: int, sold: str, sold_memory: int) -> None:
    assert compare(gpus(found, memory, 2), sold, 2, sold_memory) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (gpus("NVIDIA GeForce RTX 3090", 24564, 2), ["Sold as RTX 4090, found RTX 3090"]),
        (gpus("NVIDIA GeForce RTX 4090 D", 24564, 2), ["Sold as RTX 4090, found RTX 4090 D"]),
        (gpus("NVIDIA GeForce RTX 4090", 24564, 1), ["Sold with 2 GPU, found 1"]),
        ((), ["Sold with 2 GPU, found 0"]),
        (
            gpus("NVIDIA GeForce RTX 4090", 22000, 2),
            ["Sold with 24564 MB on each GPU, found 22000 MB"],
        ),
        (
            gpus("NVIDIA GeForce RTX 4090", 24564) + gpus("Tesla T4", 15360),
            ["Sold as RTX 4090, found T4", "Sold with 24564 MB on each GPU, found 15360 MB"],
        ),
    ],
)
def test_what_was_not_sold(found: tuple[FoundGPU, ...], words: list[str]) -> None:
    assert compare(found, "RTX 4090", 2, 24564) == words


def test_the_memory_may_differ_by_seven_percent_and_no_more() -> None:
    for memory, fits in ((9300, True), (9299, False), (10700, True), (10701, False)):
        assert (compare(gpus("T4", memory), "T4", 1, 10_000) == []) is fits
