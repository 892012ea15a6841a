"""make prove: the whole safety programme, its figures in var/prove.json (safety.md 6.11).

python -m tests.prove [PART ...]      PROVE=full for every crash point and more of everything
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

from tests.prove import measure
from tests.prove.figures import HALVES, kept, table
from tests.prove.measure import totals

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "var" / "prove.json"
FULL = os.environ.get("PROVE") == "full"
SEED = int(os.environ.get("PROVE_SEED", "0")) or SystemRandom().randrange(1, 10**6)
LAST = 19  # of the priorities
GROUP = Path("/proc/self/autogroup")  # of a session's processes, where the kernel has such groups
ENDED = 128 + signal.SIGTERM  # exit code of a keeper that was told to end
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
ALONE, SIDE_BY_SIDE = ("-p", "no:xdist"), ("-n", "2", "--dist", "loadgroup")
PLAYS = "tests/prove/test_machine.py::test_whatever_happens_all_ends_well"
CROWD = ("tests/e2e/test_many.py", "tests/e2e/test_kills.py")
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


@dataclass(frozen=True)
class Done:
    """`cpu_seconds`: of all its processes."""

    name: str
    code: int
    seconds: float
    cpu_seconds: float


@dataclass
class Programme:
    """The keepers of the parts that run, and the directory of their figures."""

    figures: Path
    keepers: list[subprocess.Popen] = field(default_factory=list)


def parts(full: bool = FULL) -> list[Part]:
    """Whole processes wait most of the time, but have deadlines: one such part after another.

    What only computes fills what these leave, the longest first, and so does not end last.
    """
    schedules = "1000000" if full else "100000"
    seed = ("--seed", str(SEED))
    return [
        *(Part(f"hypothesis_{half}", (*PYTEST, *ALONE, f"{PLAYS}[{half}]"), patient=True)
          for half in HALVES),
        Part("interleavings", (*PYTEST, *ALONE, "tests/prove/test_interleavings.py"), patient=True),
        Part("mutants", ("-m", "tests.prove.run_mutants"), patient=True),
        Part("model", ("-m", "tests.prove.model", schedules, str(SEED)), patient=True),
        Part("decide", ("-m", "tests.prove.covered"), patient=True),
        Part("crash_points", ("-m", "tests.prove.crash_points", *seed, *(MANY if full else ()))),
        Part("fault_matrix", ("-m", "tests.prove.fault_matrix", *seed,
                              *(["--every"] if full else []))),
        *([Part("crowd", (*PYTEST, *SIDE_BY_SIDE, *CROWD))] if full else []),
        Part("queue_chaos", ("-m", "tests.prove.queue_chaos", str(SEED))),
        Part("drills", ("-m", "tests.prove.drills", "--seed", str(SEED),
                        *(["--full"] if full else []))),
    ]  # fmt: skip


def environment(figures: Path) -> dict[str, str]:
    return os.environ | {
        "PROVE_FIGURES": str(figures),
        "PROVE_SEED": str(SEED),
        "PROVE_SCHEDULES": "5000" if FULL else "100",
        "PROVE_EXAMPLES": "3000" if FULL else "300",
        "PROVE_STEPS": "100" if FULL else "60",
        "PROVE_LAUNCHES": "100",
        "PROVE_KILLS": "20",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # a thousand processes: none compiles Django anew
        "TMPDIR": str(scratch(figures)),
    }


def scratch(figures: Path) -> Path:
    """Where parts keep everything, so that nothing of it stays. The database server, under an
    account of its own, must get through."""
    directory = figures / "scratch"
    for each in (figures, directory):
        each.mkdir(exist_ok=True)
        each.chmod(0o711)
    return directory


def run(part: Part, programme: Programme) -> Done:
    began = time.monotonic()
    log, used = (programme.figures / f"{part.name}.{kind}" for kind in ("log", "cpu"))
    keeper = [sys.executable, "-m", "tests.prove.keeper", str(used), sys.executable]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*keeper, *part.arguments], cwd=ROOT, env=environment(programme.figures),
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours alone
            preexec_fn=step_back if part.patient else None,
        )  # fmt: skip
    programme.keepers.append(process)
    code, seconds = process.wait(), time.monotonic() - began
    done = Done(part.name, code, seconds, float(used.read_text()) if used.exists() else 0)
    tell(done, log)
    return done


def step_back() -> None:
    """Within its session, and its session among the others."""
    os.nice(LAST)
    if GROUP.exists():
        GROUP.write_text(str(LAST))


def tell(done: Done, log: Path) -> None:
    word = {0: "ok", ENDED: "ended"}.get(done.code, "FAILED")
    print(f"{word:6} {done.name} in {done.seconds:.0f} s, processor {done.cpu_seconds:.0f} s",
          flush=True)  # fmt: skip
    if word == "FAILED":
        print(log.read_text(errors="replace")[-8000:])
        full = "PROVE=full " if FULL else ""
        print(f"again: {full}PROVE_SEED={SEED} make prove PROVE_PARTS={done.name}")


def run_all(chosen: list[Part], programme: Programme) -> list[Done]:
    """Whatever ends us ends the parts first."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        beside = [pool.submit(run, part, programme) for part in chosen if part.patient]
        try:
            done = [run(part, programme) for part in chosen if not part.patient]
            return done + [each.result() for each in beside]
        except BaseException:
            for each in beside:
                each.cancel()
            for keeper in programme.keepers:
                keeper.terminate()
            for keeper in programme.keepers:
                keeper.wait()
            raise


def main(names: list[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = [part for part in parts() if not names or part.name in names]
    print(f"PROVE_SEED={SEED}", flush=True)
    with tempfile.TemporaryDirectory(prefix="prove-") as name:
        programme = Programme(Path(name))
        done = run_all(chosen, programme)
        report, runs = gathered(programme.figures, done), kept(programme.figures)
    report["measured"] = {name: measure.figures(each) for name, each in totals(runs).items()}
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report, runs))
    print(json.dumps(report, indent=2))
    return 1 if any(each.code for each in done) else 0


def gathered(figures: Path, done: list[Done]) -> dict[str, object]:
    found: dict[str, object] = {"seed": SEED, "full": FULL, "note": SIMULATED}
    for each in done:
        path = figures / f"{each.name}.json"
        own = json.loads(path.read_text()) if path.exists() else {}
        spent = {"seconds": round(each.seconds), "cpu_seconds": round(each.cpu_seconds)}
        found[each.name] = {"passed": each.code == 0, **spent, **own}
    return found


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
