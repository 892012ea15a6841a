"""The TensorDock dialect on the wire."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TypeVar

import pytest
import requests

from providers.simulator.rates import Rates

from .conftest import OTHER, OWNER, Json, Simulator, wait_for
from .dock import KEY, Dock, bill, id_in, refusals

T, R = TypeVar("T"), TypeVar("R")


@pytest.fixture
def dock(simulator: Simulator) -> Dock:
    return Dock(simulator)


def at_once(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, items))


# who may call


def test_a_token_is_needed_except_for_the_places(dock: Dock) -> None:
    for path in ("/instances", "/hostnodes", "/secrets"):
        bodies = {dock.call("GET", path, token="wrong").text for _ in range(4)}
        assert bodies == {"Unauthorized", '{"error": "Unauthorized"}'}
        assert dock.call("GET", path, token="").status_code == 401
    assert dock.call("GET", "/locations", token="").status_code == 200
    assert dock.call("GET", "/locations", token="wrong").status_code == 401
    query = f"/locations?api_key=id&api_token={OWNER}"
    assert dock.call("GET", query, token="").status_code == 200


def test_paths_end_without_a_slash(dock: Dock) -> None:
    assert dock.call("GET", "/instances/").status_code == 404


def test_one_organisation_does_not_see_the_other(dock: Dock) -> None:
    number = dock.rent()
    assert dock.call("GET", f"/instances/{number}", token=OTHER).status_code == 404
    assert dock.call("DELETE", f"/instances/{number}", token=OTHER).status_code == 404
    assert id_in(dock.read(number)) == number


def test_a_hundred_calls_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("providers.simulator.rates.time", SimpleNamespace(monotonic=lambda: now))
    rates = Rates(clock=1)
    assert not any(rates.too_many("org", 100, 60) for _ in range(100))
    assert rates.too_many("org", 100, 60) and not rates.too_many("other", 100, 60)
    quick = Rates(clock=100)
    assert [quick.too_many("org", 1, 1) for _ in range(2)] == [False, True]
    now = 0.01
    assert not quick.too_many("org", 1, 1)


# the stock


def test_places_and_nodes_tell_the_same_at_first(dock: Dock) -> None:
    places = {place["id"]: place for place in dock.places()}
    seen = set()
    for node in dock.nodes():
        gpu = node["available_resources"]["gpus"][0]
        listed = {item["v0Name"]: item for item in places[node["location_id"]]["gpus"]}
        assert listed[gpu["v0Name"]]["price_per_hr"] == gpu["price_per_hr"]
        assert listed[gpu["v0Name"]]["pricing"] == node["pricing"]
        seen.add((node["location_id"], gpu["v0Name"]))
    assert seen == {(p["id"], gpu["v0Name"]) for p in places.values() for gpu in p["gpus"]}
    one = dock.nodes()[0]
    assert dock.call("GET", f"/hostnodes/{one['id']}").json()["data"]["pricing"] == one["pricing"]


def test_most_of_what_is_listed_is_not_there(dock: Dock) -> None:
    forward = [{"internal_port": 22, "external_port": 20_000}]

    def word(node: Json) -> str:
        gpu = node["available_resources"]["gpus"][0]["v0Name"]
        answer = dock.create(
            hostnode_id=node["id"], resources={"gpus": {gpu: {"count": 1}}},
            useDedicatedIp=None, port_forwards=forward,
        )  # fmt: skip
        return answer.json().get("error", "") if answer.status_code < 300 else answer.text

    dock.turn(true_stock=False)
    try:
        words = at_once(word, dock.nodes()[:40])
    finally:
        dock.turn(true_stock=True)
    missing = words.count("Hostnode unavailable")
    assert 15 <= missing <= 35 and words.count("") == 40 - missing


def test_a_place_with_nothing_left_says_so_in_a_200(dock: Dock) -> None:
    place = dock.places()[0]
    gpu = place["gpus"][0]
    wanted = {"gpus": {gpu["v0Name"]: {"count": gpu["max_count"] + 50}}}
    answer = dock.create(location_id=place["id"], resources=wanted)
    assert answer.status_code == 200
    assert answer.json() == {"status": 400, "error": "No available nodes found"}


def test_an_address_of_its_own_is_not_everywhere(dock: Dock) -> None:
    node = dock.free_node(public_ip=False)
    gpu = node["available_resources"]["gpus"][0]["v0Name"]
    wanted = {"hostnode_id": node["id"], "resources": {"gpus": {gpu: {"count": 1}}}}
    answer = dock.create(**wanted)
    assert list(refusals(answer)) == ["No available public IPs on hostnode"]
    forward = [{"internal_port": 22, "external_port": 20_000}]
    assert dock.rent(**wanted, useDedicatedIp=None, port_forwards=forward)


# create


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"type": "vm"}, "literal"),
        ({"name": None}, "Required"),
        ({"image": "nvidia/cuda"}, "enum"),
        ({"location_id": "x", "hostnode_id": "y"}, "Exactly one"),
        ({"location_id": None}, "Exactly one"),
        ({"resources": {"storage_gb": 99}}, "100"),
        ({"resources": {"vcpu_count": 3}}, "multiple of 2"),
        ({"resources": {"ram_gb": "16"}}, "Expected number"),
        ({"resources": {"gpus": [{"model": "x"}]}}, "Expected object"),
        ({"resources": {"gpus": {"x": {"count": 0}}}}, "at least 1"),
        ({"resources": {"gpus": {"x": {"count": 1}, "y": {"count": 1}}}}, "one GPU model"),
        ({"useDedicatedIp": None}, "SSH port (22) must be forwarded"),
        ({"ssh_key": None}, "ssh_key"),
        ({"ssh_key_id": "sec-1"}, "ssh_key"),
        ({"ssh_key": None, "ssh_key_id": "sec-0"}, "not found"),
        ({"cloud_init": {"runcmd": [["echo"]]}}, "array of strings"),
        ({"cloud_init": "#cloud-config"}, "Expected object"),
        ({"port_forwards": [{"internal_port": 22, "external_port": 0}]}, "65535"),
    ],
)
def test_what_makes_no_sense_is_refused(dock: Dock, changes: Json, word: str) -> None:
    answer = dock.create(**changes)
    assert word in " ".join(refusals(answer))
    assert not [item for item in dock.listing() if item["name"].startswith("test-")]


def test_answers_to_a_create_come_in_many_shapes(dock: Dock) -> None:
    answers = at_once(lambda _: dock.create(), range(8))
    shapes = set()
    for answer in answers:
        body = answer.json()
        data = body.get("data", body)
        facts = data.get("attributes", data)
        assert id_in(body) and facts["name"] and "ipAddress" not in answer.text
        shapes.add((answer.status_code, "data" in body, "attributes" in data))
        assert facts["status"] in ("running", "creating", "queued", "starting")
    assert shapes == {
        (200, True, False),
        (200, False, False),
        (200, True, True),
        (201, True, False),
    }


def test_unknown_parts_of_cloud_init_are_ignored_or_refused(dock: Dock) -> None:
    file = {"path": "/etc/x", "content": "aGk=", "encoding": "b64"}
    wanted = {"users": [], "write_files": [file]}
    assert dock.rent(cloud_init=wanted)
    dock.turn(foreign_cloud_init="rejected")
    try:
        (problem,) = refusals(dock.create(cloud_init=wanted))
    finally:
        dock.turn(foreign_cloud_init="ignored")
    assert "Unrecognized key(s) in object: ['encoding', 'users']" in problem


def test_names_may_repeat_and_a_lost_answer_leaves_a_machine(dock: Dock) -> None:
    dock.fault("create", "lost_504", label="twice")
    assert dock.create(name="twice").status_code == 504
    again = dock.rent(name="twice")
    both = [row["id"] for row in dock.listing() if row["name"] == "twice"]
    assert len(both) == 2 and again in both


def test_a_lower_balance_than_a_dollar_is_refused(dock: Dock) -> None:
    account = {"account": "4711", "provider": "tensordock"}
    dock.simulator.tell("/accounts", **account, credit=0.5)
    try:
        assert list(refusals(dock.create())) == ["Insufficient balance: need at least $1.00"]
    finally:
        dock.simulator.tell("/accounts", **account, credit=500)


# list and read


def test_a_listing_has_three_shapes_and_a_read_two(dock: Dock) -> None:
    number = dock.rent()
    shapes = []
    for name in ("array", "instances", "attributes"):
        assert dock.turn(list_shape=name)["list_shape"] == name
        shapes.append(dock.call("GET", "/instances").json()["data"])
        assert [row["id"] for row in dock.listing()] == [number]
    dock.turn(list_shape="rotate")
    assert isinstance(shapes[0], list) and shapes[0][0]["price_per_hour"] > 0
    assert list(shapes[1]) == ["instances"] and shapes[2]["type"] == "list"
    dock.turn(read_shape="wrapped")
    assert dock.call("GET", f"/instances/{number}").json()["data"]["id"] == number
    dock.turn(read_shape="bare")
    assert dock.call("GET", f"/instances/{number}").json()["id"] == number
    dock.turn(read_shape="rotate")


def test_an_address_comes_later_and_the_outer_port_is_another(dock: Dock) -> None:
    forward = [{"internal_port": 22, "external_port": 20_000}]
    dock.fault("create", "address_late")
    number = dock.rent(useDedicatedIp=None, port_forwards=forward)
    running = dock.reaches(number, "running")
    assert (running["ipAddress"], running["portForwards"]) == ("", [])
    dock.fault("instance", "address_late", instance_id=number, seconds=1)
    found = wait_for(lambda: dock.read(number)["portForwards"], "ports")
    assert dock.read(number)["ipAddress"] == "127.0.0.1"
    assert found == [{"internal_port": 22, "external_port": dock.truth(number)["ssh_port"]}]


def test_forwards_can_be_dropped_without_a_word(dock: Dock) -> None:
    dock.fault("create", "forwards_dropped")
    forward = [{"internal_port": 22, "external_port": 20_000}]
    number = dock.rent(useDedicatedIp=None, port_forwards=forward)
    wait_for(lambda: dock.read(number)["ipAddress"], "address")
    assert dock.read(number)["portForwards"] == [] and dock.truth(number)["ssh"] == "closed"


# money


def test_the_rate_is_the_sum_of_its_parts(dock: Dock) -> None:
    node = dock.free_node()
    gpu = node["available_resources"]["gpus"][0]
    wanted = {"gpus": {gpu["v0Name"]: {"count": 1}}}
    number = dock.rent(hostnode_id=node["id"], resources=wanted)
    prices = node["pricing"]
    total = gpu["price_per_hr"] + 4 * prices["per_vcpu_hr"] + 16 * prices["per_gb_ram_hr"]
    total += 100 * prices["per_gb_storage_hr"]
    assert dock.read(number)["rateHourly"] == pytest.approx(total, abs=1e-6)


def test_stopped_costs_as_before_and_taken_away_only_storage(dock: Dock) -> None:
    number = dock.rent()
    full = dock.reaches(number, "running")["rateHourly"]
    assert dock.call("POST", f"/instances/{number}/start").status_code == 409
    assert dock.call("POST", f"/instances/{number}/stop").json()["data"]["attributes"]
    assert dock.reaches(number, "stopped")["rateHourly"] == full
    before = bill(dock, number)
    time.sleep(0.3)
    after = bill(dock, number)
    assert after["gpu_seconds"] - before["gpu_seconds"] >= 0.3
    dock.fault("instance", "reclaimed", instance_id=number)
    assert (
        dock.reaches(number, "stoppeddisassociated")["rateHourly"]
        == bill(dock, number)["disk_rate"]
    )
    still = bill(dock, number)["gpu_seconds"]
    time.sleep(0.2)
    assert bill(dock, number)["gpu_seconds"] == still
    answer = dock.call("POST", f"/instances/{number}/start")
    assert answer.status_code == 200 and "not available" in answer.json()["error"]


def test_delete_ends_the_bill_and_a_second_one_finds_nothing(dock: Dock) -> None:
    bodies = []
    for _ in range(3):
        number = dock.rent()
        answer = dock.call("DELETE", f"/instances/{number}")
        bodies.append(answer.text)
        assert answer.status_code in (200, 204)
        assert dock.call("GET", f"/instances/{number}").status_code == 404
        assert dock.call("DELETE", f"/instances/{number}").status_code == 404
        assert bill(dock, number)["gone_at"]
    assert len(set(bodies)) > 1 and dock.listing() == []


def test_modify_wants_a_stopped_machine_and_only_grows_its_disk(dock: Dock) -> None:
    number = dock.rent()
    dock.reaches(number, "running")
    larger = {"cpuCores": 8, "ramGb": 32, "diskGb": 300}
    assert "stopped" in dock.call("PUT", f"/instances/{number}/modify", larger).json()["error"]
    dock.call("POST", f"/instances/{number}/stop")
    rate = dock.reaches(number, "stopped")["rateHourly"]
    for wrong in ({"cpuCores": 5}, {"ramGb": 33}, {"diskGb": 50}):
        assert dock.call("PUT", f"/instances/{number}/modify", wrong).status_code == 400
    assert dock.call("PUT", f"/instances/{number}/modify", larger).status_code == 200
    found = dock.read(number)
    assert found["resources"]["vcpu_count"] == 8 and found["rateHourly"] > rate
    assert dock.call("POST", f"/instances/{number}/start").status_code == 200
    dock.reaches(number, "running")


def test_without_money_everything_is_taken_away(dock: Dock) -> None:
    number = dock.rent()
    account = {"account": "4711", "provider": "tensordock"}
    dock.simulator.tell("/accounts", **account, credit=0)
    try:
        dock.reaches(number, "stoppeddisassociated")
    finally:
        dock.simulator.tell("/accounts", **account, credit=500)


def test_only_the_old_api_tells_the_balance(dock: Dock) -> None:
    dock.rent()
    url = f"{dock.simulator.tensordock}/api/v0/billing/balance"
    found = requests.post(url, data={"api_key": "id", "api_token": OWNER}, timeout=30).json()
    assert found["success"] and 400 < found["balance"] < 501 and found["hourly_cost"] > 0
    wrong = requests.post(url, data={"api_key": "id", "api_token": "wrong"}, timeout=30).json()
    assert not wrong["success"]


def test_secrets_hold_keys(dock: Dock) -> None:
    attributes = {"name": "mine", "type": "SSHKEY", "value": KEY}
    body = {"data": {"type": "secret", "attributes": attributes}}
    number = dock.call("POST", "/secrets", body).json()["data"]["id"]
    assert dock.call("GET", f"/secrets/{number}").json()["data"]["value"] == KEY
    listed = dock.call("GET", "/secrets").json()["data"]["secrets"]
    assert {"type": "SSHKEY", "id": number, "name": "mine"} in listed
    assert dock.call("PATCH", f"/secrets/{number}").status_code == 405
    assert dock.rent(ssh_key=None, ssh_key_id=number)
    assert dock.call("DELETE", f"/secrets/{number}").status_code == 200
    assert dock.call("GET", f"/secrets/{number}").status_code == 404
