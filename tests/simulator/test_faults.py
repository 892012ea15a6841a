"""Faults on order: what the client sees, and what really happened."""

import time
from collections.abc import Callable

import pytest
import requests

from .conftest import OTHER, OWNER, Json, Simulator, wait_for

CREATES = [  # fault, status (0 = no answer), whether an instance exists afterwards
    ("http_500", 500, False),
    ("http_502", 502, False),
    ("http_503", 503, False),
    ("http_504", 504, False),
    ("drop", 0, False),
    ("hang", 0, False),
    ("not_json", 200, False),
    ("empty_body", 200, False),
    ("redirect", 307, False),
    ("auth_401", 401, False),
    ("auth_403", 403, False),
    ("auth_404", 404, False),
    ("no_such_ask_400", 400, False),
    ("no_such_ask_404", 404, False),
    ("no_such_ask_410", 410, False),
    ("missing_billing", 400, False),
    ("insufficient_credit", 400, False),
    ("spend_rate_limit", 400, False),
    ("refused", 200, False),
    ("lost_500", 500, True),
    ("lost_502", 502, True),
    ("lost_504", 504, True),
    ("lost_drop", 0, True),
    ("lost_hang", 0, True),
    ("lost_not_json", 200, True),
    ("cut_body", 0, True),
    ("trickle", 0, True),
    ("orphan", 200, True),
]


HANG = 0.5  # seconds for an answer that never comes whole


def attempt(simulator: Simulator, send: Callable[[], requests.Response]) -> Json:
    """{"status", "text"} of a call, status 0 when no whole answer came."""
    try:
        answer = send()
    except requests.RequestException:
        return {"status": 0, "text": ""}
    return {"status": answer.status_code, "text": answer.text}


def put(simulator: Simulator, path: str, body: Json, *, patience: float = 30) -> requests.Response:
    """Once, without redirects."""
    return requests.put(
        simulator.vastai + path, json=body, headers={"Authorization": f"Bearer {OWNER}"},
        timeout=(30, patience), allow_redirects=False,
    )  # fmt: skip


@pytest.mark.parametrize(("fault", "status", "exists"), CREATES)
def test_creates(simulator: Simulator, fault: str, status: int, exists: bool) -> None:
    number = simulator.search(limit=1)[0]["id"]
    label = simulator.label()
    simulator.fault("create", fault, offer_id=str(number))
    body = {"image": "example/image:1", "disk": 10, "label": label}
    time.sleep(4.5 / 50)  # the endpoint's interval
    patience = 30 if status else HANG
    path = f"/api/v0/asks/{number}/"
    seen = attempt(simulator, lambda: put(simulator, path, body, patience=patience))
    assert seen["status"] == status
    found = [i for i in simulator.ask("/ledger")["instances"] if i["label"] == label]
    assert len(found) == exists
    entry = simulator.ask("/wire")["requests"][-1]
    assert (entry["fault"], entry["effect"], entry["label"]) == (fault, exists, label)
    listed = [row for row in simulator.listing()["instances"] if row["label"] == label]
    assert len(listed) == exists


def test_no_such_ask_hides_in_a_400(simulator: Simulator) -> None:
    simulator.fault("create", "no_such_ask_400")
    answer = simulator.create()
    assert answer.json()["error"] == "invalid_args"
    assert "error 404/3603: no_such_ask" in answer.json()["msg"]


def test_an_orphan_exists_stopped_and_costs_its_disk(simulator: Simulator) -> None:
    simulator.fault("create", "orphan")
    body = simulator.create().json()
    assert body["success"] is False
    found = simulator.read(body["new_contract"])
    assert found["cur_state"] == found["intended_status"] == "stopped"
    bill = wait_for(lambda: _billed(simulator, body["new_contract"]), "a bill")
    assert (bill["gpu_seconds"], bill["billed_usd"] > 0) == (0, True)


def _billed(simulator: Simulator, number: int) -> Json | None:
    bill = simulator.bill(number)
    return bill if bill["billed_seconds"] > 0 else None


def test_a_late_effect_comes_after_the_client_left(simulator: Simulator) -> None:
    number = simulator.search(limit=1)[0]["id"]
    simulator.fault("create", "late", seconds=50)
    body = {"image": "x", "label": simulator.label(), "disk": 10}
    time.sleep(4.5 / 50)
    path = f"/api/v0/asks/{number}/"
    assert attempt(simulator, lambda: put(simulator, path, body, patience=0.5))["status"] == 0

    def look() -> bool:
        return body["label"] in [i["label"] for i in simulator.ask("/ledger")["instances"]]

    assert not look()
    wait_for(look, "the late instance")


def test_a_retried_create_may_rent_a_second_part(simulator: Simulator) -> None:
    offer = simulator.search(num_gpus={"eq": 1}, gpu_frac={"lte": 0.5}, limit=1)[0]
    first = simulator.rent(offer_id=offer["id"])
    simulator.fault("create", "second_slice")
    second = simulator.rent(offer_id=offer["id"])
    machines = {simulator.bill(made["id"])["machine_id"] for made in (first, second)}
    assert machines == {str(offer["machine_id"])}


def test_a_new_instance_is_not_seen_at_once(simulator: Simulator) -> None:
    simulator.fault("create", "list_lag", seconds=100)
    made = simulator.rent()
    assert simulator.read(made["id"]) is None
    assert simulator.listing()["total_instances"] == 0
    assert simulator.truth(made["id"])["visible"] is False
    wait_for(lambda: simulator.read(made["id"]), "it to be seen")


def test_a_hidden_instance_can_be_destroyed(simulator: Simulator) -> None:
    simulator.fault("create", "list_lag")
    made = simulator.rent()
    assert simulator.destroy(made["id"]).json() == {"success": True}


@pytest.mark.parametrize(
    ("fault", "state", "words"),
    [
        ("exits_at_once", "exited", "exited"),
        ("runtime_failed", "created", "OCI runtime create failed"),
        ("image_missing", "loading", "manifest unknown"),
    ],
)
def test_boots_that_fail(simulator: Simulator, fault: str, state: str, words: str) -> None:
    simulator.fault("create", fault)
    made = simulator.rent()
    found = wait_for(lambda: _in_state(simulator, made["id"], state), state)
    assert words in found["status_msg"]
    assert simulator.truth(made["id"])["ssh"] == "closed"


def _in_state(simulator: Simulator, number: int, state: str) -> Json | None:
    found = simulator.read(number)
    return found if found and found["actual_status"] == state else None


def test_a_boot_that_never_ends(simulator: Simulator) -> None:
    simulator.fault("create", "boot_never_ends")
    made, other = simulator.rent(), simulator.rent()
    simulator.running(other["id"])
    wait_for(lambda: _in_state(simulator, made["id"], "loading"), "loading")
    assert simulator.bill(made["id"])["gpu_seconds"] == 0


def test_an_instance_may_go_away_and_come_back(simulator: Simulator) -> None:
    number = int(simulator.tell("/instances", label="x")["instance_id"])
    simulator.fault("instance", "offline", instance_id=str(number), seconds=100)
    wait_for(lambda: _in_state(simulator, number, "offline"), "offline")
    simulator.running(number)
    simulator.fault("instance", "outbid", instance_id=str(number), seconds=50)
    found = wait_for(lambda: _in_state(simulator, number, "stopped"), "outbid")
    assert {found[n] for n in ("cur_state", "intended_status", "next_state")} == {"stopped"}
    simulator.running(number)
    price = simulator.read(number)["dph_base"]
    simulator.fault("instance", "price_raised", instance_id=str(number))
    assert simulator.read(number)["dph_base"] == pytest.approx(price * 1.5)
    simulator.fault("instance", "vanish", label="x")
    wait_for(lambda: simulator.read(number) is None, "the end")
    assert simulator.bill(number)["gone_at"]


def test_lists_that_lie(simulator: Simulator) -> None:
    for at in range(27):
        simulator.tell("/instances", label=f"n{at}")

    def spoiled(fault: str, **query: object) -> Json:
        simulator.fault("list", fault)
        return simulator.listing(**query)

    token = simulator.listing()["next_token"]
    empty = spoiled("empty_list")
    assert (empty["total_instances"], empty["instances"]) == (0, [])
    assert spoiled("total_shifts")["total_instances"] == 28
    assert len({row["id"] for row in spoiled("duplicate_rows")["instances"]}) == 25
    assert len(spoiled("lost_row")["instances"]) == 24
    loop = spoiled("token_loop", after_token=token)["next_token"]
    assert simulator.listing(after_token=loop)["next_token"] == token
    assert spoiled("strange_ids")["instances"][0]["id"] == "../x"
    assert "NaN" in simulator.call("GET", "/api/v1/instances/").text or spoiled("odd_rows")
    assert spoiled("other_account")["total_instances"] == 0
    assert simulator.listing()["total_instances"] == 27


def test_a_page_in_the_middle_fails(simulator: Simulator) -> None:
    for at in range(26):
        simulator.tell("/instances", label=f"n{at}")
    simulator.fault("list", "missing_page")
    first = simulator.listing()  # the first page is not the one
    path = f"/api/v1/instances/?after_token={first['next_token']}"
    assert simulator.call("GET", path).status_code == 500
    assert simulator.call("GET", path).status_code == 200


def test_offers_that_no_one_should_believe(simulator: Simulator) -> None:
    simulator.fault("search", "odd_rows")
    text = simulator.call("POST", "/api/v0/bundles/", {}).text
    assert '"dph_total": NaN' in text
    assert '"news"' in text
    simulator.fault("search", "huge_body")
    assert len(simulator.call("POST", "/api/v0/bundles/", {}).content) > 8_000_000


def test_a_destroy_that_does_nothing(simulator: Simulator) -> None:
    made = simulator.rent()
    simulator.fault("destroy", "destroy_ignored")
    assert simulator.destroy(made["id"]).json() == {"success": True}
    assert simulator.read(made["id"])["id"] == made["id"]
    assert simulator.destroy(made["id"]).json() == {"success": True}
    assert simulator.bill(made["id"])["gone_at"]


def test_an_instance_that_cannot_die_for_a_while(simulator: Simulator) -> None:
    made = simulator.rent()
    simulator.fault("instance", "immortal", label=made["label"], seconds=50)
    assert simulator.destroy(made["id"]).json() == {"success": True}
    assert simulator.bill(made["id"])["gone_at"] is None
    wait_for(lambda: simulator.destroy(made["id"]).status_code == 404, "its end")


def test_destroys_that_fail_for_a_while(simulator: Simulator) -> None:
    made = simulator.rent()
    simulator.fault("destroy", "http_503", seconds=25)
    assert simulator.destroy(made["id"]).status_code == 503
    wait_for(lambda: simulator.destroy(made["id"]).status_code == 200, "a destroy")


def test_a_destroy_whose_answer_is_lost(simulator: Simulator) -> None:
    made = simulator.rent()
    simulator.fault("destroy", "lost_drop", label=made["label"])
    seen = attempt(simulator, lambda: simulator.destroy(made["id"]))
    assert seen["status"] == 0
    assert simulator.bill(made["id"])["gone_at"]
    assert simulator.destroy(made["id"]).status_code == 404


def test_a_destroyed_instance_may_be_listed_for_a_while(simulator: Simulator) -> None:
    made = simulator.rent()
    simulator.fault("destroy", "still_listed", seconds=50)
    simulator.destroy(made["id"])
    assert simulator.read(made["id"])["id"] == made["id"]
    assert simulator.destroy(made["id"]).status_code == 404
    wait_for(lambda: simulator.listing()["total_instances"] == 0, "it to leave the list")


def test_which_calls_a_fault_strikes(simulator: Simulator) -> None:
    """The nth call on, so many times, with a rate, by label, on any operation, until lifted."""

    def statuses(count: int, key: str = OWNER) -> list[int]:
        path = "/api/v0/users/current/"
        return [simulator.call("GET", path, key=key).status_code for _ in range(count)]

    simulator.fault("account", "http_500", nth=2, times=2)
    assert statuses(5) == [200, 500, 500, 200, 200]
    number = simulator.fault("*", "http_503", times=0)
    assert statuses(2) + statuses(1, OTHER) == [503] * 3
    requests.delete(f"{simulator.control}/faults/{number}", timeout=30)
    assert statuses(1) == [200]
    runs = []
    for _ in range(2):
        number = simulator.fault("account", "http_500", rate=0.5, seed=7)
        runs.append(statuses(8))
        requests.delete(f"{simulator.control}/faults/{number}", timeout=30)
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}
    simulator.fault("create", "no_such_ask_404", label="gb1-x*")
    assert simulator.create(label="other").status_code == 200
    assert simulator.create(label="gb1-x-1").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "create", "fault": "bad_weather"},
        {"fault": "http_500"},
        {"operation": "ssh", "fault": "http_500"},
        {"operation": "create", "fault": "http_500", "nth": "first"},
        {"operation": "create", "fault": "http_500", "colour": "red"},
    ],
)
def test_faults_that_make_no_sense(simulator: Simulator, body: Json) -> None:
    answer = requests.post(f"{simulator.control}/faults", json=body, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_catalogue_explains_every_fault(simulator: Simulator) -> None:
    catalogue = simulator.ask("/faults")["catalogue"]
    assert len(catalogue) > 50
    assert all(isinstance(text, str) and text for text in catalogue.values())
