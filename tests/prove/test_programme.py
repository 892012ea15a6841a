"""What only `make prove` runs can still be loaded, and the fast part of it runs here as well."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prove import model
from tests.prove.__main__ import parts
from tests.prove.matrix import cells

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith(("test_", "__init")))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_the_programme_loads(name: str) -> None:
    importlib.import_module(f"tests.prove.{name}")


def test_the_model_runs_without_any_application() -> None:
    command = [sys.executable, "-m", "tests.prove.model", "1", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_decide_stands_some_interleavings() -> None:
    figures = model.explore(300, seed=1)
    assert figures["sessions that ran"] > 30 and figures["second attempts"] > 30


def test_the_model_notices_a_second_create() -> None:
    """A net that catches nothing would prove nothing."""
    game = model.Game(1, processes=2)
    hand = model.Hand(0, model.State.CREATING, 1, None, "create", model.START)
    game.create(hand)
    with pytest.raises(model.Broken):
        game.create(hand)


def test_each_part_is_there() -> None:
    arguments = [argument for part in parts(full=True) for argument in part.arguments]
    modules = {argument.split(".")[-1] for argument in arguments}
    files = {Path(argument.split("::")[0]).name for argument in arguments}
    assert {
        "run_mutants",
        "model",
        "crash_points",
        "fault_matrix",
        "queue_chaos",
        "drills",
        "covered",
    } <= modules
    assert {"test_interleavings.py", "test_machine.py", "test_many.py", "test_kills.py"} <= files


@pytest.mark.parametrize("provider", ["vastai", "tensordock"])
def test_the_cells_of_the_matrix_have_names_of_their_own(provider: str) -> None:
    found = list(cells(provider))
    assert len({cell.name for cell in found}) == len(found) > 60
