"""Each way in which a rented machine can go wrong, all at the same time in one world."""

import re

import pytest

from tests.invariants import instants
from tests.processes import until
from tests.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("drills")]

BAD = {  # fault of the machine -> why its session must fail
    "boot_never_ends": "boot_timeout",
    "ssh_refused": "ssh_timeout",
    "auth_refused": "ssh_refused",
    "wrong_gpu": "wrong_hardware",
    "missing_gpu": "ssh_timeout",  # "No devices were found" may still change until the deadline
    "exits_at_once": "boot_failed",
    "price_raised": "price_breach",
}
REFUSALS = 3
STOPPED = {  # drill -> the fault of its machine, in simulated seconds, before it is asked to stop
    "stubborn": {"operation": "destroy", "fault": "http_500", "times": REFUSALS},
    "immortal": {"operation": "instance", "fault": "immortal", "seconds": 400},
    "lingering": {"operation": "destroy", "fault": "still_listed", "seconds": 60},
}
KEPT = ("list_lag", "rekeyed", "plain", "spare")
GOOD = (*KEPT, *STOPPED, "vanishing", "expiring")
LAG = 60  # simulated seconds


@pytest.fixture(scope="module")
def drills(world: World) -> dict[str, str]:
    """name -> session; every one on a machine of its own, and in trouble as soon as it runs."""
    offers = iter(world.offers("RTX 4090", len(BAD) + len(GOOD)))
    found = {}
    for name in (*BAD, *GOOD):
        offer = next(offers)
        if name in BAD:
            world.fault("create", name, offer_id=offer["offer_id"])
        if name == "list_lag":
            world.fault("create", name, offer_id=offer["offer_id"], seconds=LAG)
        found[name] = world.launch(offer, fallback="none")
    for name in (*STOPPED, "rekeyed", "vanishing", "expiring"):
        world.wait_state(found[name], "running")
    for name, fault in STOPPED.items():
        world.fault(**fault, label=label_of(world, found[name]))
        world.ask_to_stop(found[name])
    world.fault("ssh", "host_key_changed", label=label_of(world, found["rekeyed"]))
    world.fault("instance", "vanish", label=label_of(world, found["vanishing"]))
    [row] = world.rows("SELECT strftime('%Y-%m-%d %H:%M:%f000', 'now', '+1 seconds') AS soon")
    sql = "UPDATE gpu_sessions_session SET expires_at = ? WHERE id = ?"
    world.write(sql, row["soon"], found["expiring"])
    return found


def label_of(world: World, pk: str) -> str:
    return world.attempts(pk)[-1]["label"]


def destroys(world: World, pk: str) -> list[dict]:
    label = label_of(world, pk)
    return [r for r in world.wire() if r["operation"] == "destroy" and r["label"] == label]


def test_a_machine_that_is_listed_late_is_not_lost(world: World, drills: dict[str, str]) -> None:
    world.wait_state(drills["list_lag"], "running")
    [*refused, last] = world.attempts(drills["list_lag"])
    assert {attempt["outcome"] for attempt in refused} <= {"rate", "not_sent"}  # came too early
    assert last["resolution"] == "created"


def test_a_changed_host_key_marks_and_never_destroys(world: World, drills: dict[str, str]) -> None:
    pk = drills["rekeyed"]
    until("the change is noticed", lambda: world.session(pk)["host_key_changed"])
    row = world.session(pk)
    pins = [e["data"]["host_key"] for e in world.audit(pk) if e["action"] == "ssh.verdict"]
    assert (row["state"], row["host_key"]) == ("running", next(filter(None, pins)))
    assert row["unreachable_since"]
    assert not destroys(world, pk)


def test_a_destroy_is_repeated_until_it_is_accepted(world: World, drills: dict[str, str]) -> None:
    world.wait_state(drills["stubborn"], "ended")
    tries = destroys(world, drills["stubborn"])
    assert [r["status"] for r in tries].count(500) == REFUSALS
    assert [r for r in tries if r["effect"]] == [tries[-1]]


def test_an_accepted_destroy_is_no_proof(world: World, drills: dict[str, str]) -> None:
    world.wait_state(drills["immortal"], "ended")
    tries = destroys(world, drills["immortal"])
    assert len(tries) >= 2
    assert [r for r in tries if r["effect"]] == [tries[-1]]


def test_a_machine_that_is_still_listed_is_not_called_gone(
    world: World, drills: dict[str, str]
) -> None:
    pk = drills["lingering"]
    world.wait_state(pk, "ended")
    [machine] = [row for row in world.ledger() if row["label"] == label_of(world, pk)]
    attempt = instants(world.attempts(pk), "gone_at")[-1]
    assert (attempt["gone_at"] - machine["gone_at"]).total_seconds() > 60 / world.clock


def test_a_vanished_machine_is_lost_after_three_pieces_of_evidence(
    world: World, drills: dict[str, str]
) -> None:
    pk = drills["vanishing"]
    row = world.wait_state(pk, "ended")
    assert (row["outcome"], row["reason"]) == ("lost", "vanished")
    reads = [event for event in world.audit(pk) if event["action"] == "instance.read"]
    assert [event["data"]["evidence"] for event in reads] == ["absent"] * 3
    assert not destroys(world, pk)


def test_a_session_ends_when_its_time_is_over(world: World, drills: dict[str, str]) -> None:
    row = world.wait_state(drills["expiring"], "ended")
    assert (row["outcome"], row["reason"]) == ("ok", "expired")


@pytest.mark.parametrize(("fault", "reason"), BAD.items())
def test_a_bad_machine_fails_for_the_right_reason_and_goes(
    world: World, drills: dict[str, str], fault: str, reason: str
) -> None:
    row = world.wait_state(drills[fault], "ended")
    assert (row["outcome"], row["reason"]) == ("failed", reason)
    assert not row["unreachable_since"]


def test_an_empty_list_changes_nothing(world: World, drills: dict[str, str]) -> None:
    """All are missing at once: the reading is not believed, and healed by the next."""
    world.wait_states([drills[name] for name in KEPT], "running")
    destroyed = len([r for r in world.wire() if r["operation"] == "destroy"])
    world.fault("list", "empty_list", times=0)
    frozen = "SELECT frozen_reason FROM providers_providerhealth WHERE frozen_reason != ''"
    until("automatic decisions are frozen", lambda: world.rows(frozen))
    world.lift_faults()
    until("the list is whole again", lambda: not world.rows(frozen))
    for name in KEPT:
        assert world.session(drills[name])["state"] == "running"
    assert destroyed == len([r for r in world.wire() if r["operation"] == "destroy"])


def test_all_of_them_end_and_none_is_forgotten(world: World, drills: dict[str, str]) -> None:
    world.stop_all()
    assert world.violations() == []


def test_pages_tell_what_happened(world: World, drills: dict[str, str]) -> None:
    for name, pk in drills.items():
        page = world.page(pk)
        assert re.search("ended|gone", page, re.IGNORECASE), name
