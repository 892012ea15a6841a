"""TensorDock's offers: what is shown is what a create would make, at its whole price."""

import json
from decimal import Decimal
from typing import Any

import pytest

from providers.base import BadResponse, OfferListing
from providers.tensordock_offers import parse_offers

from .dock_samples import GPU, PLACE, gpu, locations, place
from .vast_samples import reply


def parsed(*places: object) -> OfferListing:
    return parse_offers(reply(200, json.dumps(locations(*places))).json)


def test_an_offer_is_what_a_create_asks_for() -> None:
    own, shared = parsed(place(gpu())).offers
    assert own.offer_id == f"{PLACE}:{GPU}:1:own" and shared.offer_id == f"{PLACE}:{GPU}:1:shared"
    assert (own.gpu_name, own.gpu_name_raw, own.gpu_memory_mb) == ("RTX 4090", GPU, 24576)
    assert (own.cpu_cores, own.ram_mb, own.disk_gb_max) == (4, 32 * 1024, 30200)
    assert (own.country, own.place) == ("US", "Chubbuck, Idaho, own address")
    assert own.verified and not own.interruptible
    place_of = {"location_id": PLACE, "vcpu_count": 4, "ram_gb": 32}
    assert own.details == place_of | {"dedicated_ip": True}
    assert shared.details == place_of | {"dedicated_ip": False}


def test_the_price_holds_gpus_cpus_ram_and_disk() -> None:
    offer = parsed(place(gpu(max_count=2))).offers[2]
    assert offer.gpu_count == 2
    total = 2 * Decimal("0.3966") + 8 * Decimal("0.003") + 64 * Decimal("0.002")
    assert offer.base_price_per_hour == total
    assert offer.disk_price_per_gb_hour == Decimal("0.00005")


@pytest.mark.parametrize(
    "most, counts", [(0, []), (1, [1]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (10, [1, 2, 4, 8, 10])]
)
def test_each_number_of_gpus_is_an_offer(most: int, counts: list[int]) -> None:
    found = parsed(place(gpu(max_count=most)))
    assert [offer.gpu_count for offer in found.offers[::2]] == counts and not found.dropped


@pytest.mark.parametrize(
    "own, forward, ways",
    [(True, True, "own shared"), (True, False, "own"), (False, True, "shared"), (False, False, "")],
)
def test_each_way_in_is_an_offer(own: bool, forward: bool, ways: str) -> None:
    network = {"dedicated_ip_available": own, "port_forwarding_available": forward}
    found = parsed(place(gpu(network_features=network))).offers
    assert " ".join(offer.offer_id.rpartition(":")[2] for offer in found) == ways


@pytest.mark.parametrize(
    "vcpus, ram, asked",
    [(56, 331, (4, 32)), (3, 31, (2, 16)), (2, 15, (2, 10)), (5, 7, (4, 6)), (4, 2, (4, 2))],
)
def test_cpus_and_ram_stay_inside_the_limits(vcpus: int, ram: int, asked: tuple[int, int]) -> None:
    limits = {"max_vcpus": vcpus, "max_ram_gb": ram, "max_storage_gb": 100}
    offer = parsed(place(gpu(resources=limits))).offers[0]
    assert (offer.details["vcpu_count"], offer.details["ram_gb"]) == asked


@pytest.mark.parametrize(
    "raw, name, memory_gb, share",
    [
        ("h100-sxm5-80gb", "H100 SXM", 80, (12, 96)),
        ("a100-pcie-80gb", "A100 PCIe", 80, (12, 96)),
        ("rtxa6000-pcie-48gb", "RTX A6000", 48, (8, 64)),
        ("l4-pcie-24gb", "L4", 24, (4, 32)),
        ("teslav100-pcie-16gb", "V100 PCIe", 16, (4, 16)),
    ],
)
def test_names_tell_gpu_and_memory(
    raw: str, name: str, memory_gb: int, share: tuple[int, int]
) -> None:
    offer = parsed(place(gpu(v0Name=raw, displayName=""))).offers[0]
    assert (offer.gpu_name, offer.gpu_memory_mb) == (name, memory_gb * 1024)
    assert (offer.cpu_cores, offer.ram_mb // 1024) == share


PRICES = {"per_vcpu_hr": 0.003, "per_gb_ram_hr": 0.002, "per_gb_storage_hr": 0.00005}
LIMITS = {"max_vcpus": 56, "max_ram_gb": 331, "max_storage_gb": 30200}


@pytest.mark.parametrize(
    "changes",
    [
        *({"price_per_hr": p} for p in (0, -1, "0.3", None, True, float("nan"), 1e308, 10**30)),
        {"price_per_hr": float("inf")},
        *({"pricing": PRICES | {key: None}} for key in PRICES),
        {"pricing": PRICES | {"per_gb_storage_hr": -1}},
        {"pricing": None},
        *({"resources": LIMITS | {key: 1}} for key in LIMITS),
        {"resources": LIMITS | {"max_storage_gb": 99}},
        {"resources": []},
        *({"v0Name": n} for n in ("", None, 5, "../x", "a b", "<script>", "x" * 200)),
        {"v0Name": "unheard-of", "displayName": "unheard of"},
        *({"max_count": c} for c in (-1, None, "4", 10**9)),
    ],
)
def test_what_cannot_be_believed_is_dropped_and_counted(changes: dict[str, Any]) -> None:
    found = parsed(place(gpu(**changes), gpu()))
    assert (len(found.offers), found.dropped) == (2, 1)


@pytest.mark.parametrize("bad", [None, 5, {}, [], place(gpu(), id="../x"), place(None), place(5)])
def test_a_bad_place_costs_only_itself(bad: object) -> None:
    found = parsed(bad, place(gpu()))
    assert (len(found.offers), found.dropped) == (2, 1) and found.complete


def test_hostile_words_are_cleaned() -> None:
    offer = parsed(place(gpu(), city="A\u202e\x00\nB" + "x" * 900, country=["US"], tier=0)).offers[
        0
    ]
    assert offer.place.startswith("A Bx") and len(offer.place) < 100
    assert offer.country == "" and not offer.verified


@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": {}}, {"data": {"locations": {}}}])
def test_no_list_is_no_reading(body: dict[str, Any]) -> None:
    with pytest.raises(BadResponse):
        parse_offers(body)
