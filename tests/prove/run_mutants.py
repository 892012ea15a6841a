"""Does the net catch fish? Each seeded bug in a copy of the tree, against its own tests.

python -m tests.prove.run_mutants            all of them, two at a time
python -m tests.prove.run_mutants NAME ...   only these
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue

from tests.prove.figures import record
from tests.prove.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".*", "var", "bench", "__pycache__", "node_modules", "*.egg-info")
KILLED, ALIVE = 1, 0  # pytest: a test failed; all passed. Anything else is a broken mutant.
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_django.plugin")
LEAN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # a fifth of what a mutant costs
SECONDS, SECONDS_CLEAN = 300, 1200  # for one mutant's tests, for all of them


@dataclass(frozen=True)
class Verdict:
    mutant: Mutant
    code: int
    seconds: float
    output: str

    @property
    def killed(self) -> bool:
        return self.code == KILLED


def copy_tree(directory: Path) -> Path:
    ignored = shutil.ignore_patterns(*LEFT_OUT)
    return Path(shutil.copytree(ROOT, directory / "tree", ignore=ignored))


def seed(mutant: Mutant, text: str) -> str:
    """The text with the bug in it; ValueError when the mutant does not fit any more."""
    if text.count(mutant.old) != 1 or mutant.old == mutant.new:
        raise ValueError(f"{mutant.name}: {text.count(mutant.old)} places in {mutant.file}")
    return text.replace(mutant.old, mutant.new)


def run_tests(tree: Path, tests: Iterable[str], seconds: float = SECONDS) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", *OPTIONS, *tests]
    done = subprocess.run(
        command, cwd=tree, env=os.environ | LEAN, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=seconds,
    )  # fmt: skip
    return done.returncode, done.stdout[-3000:] + done.stderr[-1000:]


def write(path: Path, text: str) -> None:
    """What was compiled of the text before must not be taken for this one's."""
    path.write_text(text)
    Path(cache_from_source(path)).unlink(missing_ok=True)


def judge(mutant: Mutant, tree: Path) -> Verdict:
    """In a tree that is clean before and after."""
    path, started = tree / mutant.file, time.monotonic()
    text = path.read_text()
    write(path, seed(mutant, text))
    try:
        code, output = run_tests(tree, mutant.tests)
    finally:
        write(path, text)
    return Verdict(mutant, code, time.monotonic() - started, output)


def judge_all(mutants: Iterable[Mutant], workers: int = 2) -> list[Verdict]:
    """First the tests on clean trees: a test that fails anyway kills nothing."""
    mutants = list(mutants)
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(workers):
            (Path(directory) / str(number)).mkdir()
            trees.put(copy_tree(Path(directory) / str(number)))
        tree = trees.get()
        every = sorted({test for mutant in mutants for test in mutant.tests})
        code, output = run_tests(tree, every, SECONDS_CLEAN)
        trees.put(tree)
        if code:
            raise SystemExit(f"the tests fail without any mutant:\n{output}")

        def one(mutant: Mutant) -> Verdict:
            tree = trees.get()
            try:
                return judge(mutant, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, mutants))


def main(names: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    verdicts = judge_all(chosen)
    for verdict in verdicts:
        word = "killed" if verdict.killed else "ALIVE" if verdict.code == ALIVE else "BROKEN"
        print(
            f"{word:7} {verdict.mutant.invariant:4} {verdict.mutant.name} {verdict.seconds:.1f} s"
        )
        if not verdict.killed:
            print(verdict.output)
    killed = sum(verdict.killed for verdict in verdicts)
    print(f"mutants: {killed} of {len(verdicts)} killed")
    alive = [verdict.mutant.name for verdict in verdicts if not verdict.killed]
    record("mutants", killed=killed, total=len(verdicts), alive=alive)
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
