"""Dies at every point of a session's life, one at a time, and comes back (safety.md 6.4).

    python -m tests.prove.crash_points [--sample 40] [--seed N] [--plan life] [--at 'NAME#NTH']

For each plan a first run writes down the points that it passes. Then, for each point, a fresh
database and account: the process is killed there, started again, and must bring the session to
its end with every invariant kept. All runs share one simulator, each with an account of its own,
so that each is a stranger to all others.
"""

import argparse
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests.invariants import Evidence, check_invariants, instants, with_data
from tests.prove.crash_hook import OWN
from tests.prove.figures import record
from tests.world import Template, World, free_ports, make_template

CLOCK = 20
PLANS = {"life": "", "lost": "lost_502", "fails": "wrong_gpu"}  # plan -> fault of its create


def faults_of(plan: str) -> str:
    fault = {"when": "launch", "operation": "create", "fault": PLANS[plan]}
    return json.dumps([fault] if PLANS[plan] else [])


SECONDS = 240  # for one run to come to rest on a busy machine
AT_ONCE = 6
OFTEN = re.compile("providers_|GET|POST /api/v0/bundles|commit|gpu_sessions_heartbeat")
MOST = 3  # of those that pass again and again while time passes
TIMES = ("created_at", "sent_at", "resolved_at", "gone_at", "ready_at", "ended_at")
LABELS = ("", "gb1-0123456789-aaaabbbbccccdddd-1-00000000")  # of strangers on each account
STRANGER = {"vastai": {"gpu_name": "H100 SXM"}, "tensordock": {}}  # on what nobody here rents
REPEAT = "python -m tests.prove.crash_points --plan {} --at '{}'"


@dataclass
class Run:
    """One database and account; `deaths` is how often it was killed."""

    plan: str
    point: str
    directory: Path
    simulator: World
    key: str
    account: str
    offer: int
    extra: dict[str, str] = field(default_factory=dict)
    deaths: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self, **more: str) -> int:
        """The process from start to end or death -> its exit code."""
        environment = self.simulator.environment | {
            "GPUBROKER_DATA_DIR": str(self.data),
            **self.credentials(),
            "OFFER": str(self.offer),
            "CONTROL": self.simulator.control,
            **self.extra,
            **more,
        }
        with (self.directory / "log").open("ab") as log:
            return subprocess.run(
                [sys.executable, "-m", "tests.prove.lone_worker"], env=environment, timeout=SECONDS,
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            ).returncode  # fmt: skip

    @property
    def provider(self) -> str:
        return self.extra.get("PROVIDER", "vastai")

    def credentials(self) -> dict[str, str]:
        """Of this provider alone."""
        if self.provider == "vastai":
            return {"VASTAI_API_KEY": self.key}
        url = f"http://127.0.0.1:{self.simulator.tensordock_port}"
        tensordock = {"TENSORDOCK_API_TOKEN": self.key, "TENSORDOCK_BASE_URL": url}
        return tensordock | {"VASTAI_API_KEY": "", "VASTAI_BASE_URL": ""}

    def prepare(self, template: Template) -> None:
        self.data.mkdir(parents=True)
        shutil.copy(template.data / "gpubroker.sqlite3", self.data)
        for label in LABELS:
            place = {"provider": self.provider, "account": self.account, **STRANGER[self.provider]}
            made = self.simulator.tell("/instances", label=label, **place)
            self.strangers.append(made["instance_id"])

    def clean_up(self) -> None:
        """Make room in the market for the next ones."""
        for instance_id in self.strangers:
            url = f"{self.simulator.control}/instances/{instance_id}"
            requests.delete(url, timeout=30).raise_for_status()

    def die_and_live(self, template: Template) -> "Run":
        """Killed at its point, started again, judged."""
        began = time.monotonic()
        try:
            self.prepare(template)
            self.deaths = self.start(CRASH_AT=self.point) == -9
            code = self.start() if self.deaths else 0
            self.problems = [f"exit code {code}"] * bool(code) + self.judge()
            self.clean_up()
        except (subprocess.TimeoutExpired, requests.RequestException, AssertionError) as error:
            self.problems = [f"{type(error).__name__}: {error}"]
        self.seconds = time.monotonic() - began
        word = "FAILED" if self.problems else "ok" if self.deaths else "passed by"
        print(f"{word:9} {self.plan} {self.point} {self.seconds:.0f} s", flush=True)
        return self

    def judge(self) -> list[str]:
        seen = self.evidence()
        strangers = [row for row in seen.ledger if row["foreign"]]
        missing = ["a stranger is missing"] * (len(strangers) != len(LABELS))
        alive = [f"{r['label']} lives" for r in seen.ours() if r["gone_at"] is None]
        states = [s["state"] for s in seen.sessions]
        return [*check_invariants(seen), *missing, *alive, *self.not_ended(states)]

    def not_ended(self, states: list[object]) -> list[str]:
        return [] if states == ["ended"] else [f"sessions: {states}"]

    def evidence(self) -> Evidence:
        rows = self.reader()
        ledger = [r for r in self.simulator.ledger() if r["account"] == self.account]
        wire = [r for r in self.simulator.wire() if r["account"] == self.account]
        audit = with_data(rows("SELECT * FROM gpu_sessions_auditevent ORDER BY sequence"))
        return Evidence(
            ledger=ledger,
            wire=wire,
            sessions=instants(rows("SELECT * FROM gpu_sessions_session"), *TIMES),
            attempts=instants(rows("SELECT * FROM gpu_sessions_attempt"), *TIMES),
            audit=instants(audit, "at"),
        )

    def reader(self):
        """The world's own way to read rows, on this run's database."""
        world = object.__new__(World)
        world.data = self.data
        return world.rows

    def tail(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-1500:]


class Programme:
    def __init__(self, directory: Path, accounts: int, template: Template | None = None) -> None:
        self.directory = directory
        if template is None:
            (directory / "template").mkdir(parents=True)
            template = make_template(directory / "template")
        self.template = template
        self.numbers = iter(range(accounts))
        self.simulator = World(directory / "simulator", None, CLOCK)
        self.keys = [secrets.token_hex(16) for _ in range(accounts)]

    def start(self) -> None:
        pairs = [f"--account={key}={9000 + n}" for n, key in enumerate(self.keys)]
        start_simulator(self.simulator, pairs)

    def run(self, plan: str, point: str, **extra: str) -> Run:
        number = next(self.numbers)
        where = self.directory / f"run-{number}"
        where.mkdir()
        account = str(9000 + number)
        return Run(
            plan, point, where, self.simulator, self.keys[number], account, number % 8, extra
        )

    def points(self, plan: str) -> list[str]:
        """Those of one undisturbed life, in order."""
        run, log = self.run(plan, "", FAULTS=faults_of(plan)), self.directory / f"points-{plan}"
        run.prepare(self.template)
        code = run.start(CRASH_LOG=str(log))
        problems = run.judge()
        assert not code and not problems, f"{plan} without a crash: {problems}\n{run.tail()}"
        return [line for line in log.read_text().splitlines() if wanted(line)]


def start_simulator(world: World, accounts: list[str]) -> None:
    """World.start_simulator with these accounts."""
    run = world.run

    def with_accounts(name: str, *command: str):
        return run(name, *command, *accounts)

    [world.tensordock_port] = free_ports(1)
    accounts = [*accounts, f"--tensordock-port={world.tensordock_port}", "--true-stock"]
    world.run = with_accounts  # type: ignore[method-assign]
    world.start_simulator()


def wanted(point: str) -> bool:
    name, _, nth = point.rpartition("#")
    return OWN not in name.split() and (int(nth) <= MOST or not OFTEN.search(name))


def chosen(points: dict[str, list[str]], sample: int, seed: int) -> list[tuple[str, str]]:
    every = [(plan, point) for plan, found in points.items() for point in found]
    return every if not sample else random.Random(seed).sample(every, min(sample, len(every)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=40, help="0 = every point")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--plan", choices=PLANS)
    parser.add_argument("--at", help="one point")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    options = parser.parse_args()
    plans = [options.plan] if options.plan else list(PLANS)
    with tempfile.TemporaryDirectory(prefix="crash-points-") as directory:
        programme = Programme(Path(directory), 20 + (options.sample or 2000))
        with programme.simulator:
            programme.start()
            return prove(programme, plans, options)


def prove(programme: Programme, plans: list[str], options: argparse.Namespace) -> int:
    with ThreadPoolExecutor(options.at_once) as pool:
        points = dict(zip(plans, pool.map(programme.points, plans), strict=True))
        picked = chosen(points, options.sample, options.seed)
        if options.at:
            picked = [(plans[0], options.at)]
        runs = [programme.run(plan, at, FAULTS=faults_of(plan)) for plan, at in picked]
        done = list(pool.map(lambda run: run.die_and_live(programme.template), runs))
    return report(points, done, options.seed)


def report(points: dict[str, list[str]], done: list[Run], seed: int) -> int:
    failed = [run for run in done if run.problems]
    for run in failed:
        print(f"FAILED {run.plan} {run.point}: {run.problems}\n{run.tail()}")
        print("again:", REPEAT.format(run.plan, run.point))
    died = [run for run in done if run.deaths]
    figures = {
        "points_found": {plan: len(found) for plan, found in points.items()},
        "tried": len(done),
        "died": len(died),
        "not_reached": len(done) - len(died),
        "passed": len(done) - len(failed),
        "by_plan": Counter(run.plan for run in died),
        "longest_seconds": round(max((run.seconds for run in done), default=0)),
        "seed": seed,
    }
    record("crash_points", **figures)
    print("crash points:", figures)
    return 1 if failed or not died else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
