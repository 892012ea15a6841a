"""Every seeded bug still fits its file exactly once, names real tests, and its own invariant."""

import re

import pytest

from tests.prove.mutants import MUTANTS, Mutant
from tests.prove.run_mutants import ROOT, seed


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits(mutant: Mutant) -> None:
    changed = seed(mutant, (ROOT / mutant.file).read_text())
    compile(changed, mutant.file, "exec")
    assert re.fullmatch(r"I([1-9]|1[0-9]|2[0-7])", mutant.invariant)
    for test in mutant.tests:
        path, *names = test.split("::")
        text = (ROOT / path).read_text()
        assert all(re.search(rf"^\s*(def|class) {name}\b", text, re.M) for name in names), test


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30
