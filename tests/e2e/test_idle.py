"""Whole processes: an idle machine is stopped, one that works or does not tell is not."""

import pytest

from tests.world import World, until

CLOCK = 40  # a quarter of an hour passes in 22 seconds
SHORTEST = 15  # minutes

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("idle")]


def sets_load(world: World, session: str, **work: int | None) -> None:
    [attempt] = world.attempts(session)
    world.tell(f"/instances/{attempt['instance_id']}", **work)


def samples(world: World, session: str) -> list[dict]:
    sql = "SELECT * FROM gpu_sessions_gpusample WHERE session_id = ? ORDER BY at"
    return world.rows(sql, session)


def test_only_the_idle_machine_is_stopped(world: World) -> None:
    offers = world.offers(count=3)
    idle, busy, silent = (world.launch(offer, idle_minutes=SHORTEST) for offer in offers)
    for session in (busy, silent):
        until("an instance", lambda pk=session: any(a["instance_id"] for a in world.attempts(pk)))
    sets_load(world, busy, gpu_load=87, gpu_memory_mb=9000)
    sets_load(world, silent, gpu_load=None)
    until("the idle one has ended", lambda: world.session(idle)["state"] == "ended")
    row = world.session(idle)
    assert (row["outcome"], row["reason"]) == ("ok", "idle")
    actions = [event["action"] for event in world.audit(idle)]
    assert actions.index("idle.warned") < actions.index("idle.stopped")
    [stopped] = [event["data"] for event in world.audit(idle) if event["action"] == "idle.stopped"]
    assert stopped["highest_load"] == 0 and stopped["samples"] >= 5
    assert stopped["last"] >= stopped["stops_at"]
    for session, load in ((busy, 87), (silent, None)):
        assert world.session(session)["state"] == "running"
        assert samples(world, session)[-1]["load"] == load
        assert "idle.stopped" not in [event["action"] for event in world.audit(session)]
        world.ask_to_stop(session)
        until("stopped", lambda pk=session: world.session(pk)["state"] == "ended")
    assert world.violations() == []
