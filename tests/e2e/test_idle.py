"""Whole processes: an idle machine is stopped, one that works or does not tell is not."""

from uuid import UUID

import pytest

from tests.browser import chromium, let_in
from tests.processes import until
from tests.world import World

CLOCK = 40  # a quarter of an hour passes in 23 seconds
SHORTEST, LONGEST = 15, 720  # minutes

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("idle")]


def sets_load(world: World, session: str, **work: int | None) -> None:
    attempt = world.attempts(session)[-1]  # one before may have come too soon for the marketplace
    world.tell(f"/instances/{attempt['instance_id']}", **work)


def samples(world: World, session: str) -> list[dict]:
    sql = "SELECT * FROM gpu_sessions_gpusample WHERE session_id = ? ORDER BY at"
    return world.rows(sql, session)


def turn_off(world: World, session: str) -> None:
    """On its page, as a person does."""
    with chromium(f"127.0.0.1:{world.port}") as watched:
        let_in(watched.page.context, world)
        watched.page.goto(f"{world.base}/sessions/{UUID(session)}/")
        watched.page.locator("#idle-button").click()
        watched.page.get_by_role("button", name="Turn off").click()
        until("turned off", lambda: world.session(session)["idle_minutes"] is None)
        assert watched.troubles == []


def test_only_the_idle_machine_is_stopped(world: World) -> None:
    *offers, last = world.offers(count=4)
    idle, busy, silent = (world.launch(offer, idle_minutes=SHORTEST) for offer in offers)
    other = world.launch(last, idle_minutes=LONGEST)
    for session in (busy, silent):
        until("an instance", lambda pk=session: any(a["instance_id"] for a in world.attempts(pk)))
    sets_load(world, busy, gpu_load=87, gpu_memory_mb=9000)
    sets_load(world, silent, gpu_load=None)
    world.wait_state(other, "running")
    turn_off(world, other)
    until("the idle one has ended", lambda: world.session(idle)["state"] == "ended")
    row = world.session(idle)
    assert (row["outcome"], row["reason"]) == ("ok", "idle")
    actions = [event["action"] for event in world.audit(idle)]
    assert actions.index("idle.warned") < actions.index("idle.stopped")
    [stopped] = [event["data"] for event in world.audit(idle) if event["action"] == "idle.stopped"]
    assert stopped["highest_load"] == 0 and stopped["samples"] >= 5
    assert stopped["last"] >= stopped["stops_at"]
    for session, load in ((busy, 87), (silent, None)):
        world.wait_state(session, "running")
        until("its load is seen", lambda pk=session: samples(world, pk))
        assert samples(world, session)[-1]["load"] == load
        assert "idle.stopped" not in [event["action"] for event in world.audit(session)]
    for session in (busy, silent, other):
        world.ask_to_stop(session)
    world.wait_states([busy, silent, other], "ended")
    assert world.violations() == []
