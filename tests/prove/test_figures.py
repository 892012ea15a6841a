"""The table at the end of `make prove`: what is there is told, what is not is left out."""

from pathlib import Path

import pytest

from tests.prove import covered, figures
from tests.prove.test_measure import history, one

DRILLS = {
    "drills": 11, "passed": 11, "tampered": 900, "tampered_found": 900, "raw_changes": 18,
    "raw_changes_refused": 18, "wrong_state_changes": 0, "mutating_requests": 0, "looks": 120,
    "still_billing": 120, "canary_hits": 0, "canaries": 30,
    "alert_seconds": {"n": 15, "p50": 48.2, "p99": 99.1, "max": 99.1},
}  # fmt: skip


def cells(text: str) -> dict[str, str]:
    """What -> value."""
    rows = [row.split("  ", 1) for row in text.splitlines() if "  " in row]
    return {what: rest.strip().split("  ")[0] for what, rest in rows}


def test_parts_and_runs_in_one_table() -> None:
    report = {"mutants": {"total": 36, "killed": 35}, "drills": DRILLS}
    told = cells(figures.table(report, [one(history())]))
    assert told["mutants killed"] == "35 of 36"
    assert told["trouble until the alert"] == "p50 48, p99 99, max 99 s (n=15)"
    assert told["leaked instances"] == "0 of 1"
    assert told["wire and audit match"] == "100.00 % of 2 requests, 2 answers"
    assert told["orphan until it is gone"] == "none"
    assert told["the same in seconds of the price"] == "p50 0.2, p99 0.2, max 0.2 s real (n=1)"


def test_what_did_not_run_is_left_out() -> None:
    told = cells(figures.table({"seed": 1, "model": {"passed": True}, "drills": {}}, []))
    assert told == {"what": "value"}


def test_samples_come_back_as_they_were_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVE_FIGURES", str(tmp_path))
    figures.keep("drills", [one(history())])
    assert figures.kept(tmp_path) == [one(history())]


def test_lines_that_run_are_told_from_those_that_do_not(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "def f(x):\n    if x:\n        return 1\n    return 2\n\n\nclass A:\n    b = 1\n"
    )
    names: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    assert covered.lines_of(path) == {2, 3, 4}
    assert covered.ran(path, lambda: names["f"](0)) == {2, 4}
