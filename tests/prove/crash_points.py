"""Dies at every point of a session's life, one at a time, and comes back (safety.md 6.4).

For each plan, provider and database a first run writes down the points that it passes. Then, for
each death, a fresh world: the process is struck there, started again, and must bring the session
to its end with every invariant kept. A failure prints the one command that repeats it.

    life   launch, running, stop       lost   the answer to the create is lost
    fails  wrong hardware
"""

import argparse
import os
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.prove import deaths
from tests.prove.crash_hook import OWN
from tests.prove.deaths import PLANS, WAYS, Death, Fate, Place, Points
from tests.prove.figures import keep, record
from tests.prove.measure import Sample, samples
from tests.prove.runs import AT_ONCE, CLOCK, DATABASES, PROVIDERS, Run, Yard

OFTEN = re.compile("providers_|GET|POST /api/v0/bundles|commit|gpu_sessions_heartbeat")
MOST = 3  # of those that pass again and again while time passes
COUNTS = {  # option -> how many of these deaths in the short form
    "sample": (48, "kill -9 at so many points, 0 = at every one"),
    "pairs": (8, "a second kill -9 in the recovery"),
    "alls": (4, "two workers die at one moment"),
    "pauses": (4, "SIGSTOP for three times the lease, another takes over, SIGCONT"),
    "alarms": (4, "the queue's time-out"),
    "syscalls": (0, "kill -9 inside a system call, by strace"),
}


@dataclass
class Result:
    death: Death
    strikes: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    tail: str = ""
    samples: list[Sample] = field(default_factory=list)


def die_and_live(death: Death, yard: Yard) -> Result:
    """Struck at its point, started again, judged."""
    result, began = Result(death), time.monotonic()
    place = death.place
    try:
        with yard.run(place.provider, place.database, place.faults()) as run:
            strike_and_judge(run, result)
    except Exception:  # one run's trouble fails that run; the others are judged as well
        result.problems.append(traceback.format_exc())
    result.seconds = time.monotonic() - began
    word = "FAILED" if result.problems else "ok" if result.strikes else "passed by"
    print(f"{word:9} {death} {result.seconds:.0f} s", flush=True)
    return result


def strike_and_judge(run: Run, result: Result) -> None:
    try:
        fate = WAYS[result.death.how](run, result.death)
        result.strikes = fate.strikes
        result.problems = problems(run, fate)
        result.samples = samples(run.seen(), clock=CLOCK, database=run.database, kills=run.kills)
    finally:
        result.tail = run.tail()


def problems(run: Run, fate: Fate) -> list[str]:
    seen = run.seen()
    states = [row["state"] for row in seen.sessions]
    codes = [f"exit code {code}" for code in fate.codes if code]
    return [*codes, *run.verdict(seen), *([f"sessions: {states}"] * (states != ["ended"]))]


# -- points


def recorded(place: Place, yard: Yard, log_of: str = "points") -> list[str]:
    """Those of one undisturbed life, in order."""
    with yard.run(place.provider, place.database, place.faults()) as run:
        log = run.directory / log_of
        wrong = problems(run, Fate(0, [run.live(CRASH_LOG=str(log))]))
        assert not wrong, f"{place} without a crash: {wrong}\n{run.tail()}"
        return [line for line in log.read_text().splitlines() if wanted(line)]


def wanted(point: str) -> bool:
    name, _, nth = point.rpartition("#")
    return OWN not in name.split() and (int(nth) <= MOST or not OFTEN.search(name))


def calls_of(place: Place, yard: Yard) -> list[str]:
    with yard.run(place.provider, place.database, place.faults()) as run:
        return deaths.syscalls(run)


def chosen(points: Points, options: argparse.Namespace) -> list[Death]:
    """Longest first."""
    dice = random.Random(options.seed)
    return [
        *deaths.spread(points, "pause", options.pauses, dice),
        *deaths.pairs(points, options.pairs, dice),
        *deaths.spread(points, "all", options.alls, dice),
        *deaths.spread(points, "alarm", options.alarms, dice),
        *deaths.singles(points, options.sample, dice),
    ]


# -- the programme


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.prove.crash_points", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for name, (number, text) in COUNTS.items():
        parser.add_argument(
            f"--{name}", type=int, default=number, metavar="N", help=f"{text} (default {number})"
        )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--plan", choices=PLANS, action="append", default=[])
    parser.add_argument("--provider", choices=PROVIDERS, action="append", default=[])
    parser.add_argument("--database", choices=DATABASES, action="append", default=[])
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N")
    parser.add_argument("--at", metavar="'NAME#NTH'", help="one death, at this point of this place")
    parser.add_argument("--how", choices=WAYS, default="kill", help="of --at")
    parser.add_argument("--then", type=int, default=0, metavar="N", help="of --at --how pair")
    return parser.parse_args()


def main() -> int:
    options = read_options()
    if options.syscalls or options.how == "syscall":
        deaths.strace()
    everywhere = deaths.places(options.plan, options.provider, options.database)
    databases = tuple(dict.fromkeys(place.database for place in everywhere))
    began = time.monotonic()
    with Yard(databases) as yard, ThreadPoolExecutor(options.at_once) as pool:
        if options.at:
            death = Death(place=everywhere[0], how=options.how, point=options.at, then=options.then)
            return report({}, [die_and_live(death, yard)], options.seed)
        found = pool.map(lambda place: recorded(place, yard), everywhere)
        points = dict(zip(everywhere, found, strict=True))
        picked = chosen(points, options)
        if options.syscalls:
            picked += cuts(everywhere, options, yard, pool)
        done = list(pool.map(lambda death: die_and_live(death, yard), picked))
    print(f"crash points: {time.monotonic() - began:.0f} s")
    return report(points, done, options.seed)


def cuts(
    everywhere: list[Place], options: argparse.Namespace, yard: Yard, pool: ThreadPoolExecutor
) -> list[Death]:
    found = pool.map(lambda place: calls_of(place, yard), everywhere)
    calls = dict(zip(everywhere, found, strict=True))
    return deaths.spread(calls, "syscall", options.syscalls, random.Random(options.seed))


def report(points: Points, done: list[Result], seed: int) -> int:
    failed = [result for result in done if result.problems]
    for result in failed:
        print(f"FAILED {result.death}: {result.problems}\n{result.tail}")
        print("again:", result.death.again)
    struck = [result for result in done if result.strikes]
    converged = [result for result in struck if not result.problems]
    figures = {
        "points_found": {str(place): len(found) for place, found in points.items()},
        "tried": len(done),
        "struck": len(struck),
        "not_reached": len(done) - len(struck),
        "passed": len(done) - len(failed),
        "converged_percent": 100 * len(converged) / max(1, len(struck)),
        "struck_by_way": counted(r.death.how for r in struck),
        "second_strikes": sum(r.strikes > 1 for r in done),
        "struck_by_plan": counted(r.death.place.plan for r in struck),
        "struck_by_place": counted(where(r.death.place) for r in struck),
        "longest_seconds": round(max((result.seconds for result in done), default=0)),
        "seed": seed,
    }
    record("crash_points", **figures)
    keep("crash_points", [sample for result in done for sample in result.samples])
    for name, value in figures.items():
        print(f"{name:18} {value}")
    return 1 if failed or not struck else 0


def where(place: Place) -> str:
    return f"{place.provider}/{place.database}"


def counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
