"""Many launches at the same moment; a hundred in `make prove`."""

import math
import os
import time
from collections.abc import Callable

import pytest

from tests.processes import until
from tests.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("many")]

CLOCK = 8  # creates leave every 5 s by the marketplace's rules: 30 take 19 s here
MANY = int(os.environ.get("PROVE_LAUNCHES", "30"))
SECONDS = 300 + 3 * MANY  # until all run on a busy machine, and until all are gone


def lag(world: World) -> float:
    """Seconds by which the most overdue session waits."""
    [row] = world.rows(
        "SELECT max((julianday('now') - julianday(due_at)) * 86400) AS late"
        " FROM gpu_sessions_session WHERE state != 'ended' AND claimed_until IS NULL"
    )
    return max(0.0, row["late"] or 0.0)


def test_all_come_up_and_all_go(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    begun = time.monotonic()
    pks = [world.launch(offer, fallback="none") for offer in world.offers(count=MANY)]
    launched = time.monotonic()
    lags: list[float] = []

    def all_running() -> bool:
        lags.append(lag(world))
        states = world.states()
        ended = [pk for pk, state in states.items() if state == "ended"]
        assert not ended, (len(ended), world.story(ended[0])[-8:])
        return set(states.values()) == {"running"}

    until("all of them run", all_running, SECONDS)
    running = time.monotonic()
    assert len(set(pks)) == len(world.states()) == MANY
    page = world.http.get(f"{world.base}/sessions/", timeout=60)
    assert page.ok
    assert "database is locked" not in page.text
    world.stop_all(seconds=SECONDS)
    p95 = sorted(lags)[math.ceil(0.95 * len(lags)) - 1]
    record_property(
        "figures",
        f"{MANY} launches: asked in {launched - begun:.1f} s, all running {running - begun:.1f} s"
        f" after the first, all proven gone {time.monotonic() - running:.1f} s after the stop;"
        f" the most overdue session waited {p95:.2f} s (p95 of looks)",
    )
    assert world.violations() == []
