"""Everything of gpubroker dies while machines run: those at Vast.ai end by themselves (I10)."""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from providers.dead_man import GRACE_SECONDS
from tests.invariants import instants
from tests.processes import PATIENCE, until
from tests.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("dead-man")]

CLOCK = 50
SPANS = (30.0, 90.0, 240.0)  # real seconds until the end; more where the first were too few
GRACE = timedelta(seconds=GRACE_SECONDS / CLOCK)


def machine(world: World, pk: str) -> dict:
    [label] = [attempt["label"] for attempt in world.attempts(pk)]
    [row] = [row for row in world.ledger() if row["label"] == label]
    return row


def ends_at(world: World, pk: str) -> datetime:
    return instants([world.session(pk)], "expires_at")[0]["expires_at"]


def confirmed(world: World, pk: str) -> bool:
    """The machine itself says that it goes by the end that the session has."""
    attempt = instants(world.attempts(pk), "switch_at", "switch_seen_at")[-1]
    return bool(attempt["switch_seen_at"]) and attempt["switch_at"] >= ends_at(world, pk)


def left_alone(world: World, span: float) -> tuple[str, str] | None:
    """Two machines with a confirmed switch, the second one's session extended by an hour, and all
    of gpubroker dead before the end. None = the end came first, on a busy machine."""
    world.kill("worker")
    both = left, extended = tuple(world.launch(offer) for offer in world.offers("RTX 4090", 2))
    soon = datetime.now(UTC) + timedelta(seconds=span)
    for pk in both:  # hours of a session are real ones, whatever the clock
        sql = "UPDATE gpu_sessions_session SET expires_at = ? WHERE id = ?"
        world.write(sql, soon.strftime("%Y-%m-%d %H:%M:%S.%f"), pk)
    world.start_worker()

    def states() -> set[str]:
        return {world.session(pk)["state"] for pk in both}

    until("both run, or are over", lambda: states() <= {"running", "stopping", "ended"})
    world.post(f"/sessions/{UUID(extended)}/extend/")
    while datetime.now(UTC) < soon:
        if all(confirmed(world, pk) for pk in both):
            world.kill("worker", "web")
            break
        time.sleep(0.1)
    if datetime.now(UTC) < soon and states() == {"running"}:
        return left, extended
    world.kill("web")
    world.start_web()
    until("the page is there", world.answers)
    return None


def test_a_machine_ends_itself_when_everybody_is_dead(world: World) -> None:
    tries = (left_alone(world, span) for span in SPANS)
    found = next((pair for pair in tries if pair), None)
    assert found, "gpubroker was never dead before the end"
    left, extended = found
    end = ends_at(world, left)
    assert machine(world, left)["gone_at"] is None
    seconds = (end + GRACE - datetime.now(UTC)).total_seconds() + PATIENCE
    until("the machine is gone", lambda: machine(world, left)["gone_at"], seconds)
    assert machine(world, left)["gone_at"] >= end + GRACE
    assert ends_at(world, extended) - end > timedelta(minutes=59)
    assert machine(world, extended)["gone_at"] is None, "its end was moved"

    world.start_web()
    world.start_worker()
    row = world.wait_state(left, "ended")
    assert (row["outcome"], row["reason"]) == ("ok", "expired")
    at = instants(world.attempts(left), "ended_itself_at", "switch_at")[-1]
    assert at["ended_itself_at"] == at["switch_at"] + GRACE
    until("the page is there", world.answers)
    assert "It destroyed itself at about" in world.page(left)
    assert world.session(extended)["state"] == "running"
    asked = [request for request in world.wire() if request["own_key"]]
    assert {request["operation"] for request in asked} == {"destroy"}
    assert at["label"] in {request["label"] for request in asked}
    world.stop_all()
    assert world.violations() == []
