"""What goes wrong at TensorDock when a test asks for it."""

import pytest
import requests

from .conftest import Simulator, wait_for
from .dock import INSTALL, Dock, bill, refusals


@pytest.fixture
def dock(simulator: Simulator) -> Dock:
    return Dock(simulator)


@pytest.mark.parametrize(
    "fault, status, word",
    [
        ("no_nodes", 200, "No available nodes found"),
        ("no_nodes_400", 400, "No available nodes found"),
        ("hostnode_unavailable", 200, "Hostnode unavailable"),
        ("no_public_ip", 200, "No available public IPs on hostnode"),
        ("unexpected", 200, "unexpected error during deployment"),
        ("low_balance", 200, "need at least $1.00"),
        ("more_balance", 402, "need at least $13.50"),
        ("validation", 400, "greater than or equal to 100"),
    ],
)
def test_refusals_of_a_create_can_be_asked_for(
    dock: Dock, fault: str, status: int, word: str
) -> None:
    body = dock.body(name="wanted")
    attributes = body["data"]["attributes"]
    dock.fault("create", fault, offer_id=f"{attributes['hostnode_id']}/*")
    answer = dock.call("POST", "/instances", body)
    assert answer.status_code == status and word in " ".join(refusals(answer))
    assert "wanted" not in [row["name"] for row in dock.listing()]


def test_a_listing_can_fail_in_a_200_or_be_empty_wrongly(dock: Dock) -> None:
    dock.rent()
    dock.fault("list", "list_error")
    assert dock.call("GET", "/instances").json()["error"]
    dock.fault("list", "empty_list")
    assert dock.listing() == [] and len(dock.listing()) == 1


def test_too_often_has_no_body(dock: Dock) -> None:
    dock.fault("list", "rate_limited")
    answer = dock.call("GET", "/instances")
    assert (answer.status_code, answer.content) == (429, b"")


@pytest.mark.parametrize("fault, status", [("exits_at_once", "stopped"), ("fails", "error")])
def test_machines_can_end_early(dock: Dock, fault: str, status: str) -> None:
    dock.fault("create", fault)
    number = dock.rent(cloud_init={"runcmd": INSTALL})
    wait_for(lambda: dock.status(number) in (status, "failed"), status)


def test_a_deleted_machine_can_live_on_or_linger(dock: Dock) -> None:
    number = dock.rent()
    dock.fault("destroy", "destroy_ignored")
    assert dock.call("DELETE", f"/instances/{number}").status_code < 300
    assert dock.status(number) != "deleting" and bill(dock, number)["gone_at"] is None
    dock.fault("destroy", "still_listed", seconds=300)
    dock.call("DELETE", f"/instances/{number}")
    assert bill(dock, number)["gone_at"] and dock.status(number) == "deleting"
    wait_for(lambda: dock.listing() == [], "gone from the list")


def test_a_shape_or_a_switch_that_does_not_exist_is_refused(dock: Dock) -> None:
    for body in ({"list_shape": "D"}, {"true_stock": "maybe"}, {"weather": "fine"}):
        answer = requests.post(f"{dock.simulator.control}/market", json=body, timeout=30)
        assert answer.status_code == 400 and answer.json()["error"]
