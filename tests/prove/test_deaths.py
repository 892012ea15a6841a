"""What the crash points and the matrix choose, and the commands that repeat a failure."""

import random
import shlex
import signal
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from sessions import reconcile
from tests.prove import crash_hook, crash_points, deaths, fault_matrix, runs
from tests.prove.deaths import Death, Place
from tests.prove.matrix import cells
from tests.prove.nursery import Nursery

PLACES = deaths.places([], [], [])
POINTS = {place: [f"before {n}#1" for n in range(50)] for place in PLACES}


def test_all_plans_meet_all_marketplaces_and_databases() -> None:
    assert len(PLACES) == len(set(PLACES)) == 12
    found = deaths.singles(POINTS, 24, random.Random(1))
    assert set(Counter(death.place for death in found).values()) == {2}
    assert len({(death.place, death.point) for death in found}) == 24


def test_without_a_sample_every_point_is_tried() -> None:
    found = deaths.singles(POINTS, 0, random.Random(1))
    assert [(d.place, d.point) for d in found] == [
        (p, at) for p, ats in POINTS.items() for at in ats
    ]


def test_more_than_there_are_is_all_there_are() -> None:
    few = {PLACES[0]: ["a#1", "b#1"], PLACES[1]: [], PLACES[2]: ["c#1"]}
    assert len(deaths.spread(few, "kill", 99, random.Random(1))) == 3


def test_a_second_death_comes_in_what_is_left_of_a_main_plan() -> None:
    for death in deaths.pairs(POINTS, 100, random.Random(1)):
        assert death.place.plan in deaths.PAIRED
        assert 1 <= death.then <= 50 - POINTS[death.place].index(death.point)


def test_what_is_done_now_and_then_is_not_sampled_at_its_very_end() -> None:
    often = [f"often#{n}" for n in range(1, 101)]
    assert deaths.likely([*often, "once#1"]) == [*often[:60], "once#1"]


def test_a_pause_is_three_leases() -> None:
    lease = max(reconcile.CLAIM_AT_LEAST, reconcile.CLAIM_SECONDS / runs.CLOCK)
    assert 3 * lease <= deaths.PAUSE


@pytest.mark.parametrize("how", deaths.WAYS)
def test_the_command_repeats_that_death(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(plan="lost", provider="tensordock", database="postgresql")
    then = 17 if how == "pair" else 0
    death = Death(place=place, how=how, point="after POST /api/vN/x body#2", then=then)
    words = shlex.split(death.again)
    assert words[:3] == ["python", "-m", "tests.prove.crash_points"]
    monkeypatch.setattr(sys, "argv", words[2:])
    again = crash_points.read_options()
    [where] = deaths.places(again.plan, again.provider, again.database)
    assert Death(place=where, how=again.how, point=again.at, then=again.then) == death


def test_every_step_meets_every_database() -> None:
    every = [cell for name in runs.PROVIDERS for cell in cells(name)]
    played = fault_matrix.dealt(every, list(runs.DATABASES), seed=1)
    assert sorted(cell.name for cell, _ in played) == sorted(cell.name for cell in every)
    met = {(cell.provider, cell.step, database) for cell, database in played}
    steps = {cell.step for cell in every}
    assert met == set(product(runs.PROVIDERS, steps, runs.DATABASES))


def test_a_cell_is_dealt_another_database_by_another_seed() -> None:
    every = list(cells("vastai"))
    first, second = (dict(fault_matrix.dealt(every, list(runs.DATABASES), s)) for s in (1, 2))
    assert first != second


def test_the_command_repeats_that_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    [cell] = [cell for cell in cells("vastai") if cell.name == "vastai/running/*/drop"]
    words = shlex.split(fault_matrix.Result(cell, "postgresql").again)
    monkeypatch.setattr(sys, "argv", words[2:])
    options = fault_matrix.read_options()
    assert (options.provider, options.database) == (["vastai"], ["postgresql"])
    assert [c for c in cells("vastai") if options.only in c.name] == [cell]


@pytest.mark.parametrize("at", ["before commit#2", "#3"])
def test_a_process_is_struck_once_by_name_or_by_number(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck: list[str] = []
    monkeypatch.setenv("CRASH_AT", at)
    monkeypatch.setattr(crash_hook, "passed", Counter())
    monkeypatch.setattr(crash_hook, "strike", lambda how: struck.append(how))
    names = ["before commit", "before own headers", "after commit", "before commit", "before ssh"]
    passed = [bool(crash_hook.hit(name) or struck) for name in names]
    assert passed == [False, False, False, True, True]
    assert struck == ["kill"]


def test_a_child_tells_how_it_ended(tmp_path: Path) -> None:
    (tmp_path / "it.json").write_text("{}")
    place = {"environment": {}, "directory": tmp_path, "log": tmp_path / "log"}
    with Nursery() as nursery:
        good = nursery.start("json.tool", "it.json", **place)  # type: ignore[arg-type]
        bad = nursery.start("json.tool", "nothing.json", **place)  # type: ignore[arg-type]
        endless = nursery.start("http.server", "0", "--bind", "127.0.0.1", **place)  # type: ignore[arg-type]
        assert (good.wait(60), bad.wait(60)) == (0, 2)
        endless.signal(signal.SIGKILL)
        assert endless.wait(60) == -signal.SIGKILL
        endless.kill()  # once more does nothing
    assert "{}" in (tmp_path / "log").read_text()
