"""Vast.ai's offer search, as a client meets it."""

import json

import pytest
import requests

from .conftest import OTHER, OWNER, Json, Simulator, wait_for

CHEAPEST = [["dph_total", "asc"]]


def everything(simulator: Simulator, **query: object) -> list[Json]:
    """All offers, by asking again from the last price on."""
    found: dict[int, Json] = {}
    least = 0.0
    while True:
        page = simulator.search(order=CHEAPEST, dph_total={"gte": least}, **query)
        fresh = [offer for offer in page if offer["id"] not in found]
        found |= {offer["id"]: offer for offer in page}
        if not fresh or len(page) < 64:
            return list(found.values())
        least = page[-1]["dph_total"]


def test_the_whole_stock_is_read_in_pages_of_64(simulator: Simulator) -> None:
    assert len(simulator.search(limit=3000)) == 64
    offers = everything(simulator)
    assert 350 <= len(offers) <= 450
    names = {offer["gpu_name"] for offer in offers}
    wanted = "RTX 3090,RTX 4090,RTX 5060 Ti,RTX 5070 Ti,RTX 5080,RTX 5090,RTX A4000,RTX A5000"
    assert {*wanted.split(","), "RTX A6000", "L4", "H100 SXM", "A100 SXM4"} <= names
    assert {offer["num_gpus"] for offer in offers} == {1, 2, 4, 8}
    spanish = [o for o in offers if o["geolocation"] == "Spain, ES" and o["gpu_name"] == "RTX 3090"]
    assert len([o for o in spanish if 0.06 <= o["dph_base"] <= 0.08 and o["num_gpus"] == 1]) >= 2
    vietnamese = [o for o in offers if o["geolocation"] == "Vietnam, VN"]
    assert any(o["gpu_name"] == "RTX 5060 Ti" and o["dph_base"] == 0.0571 for o in vietnamese)


def test_only_verified_rentable_offers_without_asking(simulator: Simulator) -> None:
    assert all(offer["verification"] == "verified" for offer in everything(simulator))
    others = simulator.search(verified={"eq": False})
    assert others
    assert all(offer["verification"] == "unverified" for offer in others)


@pytest.mark.parametrize(
    ("column", "condition", "holds"),
    [
        ("num_gpus", {"eq": "1"}, lambda v: v == 1),
        ("num_gpus", {"neq": 1}, lambda v: v != 1),
        ("gpu_ram", {"gt": "40000"}, lambda v: v > 40000),
        ("gpu_ram", {"gte": 24564, "lte": 24576}, lambda v: 24564 <= v <= 24576),
        ("dph_total", {"lt": "0.3"}, lambda v: v < 0.3),
        ("dph_total", {"lte": 0.1}, lambda v: v <= 0.1),
        ("gpu_name", {"in": ["RTX 4090", "L4"]}, lambda v: v in ("RTX 4090", "L4")),
        ("gpu_name", {"notin": ["RTX 4090", "L4"]}, lambda v: v not in ("RTX 4090", "L4")),
        ("geolocation", {"in": ["US", "CN"]}, lambda v: v[-2:] in ("US", "CN")),
        ("static_ip", {"eq": "true"}, lambda v: v is True),
    ],
)
def test_operators(simulator: Simulator, column: str, condition: Json, holds: object) -> None:
    found = simulator.search(**{column: condition})
    assert found
    assert all(holds(offer[column]) for offer in found)  # type: ignore[operator]


def test_order_and_limit(simulator: Simulator) -> None:
    found = simulator.search(order=[["gpu_name", "desc"], ["dph_total", "asc"]], limit="20")
    keys = [(offer["gpu_name"], offer["dph_total"]) for offer in found]
    assert len(found) == 20
    cheapest_first = sorted(keys, key=lambda key: key[1])
    assert keys == sorted(cheapest_first, key=lambda key: key[0], reverse=True)


def test_storage_is_priced_by_the_month(simulator: Simulator) -> None:
    small, large = (
        simulator.search(num_gpus={"eq": 1}, order=[["id", "asc"]], allocated_storage=gb)[0]
        for gb in (10, 110)
    )
    assert small["id"] == large["id"]
    assert small["dph_total"] == pytest.approx(small["dph_base"] + 10 * small["storage_cost"] / 720)
    extra = large["dph_total"] - small["dph_total"]
    assert extra == pytest.approx(100 * small["storage_cost"] / 720)
    bid = simulator.search(ask_contract_id={"eq": small["id"]}, type="bid", allocated_storage=10)[0]
    assert bid["dph_total"] - bid["storage_total_cost"] == pytest.approx(bid["min_bid"])


def test_an_offer_is_found_by_its_ask_and_not_by_its_id(simulator: Simulator) -> None:
    number = simulator.search(limit=1)[0]["id"]
    assert simulator.search(id={"eq": number}) == []
    assert [o["id"] for o in simulator.search(ask_contract_id={"eq": str(number)})] == [number]


def test_three_ways_to_ask(simulator: Simulator) -> None:
    query = {"gpu_name": {"eq": "RTX 5080"}, "order": CHEAPEST}
    posted = simulator.search(**query)
    path = f"/api/v0/bundles/?q={requests.utils.quote(json.dumps(query))}"
    got = simulator.call("GET", f'{path}&select_cols=["id","dph_total"]').json()["offers"]
    put = simulator.call("PUT", "/api/v0/search/asks/", {"select_cols": ["*"], "q": query}).json()
    ids = [offer["id"] for offer in posted]
    assert ids == [offer["id"] for offer in got] == [offer["id"] for offer in put["offers"]]
    assert set(got[0]) == {"id", "dph_total"}


def test_a_search_needs_no_key_but_no_wrong_one_either(simulator: Simulator) -> None:
    assert simulator.call("POST", "/api/v0/bundles", {}, key="").json()["offers"]
    wrong = simulator.call("POST", "/api/v0/bundles/", {}, key="0" * 64)
    assert (wrong.status_code, wrong.json()["error"]) == (404, "auth_error")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"num_gpus": 1}, "must be dict of conditions"),
        ({"nonsense": {"eq": 1}}, "not a valid search key"),
        ({"num_gpus": {"like": 1}}, "unknown operator"),
        ({"num_gpus": {"gt": "many"}}, "not a number"),
    ],
)
def test_bad_queries(simulator: Simulator, query: Json, words: str) -> None:
    answer = simulator.call("POST", "/api/v0/bundles/", query)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert words in answer.json()["msg"]


def test_a_rented_part_hides_what_overlaps_and_comes_back(simulator: Simulator) -> None:
    whole = simulator.search(num_gpus={"eq": 4}, gpu_frac={"eq": 1}, limit=1)[0]

    def sizes() -> dict[int, int]:
        mine = simulator.search(machine_id={"eq": whole["machine_id"]})
        return {offer["num_gpus"]: offer["id"] for offer in mine}

    before = sizes()
    assert set(before) == {1, 2, 4}
    rented = simulator.rent(offer_id=before[1])
    during = sizes()
    assert set(during) == {1, 2}  # other parts of the machine, with other numbers
    assert not set(during.values()) & set(before.values())
    taken = simulator.search(
        machine_id={"eq": whole["machine_id"]}, rented={"eq": True}, rentable={"eq": False}
    )
    assert {offer["num_gpus"] for offer in taken} == {4}
    simulator.destroy(rented["id"])
    wait_for(lambda: sizes() == before, "the offers to come back")


def test_too_often_is_said_in_four_ways_and_never_when_to_return(unhurried: Simulator) -> None:
    seen: set[str] = set()

    def look() -> bool:
        answer = requests.post(f"{unhurried.vastai}/api/v0/bundles/", json={}, timeout=30)
        if answer.status_code == 429:
            assert "too frequent" in answer.text
            assert "Retry-After" not in answer.headers
            seen.add(answer.headers["Content-Type"].split(";")[0] + " " + answer.text[:9])
        return len(seen) == 4

    for _ in range(400):
        if look():
            return
    raise AssertionError(f"only {seen}")


def test_the_limits_of_one_key_do_not_touch_another(unhurried: Simulator) -> None:
    """The legacy list may be read each 20 s."""

    def status(key: str) -> int:
        url = f"{unhurried.vastai}/api/v0/instances/"
        headers = {"Authorization": f"Bearer {key}"}
        return requests.get(url, headers=headers, timeout=30).status_code

    assert status(OWNER) == 410
    assert {status(OWNER) for _ in range(3)} >= {429}
    assert status(OTHER) == 410
