"""make prove: the whole safety programme, its figures in var/prove.json (safety.md 6.11).

python -m tests.prove [PART ...]      PROVE=full for every crash point and more of everything
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from tests.prove import measure
from tests.prove.figures import kept, table
from tests.prove.measure import totals

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "var" / "prove.json"
FULL = os.environ.get("PROVE") == "full"
SEED = int(os.environ.get("PROVE_SEED", "0")) or SystemRandom().randrange(1, 10**6)
LAST = 19  # of the priorities
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist")
MANY = (  # deaths in the full form: at every point, and so many others
    "--sample=0", "--pairs=600", "--alls=120", "--pauses=120", "--alarms=120", "--syscalls=120"
)  # fmt: skip
SIMULATED = (
    "The marketplaces are simulated from their public documentation; nothing here was measured "
    "on a real one."
)


@dataclass(frozen=True)
class Part:
    name: str
    arguments: tuple[str, ...]
    patient: bool = False  # computes only: at the lowest priority, beside the others


def parts() -> list[Part]:
    """Whole processes wait most of the time, but have deadlines: one such part after another."""
    schedules = "1000000" if FULL else "100000"
    seed = ("--seed", str(SEED))
    return [
        Part("model", ("-m", "tests.prove.model", schedules, str(SEED)), patient=True),
        Part("interleavings", (*PYTEST, "tests/prove/test_interleavings.py"), patient=True),
        Part("hypothesis", (*PYTEST, "tests/prove/test_machine.py"), patient=True),
        Part("mutants", ("-m", "tests.prove.run_mutants")),
        Part("decide", ("-m", "tests.prove.covered")),
        Part("crash_points", ("-m", "tests.prove.crash_points", *seed, *(MANY if FULL else ()))),
        Part("fault_matrix", ("-m", "tests.prove.fault_matrix", *seed,
                              *(["--every"] if FULL else []))),
        Part("crowd", (*PYTEST, "tests/e2e/test_many.py", "tests/e2e/test_kills.py")),
        Part("queue_chaos", ("-m", "tests.prove.queue_chaos", str(SEED))),
        Part("drills", ("-m", "tests.prove.drills", "--seed", str(SEED),
                        *(["--full"] if FULL else []))),
    ]  # fmt: skip


def environment(figures: str) -> dict[str, str]:
    return os.environ | {
        "PROVE_FIGURES": figures,
        "PROVE_SEED": str(SEED),
        "PROVE_SCHEDULES": "5000" if FULL else "300",
        "PROVE_EXAMPLES": "3000" if FULL else "300",
        "PROVE_STEPS": "100" if FULL else "60",
        "PROVE_LAUNCHES": "100",
        "PROVE_KILLS": "20",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def run(part: Part, figures: str) -> tuple[str, int, float]:
    began = time.monotonic()
    log = Path(figures) / f"{part.name}.log"
    with log.open("wb") as file:
        code = subprocess.run(
            [sys.executable, *part.arguments], cwd=ROOT, env=environment(figures),
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            preexec_fn=(lambda: os.nice(LAST)) if part.patient else None,
        ).returncode  # fmt: skip
    seconds = time.monotonic() - began
    print(f"{'ok' if code == 0 else 'FAILED':6} {part.name} in {seconds:.0f} s", flush=True)
    if code:
        print(log.read_text(errors="replace")[-8000:])
        full = "PROVE=full " if FULL else ""
        print(f"again: {full}PROVE_SEED={SEED} make prove PROVE_PARTS={part.name}")
    return part.name, code, seconds


def main(names: list[str]) -> int:
    chosen = [part for part in parts() if not names or part.name in names]
    print(f"PROVE_SEED={SEED}", flush=True)
    with tempfile.TemporaryDirectory(prefix="prove-") as figures:
        with ThreadPoolExecutor(1) as pool:
            beside = [part for part in chosen if part.patient]
            coming = pool.map(lambda part: run(part, figures), beside)
            done = [run(part, figures) for part in chosen if not part.patient]
            done += coming
        report, runs = gathered(Path(figures), done), kept(Path(figures))
    report["measured"] = {name: measure.figures(each) for name, each in totals(runs).items()}
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report, runs))
    print(json.dumps(report, indent=2))
    return 1 if any(code for _, code, _ in done) else 0


def gathered(figures: Path, done: list[tuple[str, int, float]]) -> dict[str, object]:
    found: dict[str, object] = {"seed": SEED, "full": FULL, "note": SIMULATED}
    for name, code, seconds in done:
        path = figures / f"{name}.json"
        own = json.loads(path.read_text()) if path.exists() else {}
        found[name] = {"passed": code == 0, "seconds": round(seconds), **own}
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
