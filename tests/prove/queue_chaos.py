"""The queue loses, doubles, delays and reorders its messages while people launch and stop (I18).

python -m tests.prove.queue_chaos [SEED]
"""

import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.prove.figures import record
from tests.world import World, make_template

SESSIONS, PATIENCE = 4, 240  # seconds
LOCKED_FOR = "+7 seconds"
WRITES = {
    "lost": "DELETE FROM django_q_ormq WHERE id = (SELECT id FROM django_q_ormq {order})",
    "doubled": "INSERT INTO django_q_ormq (key, payload, lock) "
    "SELECT key, payload, lock FROM django_q_ormq {order}",
    "delayed": "UPDATE django_q_ormq SET lock = datetime('now', '" + LOCKED_FOR + "') "
    "WHERE id = (SELECT id FROM django_q_ormq {order})",
    "reordered": "UPDATE django_q_ormq SET id = id + 1000 "
    "WHERE id = (SELECT id FROM django_q_ormq {order})",
}
ORDER = "ORDER BY RANDOM() LIMIT 1"


class Imp(threading.Thread):
    """Plays with the queue until it is told to stop."""

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(daemon=True)
        self.world, self.dice = world, random.Random(seed)
        self.done = threading.Event()
        self.pranks: Counter[str] = Counter()

    def run(self) -> None:
        while not self.done.wait(self.dice.uniform(0.05, 0.4)):
            if self.world.rows("SELECT id FROM django_q_ormq LIMIT 1"):
                prank = self.dice.choice(sorted(WRITES))
                self.world.write(WRITES[prank].format(order=ORDER))
                self.pranks[prank] += 1


def play(world: World, seed: int) -> dict[str, object]:
    world.start()
    imp, began = Imp(world, seed), time.monotonic()
    imp.start()
    try:
        pks = [world.launch(offer) for offer in world.offers("RTX 4090", SESSIONS)]
        world.wait_states(pks, "running", seconds=PATIENCE)
        running = time.monotonic() - began
        world.stop_all(PATIENCE)
    finally:
        imp.done.set()
        imp.join()
    problems = world.violations()
    if problems:
        raise AssertionError(
            "\n".join([*problems, f"again: python -m tests.prove.queue_chaos {seed}"])
        )
    seconds = round(time.monotonic() - began)
    return {"seed": seed, "sessions": len(pks), "running_after": round(running), **imp.pranks,
            "ended_after": seconds}  # fmt: skip


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(10**6)
    with tempfile.TemporaryDirectory(prefix="queue-chaos-") as directory:
        (Path(directory) / "template").mkdir()
        template = make_template(Path(directory) / "template")
        with World(Path(directory) / "w", template) as world:
            try:
                figures = play(world, seed)
            except AssertionError:
                print(world.tails())
                raise
    record("queue_chaos", **figures)
    print("queue chaos:", figures)


if __name__ == "__main__":
    main()
