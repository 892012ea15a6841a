"""Every cell of the fault matrix against real processes, HTTP, SSH and a ledger (safety.md 6.3).

A cell is one session with a database and a simulator of its own; several run side by side.
With more than one database each cell of each provider meets one of them, dealt by the seed so
that every step meets all; --every: each cell meets each database. A failure prints the one
command that repeats it.

Safety is judged at once. An end other than the expected one, with all invariants kept, may come
of a starved machine: rules run on a fast clock, the simulated machines' shells do not. Such a cell
is played once more beside one other, its name is told in the figures, and that game counts.
"""

import argparse
import random
import sys
import time
import traceback
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.invariants import Evidence
from tests.prove.figures import keep, record
from tests.prove.matrix import LONG, Cell, cells
from tests.prove.measure import Sample, samples
from tests.prove.runs import AT_ONCE, CLOCK, DATABASES, PROVIDERS, Run, Yard

SLACK = 0.5  # seconds between posting a fault and asking to stop
SURPRISES = 40  # more than these are no accident, and are not played again
WORDS = ("offer_gone", "no_funds", "auth", "invalid", "rate", "leftover")
NOT_BILLED = ("outbid", "offline", "vanish", "price_raised")  # for a while, or not at the rate
AGAIN = "python -m tests.prove.fault_matrix --provider {} --database {} --only '{}'"
Played = tuple[Cell, str]  # a cell and the database that it meets


@dataclass
class Result:
    """`surprise`: it ended otherwise than it should, and nothing else is wrong."""

    cell: Cell
    database: str
    problems: list[str] = field(default_factory=list)
    surprise: bool = False
    seconds: float = 0.0
    tail: str = ""
    samples: list[Sample] = field(default_factory=list)

    @property
    def again(self) -> str:
        return AGAIN.format(self.cell.provider, self.database, self.cell.name)


def play(cell: Cell, database: str, yard: Yard) -> Result:
    result, began = Result(cell, database), time.monotonic()
    fault = cell.body() | {"when": cell.when}
    try:
        with yard.run(cell.provider, database, [fault]) as run:
            live_and_judge(run, result)
    except Exception:  # one cell's trouble fails that cell; the others are judged as well
        result.problems.append(traceback.format_exc())
    result.seconds = time.monotonic() - began
    word = "FAILED" if result.problems else "ok"
    print(f"{word:6} {cell.name} {database} {result.seconds:.0f} s", *result.problems, flush=True)
    return result


def live_and_judge(run: Run, result: Result) -> None:
    cell = result.cell
    try:
        code = run.live(HOLD=str(hold(cell)))
        seen = run.seen()
        wrong = [f"exit code {code}"] * bool(code) + unsafe(cell, run, seen)
        result.problems = wrong + unexpected(cell, seen)
        result.surprise = bool(result.problems) and not wrong
        fair = cell.fault not in NOT_BILLED
        result.samples = samples(seen, clock=CLOCK, database=run.database, fair=fair)
    finally:
        result.tail = run.tail()


def hold(cell: Cell) -> float:
    """Seconds to leave it running."""
    patience = 600 if cell.reason == "vanished" else LONG + 10
    return patience / CLOCK if cell.step == "running" else 0


def unsafe(cell: Cell, run: Run, seen: Evidence) -> list[str]:
    # our cost cannot know of a machine that was not billed all the time, or not at its rate
    excused = "cost_agrees" if cell.fault in NOT_BILLED else ""
    return run.verdict(seen, excused) + closed_too_early(cell, seen)


def unexpected(cell: Cell, seen: Evidence) -> list[str]:
    [session] = seen.sessions
    ended = (session["state"], session["outcome"], session["reason"])
    wanted = ("ended", cell.outcome, cell.reason)
    wrong = [] if ended == wanted else [f"{ended}, not {cell.outcome} {cell.reason}"]
    return wrong + attempts_differ(cell, seen)


def attempts_differ(cell: Cell, seen: Evidence) -> list[str]:
    adopted = {e["label"] for e in seen.audit if e["action"] == "attempt.adopted"}
    words = [word_of(a, adopted) for a in sorted(seen.attempts, key=lambda a: a["number"])]
    if "rate" not in cell.attempts:  # a moment too early for the marketplace
        words = [word for word in words if word != "rate"]
    fits = not cell.attempts or words == list(cell.attempts)
    return [] if fits else [f"attempts {words}, not {list(cell.attempts)}"]


def word_of(attempt: dict, adopted: set[object]) -> str:
    if attempt["label"] in adopted:
        return "adopted"
    outcome = str(attempt["outcome"])
    return outcome if outcome in WORDS else str(attempt["resolution"])


def closed_too_early(cell: Cell, seen: Evidence) -> list[str]:
    """Nothing is called gone while the answers that could prove it are not to be had."""
    if cell.step != "confirm" or cell.fault == "empty_list":
        return []
    asked = next(
        e["at"] for e in seen.audit
        if e["action"] == "session.state" and e["data"]["to"] == "stopping"
    )  # fmt: skip
    waited = (seen.attempts[-1]["gone_at"] - asked).total_seconds()
    return [] if waited >= cell.seconds / CLOCK - SLACK else [f"closed after {waited:.1f} s"]


# -- which


def dealt(every: list[Cell], databases: list[str], seed: int) -> list[Played]:
    """Each cell meets one database; those of a step and provider are dealt evenly."""
    dice = random.Random(seed)
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in every:
        groups[cell.provider, cell.step].append(cell)
    found = []
    for group in groups.values():
        hand, first = dice.sample(group, len(group)), dice.randrange(len(databases))
        turns = (databases[(first + n) % len(databases)] for n in range(len(hand)))
        found += zip(hand, turns, strict=True)
    return found


def longest_first(played: list[Played], seed: int) -> list[Played]:
    """And mixed: many first boots of one marketplace at one moment would starve each other."""
    mixed = random.Random(seed).sample(played, len(played))
    return sorted(mixed, key=lambda each: -hold(each[0]))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.prove.fault_matrix", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--provider", choices=PROVIDERS, action="append", help="default: all")
    parser.add_argument("--database", choices=DATABASES, action="append", help="default: all")
    parser.add_argument("--every", action="store_true", help="each cell on each database")
    parser.add_argument("--only", default="", metavar="TEXT", help="cells whose name has it")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N")
    return parser.parse_args()


def main() -> int:
    options = read_options()
    databases = options.database or list(DATABASES)
    names = options.provider or PROVIDERS
    chosen = [cell for name in names for cell in cells(name) if options.only in cell.name]
    if options.every:
        played = [(cell, database) for cell in chosen for database in databases]
    else:
        played = dealt(chosen, databases, options.seed)
    with Yard(tuple(databases)) as yard:
        results = play_all(longest_first(played, options.seed), yard, options.at_once)
        again = [result for result in results if result.surprise]
        if len(again) <= SURPRISES:
            more = play_all([(r.cell, r.database) for r in again], yard, at_once=2)
            results = [result for result in results if result not in again] + more
    return report(results, again, options.seed)


def play_all(played: list[Played], yard: Yard, at_once: int) -> list[Result]:
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda each: play(*each, yard), played))


def report(results: list[Result], again: list[Result], seed: int) -> int:
    failed = [result for result in results if result.problems]
    for result in failed:
        print(f"FAILED {result.cell.name} {result.database}: {result.problems}\n{result.tail}")
        print("again:", result.again)
    covered = Counter(f"{result.cell.provider}/{result.database}" for result in results)
    figures = {
        "cells": len({result.cell.name for result in results}),
        "played": len(results),
        "passed": len(results) - len(failed),
        "played_again": [f"{result.cell.name} {result.database}" for result in again],
        "played_by_place": dict(sorted(covered.items())),
        "longest_seconds": round(max((result.seconds for result in results), default=0)),
        "seed": seed,
    }
    record("fault_matrix", **figures)
    keep("fault_matrix", [sample for result in results for sample in result.samples])
    for name, value in figures.items():
        print(f"{name:18} {value}")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
