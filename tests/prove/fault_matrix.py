"""Every cell of the fault matrix against real processes, HTTP, SSH and a ledger (safety.md 6.3).

    python -m tests.prove.fault_matrix [--provider vastai] [--only TEXT] [--at-once 6]

A cell is one session with a database and a simulator of its own; several run side by side.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests

from tests.invariants import Evidence, check_invariants
from tests.prove.crash_points import CLOCK, LABELS, Programme, Run
from tests.prove.figures import record
from tests.prove.matrix import LONG, Cell, cells
from tests.world import Template, make_template

PROVIDERS = ("vastai",)
SLACK = 0.5  # seconds between posting a fault and asking to stop
WORDS = ("offer_gone", "no_funds", "auth", "invalid", "rate", "leftover")
NOT_BILLED = ("outbid", "offline", "vanish", "price_raised")  # for a while, or not at the rate
AGAIN = "python -m tests.prove.fault_matrix --only '{}'"


@dataclass(frozen=True)
class Result:
    cell: Cell
    problems: list[str]
    seconds: float
    tail: str


def play(cell: Cell, programme: Programme) -> Result:
    began = time.monotonic()
    patience = 600 if cell.reason == "vanished" else LONG + 10
    hold = patience / CLOCK if cell.step == "running" else 0
    fault = cell.body() | {"when": cell.when}
    run = programme.run(
        cell.name, "", FAULTS=json.dumps([fault]), HOLD=str(hold), PROVIDER=cell.provider
    )
    try:
        run.prepare(programme.template)
        code = run.start()
        problems = [f"exit code {code}"] * bool(code) + judge(cell, run)
        run.clean_up()
    except (subprocess.TimeoutExpired, requests.RequestException, AssertionError) as error:
        problems = [f"{type(error).__name__}: {error}"]
    word = "FAILED" if problems else "ok"
    print(f"{word:6} {cell.name} {time.monotonic() - began:.0f} s", *problems, flush=True)
    return Result(cell, problems, time.monotonic() - began, run.tail() if problems else "")


def judge(cell: Cell, run: Run) -> list[str]:
    seen = run.evidence()
    wrong = [text for text in check_invariants(seen) if not excused(cell, text)]
    if len([row for row in seen.ledger if row["foreign"] and not row["gone_at"]]) != len(LABELS):
        wrong.append("a stranger is missing")
    wrong += [f"{row['label']} lives" for row in seen.ours() if row["gone_at"] is None]
    [session] = seen.sessions
    ended = (session["state"], session["outcome"], session["reason"])
    if ended != ("ended", cell.outcome, cell.reason):
        wrong.append(f"{ended}, not {cell.outcome} {cell.reason}")
    return wrong + attempts_differ(cell, seen) + closed_too_early(cell, session, seen)


def excused(cell: Cell, text: str) -> bool:
    """What our cost cannot know: a machine that was not billed all the time, or not at its rate."""
    return cell.fault in NOT_BILLED and text.startswith("cost_agrees")


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


def closed_too_early(cell: Cell, session: dict, seen: Evidence) -> list[str]:
    """Nothing is called gone while the answers that could prove it are not to be had."""
    if cell.step != "confirm" or cell.fault == "empty_list":
        return []
    asked = next(
        e["at"] for e in seen.audit
        if e["action"] == "session.state" and e["data"]["to"] == "stopping"
    )  # fmt: skip
    waited = (seen.attempts[-1]["gone_at"] - asked).total_seconds()
    return [] if waited >= cell.seconds / CLOCK - SLACK else [f"closed after {waited:.1f} s"]


def in_own_world(cell: Cell, directory: Path, template: Template) -> Result:
    """A simulator for each: sessions beside it would take the offers that it falls back to."""
    for place in ("first", "second"):  # a port that was free may be taken by the time it is used
        programme = Programme(directory / place, 2, template)
        with programme.simulator:
            try:
                programme.start()
            except AssertionError:
                continue
            return play(cell, programme)
    return Result(cell, ["no simulator came up"], 0, "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", choices=("vastai", "tensordock"), action="append")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--at-once", type=int, default=6)
    options = parser.parse_args()
    names = options.provider or PROVIDERS
    chosen = [cell for name in names for cell in cells(name) if options.only in cell.name]
    with tempfile.TemporaryDirectory(prefix="fault-matrix-") as directory:
        template = make_template(Path(directory))
        places = [Path(directory) / str(number) for number in range(len(chosen))]
        with ThreadPoolExecutor(options.at_once) as pool:
            play_it = partial(in_own_world, template=template)
            results = list(pool.map(play_it, chosen, places))
    return report(results)


def report(results: list[Result]) -> int:
    failed = [result for result in results if result.problems]
    for result in failed:
        print(f"FAILED {result.cell.name}: {result.problems}\n{result.tail}")
        print("again:", AGAIN.format(result.cell.name))
    passed = len(results) - len(failed)
    longest = round(max((result.seconds for result in results), default=0))
    record("fault_matrix", cells=len(results), passed=passed, longest_seconds=longest)
    print(f"fault matrix: {passed} of {len(results)} cells, the longest {longest} s")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
