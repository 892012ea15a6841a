"""The queue loses, doubles, delays and reorders its messages while people launch and stop (I18).

On both databases side by side, each with a whole world: web server, worker, both marketplaces.
"""

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.postgresql import Cluster
from tests.processes import Template, make_template
from tests.prove.figures import record
from tests.prove.runs import DATABASES
from tests.stores import Postgresql
from tests.world import World

SESSIONS, PATIENCE = 4, 240  # seconds
LATER = {"sqlite": "datetime('now', '+7 seconds')", "postgresql": "now() + interval '7 seconds'"}
AGAIN = "again: python -m tests.prove.queue_chaos --database {} {}"
WRITES = {
    "lost": "DELETE FROM django_q_ormq WHERE id = (SELECT id FROM django_q_ormq {order})",
    "doubled": "INSERT INTO django_q_ormq (key, payload, lock) "
    "SELECT key, payload, lock FROM django_q_ormq {order}",
    "delayed": "UPDATE django_q_ormq SET lock = {later} "
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
                later = LATER[self.world.store.name]
                self.world.write(WRITES[prank].format(order=ORDER, later=later))
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
        raise AssertionError("\n".join(problems))
    seconds = round(time.monotonic() - began)
    return {"sessions": len(pks), "running_after": round(running), **imp.pranks,
            "ended_after": seconds}  # fmt: skip


def play_in(directory: Path, template: Template, seed: int) -> dict[str, object]:
    with World(directory / "w", template) as world:
        try:
            return play(world, seed)
        except AssertionError:
            print(world.tails())
            print(AGAIN.format(world.store.name, seed))
            raise


def play_on(database: str, directory: Path, seed: int) -> dict[str, object]:
    (directory / "template").mkdir(parents=True)
    if database == "sqlite":
        return play_in(directory, make_template(directory / "template"), seed)
    with Cluster() as cluster:
        cluster.create("migrated")
        store = Postgresql(cluster, "migrated")
        return play_in(directory, make_template(directory / "template", store), seed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.prove.queue_chaos", description=__doc__)
    seed = random.SystemRandom().randrange(10**6)
    parser.add_argument("seed", type=int, nargs="?", default=seed)
    parser.add_argument("--database", choices=DATABASES, action="append", help="default: all")
    options = parser.parse_args()
    databases = options.database or DATABASES
    with tempfile.TemporaryDirectory(prefix="queue-chaos-") as name, ThreadPoolExecutor() as pool:
        games = {d: pool.submit(play_on, d, Path(name) / d, options.seed) for d in databases}
        figures = {database: game.result() for database, game in games.items()}
    record("queue_chaos", seed=options.seed, **figures)
    print("queue chaos:", options.seed, figures)


if __name__ == "__main__":
    main()
