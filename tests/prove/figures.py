"""What was measured, kept for `make prove`: one JSON object a part, in the directory it names."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.prove import measure
from tests.prove.measure import Sample

HALVES = (1, 2)  # of the state machine's plays, side by side; each is a part of its own


def record(part: str, **figures: object) -> None:
    """Nothing is written in an ordinary test run."""
    directory = os.environ.get("PROVE_FIGURES")
    if directory:
        text = json.dumps(figures, indent=1, sort_keys=True, default=str)
        (Path(directory) / f"{part}.json").write_text(text + "\n")


def keep(part: str, found: Iterable[Sample]) -> None:
    """The samples of a part's runs, for the figures over all parts."""
    directory = os.environ.get("PROVE_FIGURES")
    if directory:
        path = Path(directory) / f"{part}.samples"
        path.write_text(json.dumps([sample.dump() for sample in found]))


def kept(directory: Path) -> list[Sample]:
    """Of all parts."""
    paths = sorted(directory.glob("*.samples"))
    return [Sample(**each) for path in paths for each in json.loads(path.read_text())]


Line = tuple[str, str, str]  # what, value, target
PARTS = {  # part -> what, key of the number of all, key of those that held
    "mutants": [("mutants killed", "total", "killed")],
    "decide": [("lines of decide() that its tests run", "lines", "covered")],
    "crash_points": [("crash points converged", "tried", "passed")],
    "fault_matrix": [("cells of the fault matrix passed", "played", "passed")],
    "drills": [
        ("drills passed", "drills", "passed"),
        ("changes of an audit copy found", "tampered", "tampered_found"),
        ("raw changes of the audit refused", "raw_changes", "raw_changes_refused"),
    ],
}


def table(report: Mapping[str, object], found: Iterable[Sample]) -> str:
    """safety.md 6.11 for people. What did not run is left out."""
    groups = measure.totals(found)
    whole = groups.pop(measure.ALL, None)
    lines = [("what", "value", "target"), *of_parts(report), *(of_runs(whole) if whole else ())]
    first, second = (max(len(line[column]) for line in lines) for column in (0, 1))
    rows = [f"{what:{first}}  {value:{second}}  {target}".rstrip() for what, value, target in lines]
    runs = ", ".join(f"{name} {group.counts['runs']}" for name, group in groups.items())
    foot = [f"Runs judged: {runs}. Seconds are simulated unless they are called real."]
    return "\n".join(rows + (foot if runs else []))


def of_parts(report: Mapping[str, object]) -> Iterator[Line]:
    for name, lines in PARTS.items():
        part = dict(report.get(name) or {})
        for what, whole, good in lines:
            if whole in part:
                yield what, f"{part[good]} of {part[whole]}", "all"
    if "drills" in dict(report.get("drills") or {}):
        yield from of_drills(dict(report["drills"]))


def of_drills(part: Mapping[str, object]) -> Iterator[Line]:
    yield "wrong state changes in the drills", str(part["wrong_state_changes"]), "0"
    yield "mutating requests in the drills", str(part["mutating_requests"]), "0"
    yield "trouble until the alert", words(part["alert_seconds"]), "max 120 s"
    yield "pages that said “still billing”", of(part["still_billing"], part["looks"]), "all"
    yield "secrets found", of(part["canary_hits"], part["canaries"]), "0"


def of_runs(whole: Sample) -> Iterator[Line]:
    count = whole.counts
    yield "leaked instances", of(count["leaked"], count["instances"]), "0"
    seconds, usd = (sum(whole.series.get(f"leaked_{name}", ())) for name in ("seconds", "usd"))
    yield "leaked time and money", f"{seconds:.0f} s, {usd:.4f} USD", "0"
    yield "others' instances harmed", of(count["foreign_destroyed"], count["foreign"]), "0"
    yield "duplicate creates kept", str(count["duplicates_kept"]), "0"
    for what, name, target in SPREADS:
        yield what, words(spread(whole, name)), target
    yield "such machines adopted", of(count["adopted"], count["unknown_alive"]), "early ones"
    many = f"{count['wire']} requests, {count['claims']} answers"
    yield "wire and audit match", f"{measure.match_percent(whole):.2f} % of {many}", "100 %"
    yield "cost off the ledger, billed a minute", words(spread(whole, "cost_percent"), "%"), "1 %"
    yield "cost off the ledger, all", words(spread(whole, "cost_usd"), "USD", 6), "a minute's"
    yield "the same in seconds of the price", words(spread(whole, "cost_real"), "s real", 1), "60"


SPREADS = (
    ("billed in vain after a lost answer", "extra_billed", "bounded"),
    ("orphan until it is gone", "orphan", ""),
    ("stop until it is gone for certain", "stop", ""),
    ("unknown outcome until it is known", "resolved", ""),
    ("kill -9 until the next step, real", "recovery_real", "max 300 s"),
)


def of(part: object, whole: object) -> str:
    return f"{part} of {whole}"


def spread(sample: Sample, name: str) -> Mapping[str, float]:
    return measure.spread(sample.series[name]) if name in sample.series else {}


def words(found: object, unit: str = "s", digits: int = 0) -> str:
    """Of what measure.spread says; empty = nothing of that kind happened."""
    each = dict(found or {})  # type: ignore[call-overload]
    if not each:
        return "none"
    digits = digits or (2 if unit == "%" else 0)
    p50, p99, most = (f"{each[name]:.{digits}f}" for name in ("p50", "p99", "max"))
    return f"p50 {p50}, p99 {p99}, max {most} {unit} (n={each['n']})"
