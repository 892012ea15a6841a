"""Everything of gpubroker dies while machines run: those at Vast.ai end by themselves (I10)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from providers.dead_man import GRACE_SECONDS
from tests.invariants import instants
from tests.world import World, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("dead-man")]

CLOCK = 50
SOON = 30.0  # real seconds that the sessions have, from before their creates
GRACE = GRACE_SECONDS / CLOCK
SLACK = 15.0  # seconds: a tick of the loop, and a busy machine


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


def test_a_machine_ends_itself_when_everybody_is_dead(world: World) -> None:
    world.kill("worker")
    left, extended = (world.launch(offer) for offer in world.offers("RTX 4090", 2))
    soon = datetime.now(UTC) + timedelta(seconds=SOON)
    for pk in (left, extended):  # hours of a session are real ones, whatever the clock
        sql = "UPDATE gpu_sessions_session SET expires_at = ? WHERE id = ?"
        world.write(sql, soon.strftime("%Y-%m-%d %H:%M:%S.%f"), pk)
    world.start_worker()
    world.wait_states([left, extended], "running", seconds=SOON)
    assert world.post(f"/sessions/{UUID(extended)}/extend/").status_code == 302
    for pk in (left, extended):
        until("the switch is confirmed", lambda pk=pk: confirmed(world, pk), SOON)
    world.kill("worker", "web")
    end = ends_at(world, left)
    assert datetime.now(UTC) < end, "too slow to tell: nobody died before the end"
    assert machine(world, left)["gone_at"] is None
    until("the machine is gone", lambda: machine(world, left)["gone_at"], SOON + GRACE + SLACK)
    late = (machine(world, left)["gone_at"] - end).total_seconds()
    assert GRACE - 1 <= late <= GRACE + SLACK
    assert ends_at(world, extended) - end > timedelta(minutes=59)
    assert machine(world, extended)["gone_at"] is None, "its end was moved"

    world.start_web()
    world.start_worker()
    row = world.wait_state(left, "ended")
    assert (row["outcome"], row["reason"]) == ("ok", "expired")
    attempt = instants(world.attempts(left), "ended_itself_at")[-1]
    assert attempt["ended_itself_at"], "\n".join([*world.story(left), str(attempt)])
    apart = machine(world, left)["gone_at"] - attempt["ended_itself_at"]
    assert abs(apart.total_seconds()) <= SLACK
    until("the page is there", world.answers)
    assert "It destroyed itself at about" in world.page(left)
    assert world.session(extended)["state"] == "running"
    asked = [r for r in world.wire() if r["own_key"]]
    assert {(r["operation"], r["label"]) for r in asked} == {("destroy", attempt["label"])}
    world.stop_all()
    assert world.violations() == []
