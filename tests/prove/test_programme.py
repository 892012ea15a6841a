"""What only `make prove` runs can still be loaded, and the fast part of it runs here as well."""

import importlib
from pathlib import Path

import pytest

from tests.prove import model

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_the_programme_loads(name: str) -> None:
    importlib.import_module(f"tests.prove.{name}")


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
