"""Vast.ai's instances from create to destroy, the account, and the ledger behind them."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from .conftest import OTHER, OWNER, Json, Simulator, wait_for


def test_a_create_names_the_instance_and_its_key(simulator: Simulator) -> None:
    answer = simulator.create(nonsense={"is": "ignored"})
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    assert len(answer.json()["instance_api_key"]) == 64
    assert simulator.read(answer.json()["new_contract"])["label"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"image": None}, "image"),
        ({"image": "x" * 1025}, "image too long"),
        ({"label": "x" * 257}, "label_too_long"),
        ({"disk": 7}, "at least 8"),
        ({"runtype": "ssh", "use_ssh": True}, "cannot both be set"),
        ({"runtype": "telnet"}, "invalid runtype"),
        ({"price": 200}, "bid price"),
        ({"onstart": "x" * 4097}, "4096"),
        ({"env": {"x" * 257: "1"}}, "256"),
        ({"disk": 100_000}, "disk too large"),
    ],
)
def test_create_refuses(simulator: Simulator, body: Json, words: str) -> None:
    answer = simulator.create(**body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_args")
    assert words in answer.json()["msg"]


def test_an_offer_can_be_had_once(simulator: Simulator) -> None:
    number = simulator.search(limit=1)[0]["id"]
    simulator.rent(offer_id=number)
    again, never = simulator.create(number), simulator.create(99)
    assert (again.status_code, again.json()["error"]) == (410, "no_such_ask")
    assert again.json()["ask_id"] == number
    assert (never.status_code, never.json()["error"]) == (404, "no_such_ask")


def test_the_life_of_an_instance(simulator: Simulator) -> None:
    """null, created, loading, running; ports only then, the proxy from the start."""
    made = simulator.rent(runtype="ssh_direct", env={"A": "1", "-p 8000:8000": "1"}, onstart="ls")
    seen: list[object] = []

    def look() -> Json | None:
        found = simulator.read(made["id"])
        assert found["ssh_host"] == "127.0.0.1"
        assert found["ssh_port"] == first["ssh_port"]
        if found["actual_status"] not in seen:
            seen.append(found["actual_status"])
        if found["actual_status"] == "running":
            return found
        assert not found["ports"]
        return None

    first = simulator.read(made["id"])
    final = wait_for(look, "running")
    order = [None, "created", "loading", "running"]
    assert seen == [state for state in order if state in seen]
    assert final["public_ipaddr"] == "127.0.0.1 "
    assert int(final["ports"]["22/tcp"][0]["HostPort"]) == final["ssh_port"]
    assert final["image_runtype"] == "ssh ssh_direc ssh_proxy"
    assert final["extra_env"] == [["A", "1"], ["-p 8000:8000", "1"]]
    assert (final["onstart"], final["disk_space"]) == ("ls", 10)
    assert final["status_msg"].startswith("success, running")
    listed = simulator.listing()["instances"][0]
    assert set(final) == set(listed) - {"volume_info"}


def test_a_proxy_instance_has_no_direct_port(simulator: Simulator) -> None:
    found = simulator.running(simulator.rent(runtype="ssh_proxy")["id"])
    assert found["ports"] == {}
    assert found["image_runtype"] == "ssh ssh_proxy"


def test_the_list_comes_in_pages_of_25(simulator: Simulator) -> None:
    for at in range(27):
        simulator.tell("/instances", label="twin" if at < 2 else f"odd-{at}")
    first = simulator.listing(limit=100)
    assert (first["total_instances"], first["instances_found"]) == (27, 25)
    assert first["label_counts"]["twin"] == 2
    gone = first["instances"][-1]["id"]  # the row the token points at may vanish meanwhile
    simulator.destroy(gone)
    second = simulator.listing(after_token=first["next_token"])
    assert second["next_token"] is None
    ids = [row["id"] for row in first["instances"] + second["instances"]]
    assert len(set(ids)) == len(ids) == 27
    assert len(simulator.listing(limit=-1)["instances"]) == 5
    down = simulator.listing(order_by=json.dumps([{"col": "label", "dir": "desc"}]))
    labels = [row["label"] for row in down["instances"]]
    assert labels == sorted(labels, reverse=True)


def test_filters_of_the_list(simulator: Simulator) -> None:
    simulator.tell("/instances", label="a")
    simulator.tell("/instances", label="b")
    simulator.tell("/instances", label="")

    def filtered(**conditions: object) -> list[object]:
        rows = simulator.listing(select_filters=json.dumps(conditions))["instances"]
        return [row["label"] for row in rows]

    assert filtered(label={"eq": "a"}) == ["a"]
    assert filtered(label={"in": ["a", "b"]}) == ["a", "b"]
    assert filtered(label={"in": [None]}) == [None]
    assert filtered(actual_status={"eq": "running"}) == ["a", "b", None]
    few = simulator.listing(select_cols=json.dumps(["id", "label", "wrong"]))["instances"]
    assert set(few[0]) == {"id", "label", "wrong"}


@pytest.mark.parametrize(
    "query",
    [
        "select_filters={%22dph_total%22:{%22lt%22:1}}",
        "after_token=rubbish",
        "order_by=[{%22col%22:%22num_gpus%22}]",
        "select_filters=rubbish",
    ],
)
def test_bad_list_queries(simulator: Simulator, query: str) -> None:
    answer = simulator.call("GET", f"/api/v1/instances/?{query}")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_dead_endpoints(simulator: Simulator) -> None:
    old = simulator.call("GET", "/api/v0/instances/")
    assert (old.status_code, "deprecated" in old.text) == (410, True)
    assert simulator.call("GET", "/api/v1/instances/lite/").status_code == 404
    assert simulator.call("GET", "/api/v0/nothing/here").status_code == 404


def test_destroy_and_what_is_left(simulator: Simulator) -> None:
    made = simulator.rent()
    assert simulator.destroy(made["id"]).json() == {"success": True}
    again = simulator.destroy(made["id"])
    assert (again.status_code, again.json()["error"]) == (404, "no_such_instance")
    answer = simulator.call("GET", f"/api/v0/instances/{made['id']}/")
    assert (answer.status_code, answer.json()) == (200, {"instances": None})
    assert simulator.listing()["instances"] == []
    assert simulator.call("GET", "/api/v0/instances/x1/").status_code == 400
    assert simulator.call("DELETE", "/api/v0/instances/x1/", {}).status_code == 400


def test_bulk_destroy(simulator: Simulator) -> None:
    ids = [simulator.rent()["id"], simulator.rent()["id"]]

    def bulk(*numbers: int) -> int:
        body = {"instance_ids": list(numbers)}
        return simulator.call("DELETE", "/api/v0/instances/", body).status_code

    assert (bulk(), bulk(1), bulk(*ids, 1), bulk(*ids)) == (400, 404, 200, 404)


def test_stop_start_and_label(simulator: Simulator) -> None:
    """A stopped instance gives its GPU away; a start may have to wait, and then really starts."""
    made = simulator.rent()
    offer = int(simulator.truth(made["id"])["offer_id"])
    simulator.running(made["id"])
    path = f"/api/v0/instances/{made['id']}/"
    assert simulator.call("PUT", path, {"state": "sleeping"}).status_code == 400
    assert simulator.call("PUT", path, {"label": "new"}).json()["success"]
    assert simulator.call("PUT", path, {"state": "stopped"}).json()["success"]
    wait_for(lambda: simulator.read(made["id"])["actual_status"] == "stopped", "stopped")
    found = simulator.read(made["id"])
    assert {found[n] for n in ("cur_state", "intended_status", "next_state")} == {"stopped"}
    assert (found["label"], found["instance"]["gpuCostPerHour"]) == ("new", 0)
    rival = simulator.rent(offer_id=offer)
    refused = simulator.call("PUT", path, {"state": "running"})
    assert (refused.status_code, refused.json()["error"]) == (200, "resources_unavailable")
    simulator.destroy(rival["id"])
    simulator.running(made["id"])


def test_a_bid_may_be_too_low_and_can_be_raised(simulator: Simulator) -> None:
    offer = simulator.search(num_gpus={"eq": 1}, limit=1)[0]
    low = simulator.create(offer["id"], price=0.001).json()
    assert low["success"] is False
    found = simulator.read(low["new_contract"])
    assert (found["is_bid"], found["cur_state"], found["next_state"]) == (
        True,
        "stopped",
        "stopped",
    )
    simulator.destroy(low["new_contract"])
    high = simulator.rent(offer_id=offer["id"], price=offer["min_bid"])
    body = {"client_id": "me", "price": 0.9}
    path = f"/api/v0/instances/bid_price/{high['id']}/"
    assert simulator.call("PUT", path, body).json() == {"success": True}
    assert simulator.read(high["id"])["dph_base"] == 0.9


def test_keys_belong_to_accounts(simulator: Simulator) -> None:
    made = simulator.rent()
    wrong = simulator.call("GET", f"/api/v0/instances/{made['id']}/", key="f" * 64)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "auth_error")
    assert simulator.call("GET", "/api/v1/instances/", key="").status_code == 403
    theirs = simulator.call("GET", f"/api/v0/instances/{made['id']}/", key=OTHER)
    assert theirs.json() == {"instances": None}
    assert (
        simulator.call("DELETE", f"/api/v0/instances/{made['id']}/", key=OTHER).status_code == 404
    )
    ids = [
        simulator.call("GET", "/api/v0/users/current/", key=k).json()["id"] for k in (OWNER, OTHER)
    ]
    assert ids == [4711, 4712]


def test_an_instance_can_destroy_itself_and_nothing_else(simulator: Simulator) -> None:
    made, other = simulator.create().json(), simulator.rent()
    key = made["instance_api_key"]
    path = f"/api/v0/instances/{other['id']}/"
    assert simulator.call("DELETE", path, key=key).status_code == 401
    own = simulator.call("DELETE", f"/api/v0/instances/{made['new_contract']}/", key=key)
    assert own.json() == {"success": True}


def test_the_bill(simulator: Simulator) -> None:
    """The GPU counts only while it runs, the disk always, the credit falls accordingly."""
    made = simulator.rent(disk=50)
    found = simulator.running(made["id"])
    wait_for(lambda: simulator.bill(made["id"])["gpu_seconds"] > 1, "a billed second")
    rate = simulator.call("GET", "/api/v0/users/spend-rate/").json()
    assert rate["gpu_cost_per_hour"] == pytest.approx(found["dph_base"])
    assert rate["container_storage_cost_per_hour"] == pytest.approx(found["storage_total_cost"])
    before = simulator.call("GET", "/api/v0/users/current/").json()["credit"]
    simulator.destroy(made["id"])
    bill = simulator.bill(made["id"])
    gpu, disk = bill["gpu_seconds"] * found["dph_base"], bill["billed_seconds"] * bill["disk_rate"]
    assert bill["billed_usd"] == pytest.approx((gpu + disk) / 3600)
    life = datetime.fromisoformat(bill["gone_at"]) - datetime.fromisoformat(bill["created_at"])
    assert bill["billed_seconds"] == pytest.approx(life.total_seconds(), abs=1e-4)
    assert bill["gpu_seconds"] < bill["billed_seconds"]
    assert simulator.call("GET", "/api/v0/users/current/").json()["credit"] <= before
    assert simulator.bill(made["id"]) == bill  # nothing is billed after the end


def test_an_empty_account_stops_its_instances_and_buys_nothing(simulator: Simulator) -> None:
    made = simulator.rent()
    simulator.running(made["id"])
    simulator.tell("/accounts", account="4711", credit=0)
    try:
        wait_for(lambda: simulator.read(made["id"])["actual_status"] == "stopped", "stopped")
        refused = simulator.create()
        assert (refused.status_code, refused.json()["error"]) == (400, "insufficient_credit")
    finally:
        simulator.tell("/accounts", account="4711", credit=500)


def test_a_hundred_hands_on_one_offer_get_one_instance(simulator: Simulator) -> None:
    number = simulator.search(limit=1)[0]["id"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: simulator.create(number).status_code, range(16)))
    assert sorted(answers) == [200] + [410] * 15


def test_ssh_keys_of_the_account(simulator: Simulator) -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC0nuqnc+P8grcKfO+gQcobpLEIS9OjUK/dXiuZJpV4c me"
    none = simulator.call("GET", "/api/v0/ssh/")
    assert (none.status_code, "No SSH keys found" in none.text) == (404, True)
    assert simulator.call("POST", "/api/v0/ssh/", {"ssh_key": "rubbish"}).status_code == 400
    made = simulator.call("POST", "/api/v0/ssh/", {"ssh_key": line}).json()["key"]
    listed = simulator.call("GET", "/api/v0/ssh/").json()
    assert [(key["id"], key["public_key"]) for key in listed] == [(made["id"], line)]
    assert simulator.truth(simulator.rent()["id"])["keys"] == [line]
    path = f"/api/v0/ssh/{made['id']}/"
    assert [simulator.call("DELETE", path).status_code for _ in range(2)] == [200, 400]


def test_the_wire_log_names_the_account_and_never_the_key(simulator: Simulator) -> None:
    since = simulator.ask("/wire")["last"]
    made = simulator.rent()
    simulator.destroy(made["id"])
    seen = simulator.ask(f"/wire?since={since}")["requests"]
    numbers = [request["n"] for request in seen]
    assert numbers == list(range(since + 1, since + 1 + len(seen)))
    effects = [r for r in seen if r["effect"]]
    assert [(r["operation"], r["status"], r["label"]) for r in effects] == [
        ("create", 200, made["label"]),
        ("destroy", 200, made["label"]),
    ]
    assert all(r["instance_id"] == str(made["id"]) and r["account"] == "4711" for r in effects)
    assert effects[0]["offer_id"]
    assert datetime.fromisoformat(seen[0]["at"]) <= datetime.fromisoformat(seen[0]["done_at"])
    assert OWNER not in json.dumps(seen)


def test_what_others_made_is_marked(simulator: Simulator) -> None:
    label = "<b>\u200b\n\x00\udcff gb1-"
    number = simulator.tell("/instances", label=label, account="4711")["instance_id"]
    assert simulator.bill(int(number))["foreign"] is True
    assert simulator.read(int(number))["label"] == label
    assert simulator.read(int(number))["actual_status"] == "running"
