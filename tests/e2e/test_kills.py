"""kill -9 at any moment: of the worker, of everything, of the one process that waits for work."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.processes import descendants, until
from tests.world import PROVIDERS, World

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("kills")]

KILLS = int(os.environ.get("PROVE_KILLS", "6"))
BOTH = 4  # each so many kills the web server goes with the worker
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


def waiting_for_work(world: World) -> list[int]:
    """Processes of the cluster that hold a queue's lock: the next worker, and the monitor."""
    ours = set(descendants(world.parts["worker"].pid))
    database = {str(path.stat().st_ino) for path in world.data.glob("gpubroker.sqlite3*")}
    found = set()
    for line in Path("/proc/locks").read_text().splitlines():
        parts = line.split()
        if len(parts) < 6 or parts[1] == "->":
            continue
        pid, inode = int(parts[4]), parts[5].split(":")[-1]
        if pid in ours and inode not in database:
            found.add(pid)
    return sorted(found)


def test_the_next_in_line_worker_dies_and_work_goes_on(world: World) -> None:
    victims = until("a worker waits for tasks", lambda: waiting_for_work(world))
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    pk = world.launch(world.offers("RTX 4090")[0])
    world.wait_state(pk, "running")


def restart(world: World, *names: str) -> None:
    """After a few seconds of silence slots are given away; here they are free at once."""
    world.kill(*names)
    world.write("UPDATE gpu_sessions_slot SET beat_at = NULL")
    for name in names:
        world.start_worker() if name == "worker" else world.start_web()
    until("the web server answers", lambda: world.answers())


def test_killed_at_any_moment_every_session_comes_through(world: World) -> None:
    """Launches on both marketplaces in turn."""
    dice = random.Random(SEED)
    note = f"KILL_SEED={SEED}"
    offers = {name: iter(world.offers("RTX 3090", KILLS // 2, name)) for name in PROVIDERS}
    for turn in range(KILLS):
        pk = world.launch(next(offers[PROVIDERS[turn % 2]]))
        try:
            until("the worker took it up", lambda pk=pk: world.attempts(pk))
        except AssertionError as error:
            raise AssertionError(f"{note}, kill {turn}: {error}") from None
        time.sleep(dice.choice([dice.uniform(0, 0.3), dice.uniform(0, 5)]))
        restart(world, *(["worker", "web"] if turn % BOTH == BOTH - 1 else ["worker"]))
    try:
        world.wait_states(world.states(), "running", "ended")
        for pk in world.states():
            row = world.session(pk)
            assert row["state"] == "running" or (row["outcome"] and row["reason"]), world.story(pk)
        world.stop_all()
        assert world.violations() == []
    except AssertionError as error:
        raise AssertionError(f"{note}: {error}") from None
