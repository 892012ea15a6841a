"""The figures: each is computed from a history in which it is known."""

from dataclasses import replace

import pytest

from tests.invariants import Evidence
from tests.prove import measure
from tests.test_invariants import LABEL, added, at, changed, clean, event

CLOCK = 20


def history() -> Evidence:
    """The clean one, with all that figures are made of."""
    seen = clean()
    more = {"outcome": "created", "answered_at": at(3), "destroy_accepted_at": at(50.2)}
    attempt = {**seen.attempts[0], **more, "first_absence_at": at(52)}
    results = [
        event("provider.create.result", 3, label=LABEL, data={"outcome": "created"}),
        event("provider.destroy.result", 50.2, label=LABEL, data={"outcome": "accepted"}),
        event("attempt.gone", 60, label=LABEL),
    ]
    session = {**seen.sessions[0], "provider": "vastai"}
    machine = {**seen.ledger[0], "disk_rate": 0.1, "gpu_seconds": 46, "price_per_hour": 1}
    machine["billed_usd"] = (46 + 0.1 * 2) / 3600
    moves = [{**e, "at": at(49)} if e["data"].get("to") == "stopping" else e for e in seen.audit]
    ledger = [machine, seen.ledger[1]]
    return replace(
        seen, ledger=ledger, attempts=[attempt], sessions=[session], audit=[*moves, *results]
    )


def lost(resolution: str) -> Evidence:
    """The answer to the create was lost; found by its label, or called "not created"."""
    seen = history()
    attempt = {**seen.attempts[0], "outcome": "unknown", "answered_at": at(4)}
    audit = [e for e in seen.audit if e["action"] != "provider.create.result"]
    audit += [event(f"attempt.{resolution}", 14, label=LABEL)]
    return replace(seen, attempts=[attempt], audit=audit)


def one(seen: Evidence, **more: object) -> measure.Sample:
    [sample] = measure.samples(seen, clock=CLOCK, **more)
    return sample


def seconds(seen: Evidence, name: str) -> list[float]:
    return one(seen).series.get(name, [])


def test_a_clean_history_in_figures() -> None:
    sample = one(history(), database="postgresql")
    assert (sample.provider, sample.database) == ("vastai", "postgresql")
    expected = {
        "runs": 1, "instances": 1, "leaked": 0, "foreign": 1, "foreign_destroyed": 0,
        "duplicates_kept": 0, "unknown": 0, "unknown_alive": 0, "adopted": 0,
        "wire": 2, "wire_matched": 2, "claims": 2, "claims_matched": 2,
    }  # fmt: skip
    assert sample.counts == expected
    assert sample.series["stop"] == [11 * CLOCK]
    assert measure.match_percent(sample) == 100


@pytest.mark.parametrize(
    ("change", "leaked"),
    [
        (changed("ledger", 0, gone_at=None), 0),  # until the last thing that is known
        (changed("ledger", 0, gone_at=at(70)), 10),
        (changed("ledger", 0, label="gb1-unknown"), 48),
    ],
)
def test_leaks_and_how_long_they_were_billed(change, leaked: float) -> None:
    sample = one(change(history()))
    assert sample.counts["leaked"] == 1
    assert sample.series["leaked_seconds"] == [leaked * CLOCK]
    assert sample.series["leaked_usd"] == pytest.approx([leaked / 3600])


def test_others_that_are_gone_or_aimed_at() -> None:
    for change in (changed("ledger", 1, gone_at=at(9)), changed("wire", 1, instance_id="8")):
        assert one(change(history())).counts["foreign_destroyed"] == 1


def test_a_second_machine_that_lives_until_the_stop_was_kept() -> None:
    assert one(added("ledger", 0, instance_id="9")(history())).counts["duplicates_kept"] == 1
    early = added("ledger", 0, instance_id="9", gone_at=at(20))(history())
    assert one(early).counts["duplicates_kept"] == 0


def test_an_adopted_machine_costs_nothing_extra() -> None:
    sample = one(lost("adopted"))
    assert (sample.counts["unknown"], sample.counts["adopted"]) == (1, 1)
    assert sample.series["extra_billed"] == [0]
    assert sample.series["resolved"] == [10 * CLOCK]


def test_a_machine_that_turned_up_too_late_was_billed_in_vain() -> None:
    seen = lost("not_created")
    orphan = event("orphan.seen", 40, label=LABEL)
    attempt = {**seen.attempts[0], "resolved_at": at(14), "gone_at": None}
    sample = one(replace(seen, audit=[*seen.audit, orphan], attempts=[attempt]))
    assert (sample.counts["unknown_alive"], sample.counts["adopted"]) == (1, 0)
    assert sample.series["extra_billed"] == [48 * CLOCK]
    assert sample.series["orphan"] == [36 * CLOCK]  # 14 -> 50


def without(action: str):
    def change(seen: Evidence) -> Evidence:
        return replace(seen, audit=[e for e in seen.audit if e["action"] != action])

    return change


@pytest.mark.parametrize(
    ("change", "wire", "claims"),
    [
        (without("provider.destroy.intent"), 1, 2),
        (without("provider.create.result"), 2, 1),  # the proof of its absence closes it
        (lambda seen: replace(seen, wire=seen.wire[:1]), 1, 1),
        (changed("wire", 1, at=at(51), done_at=at(51)), 2, 1),  # answered before it was asked
        (added("wire", 1, at=at(55), done_at=at(55)), 2, 2),  # a destroy that nobody intended
    ],
)
def test_the_wire_and_the_audit_against_each_other(change, wire: int, claims: int) -> None:
    counts = one(change(history())).counts
    assert (counts["wire_matched"], counts["claims_matched"]) == (wire, claims)


def test_a_refused_or_lost_answer_claims_no_request() -> None:
    results = [
        event("provider.destroy.result", 48, label=LABEL, data={"outcome": "retry"}),
        event("provider.attach.result", 9, label=LABEL, data={"problem": "no answer"}),
    ]
    seen = history()
    assert one(replace(seen, audit=[*seen.audit, *results])).counts["claims"] == 2


def test_the_error_of_our_cost_beyond_the_boot() -> None:
    """$1 an hour, asked for at 1, there from 2, its GPU from 4, destroyed at 50."""
    sample = one(history())
    assert sample.series["cost_real"] == pytest.approx([0.2])  # the destroy was answered at 50.2
    assert sample.series["cost_usd"] == pytest.approx([0.2 / 3600])
    assert "cost_percent" not in sample.series  # billed too shortly
    late = changed("attempts", 0, destroy_accepted_at=at(60))(history())
    assert one(late).series["cost_real"] == pytest.approx([10])
    more = changed("ledger", 0, billed_usd=100 / 3600)(history())
    assert one(more).series["cost_percent"] == pytest.approx([53.6])  # 100 - 46.2 - 0.2
    assert "cost_usd" not in one(late, fair=False).series


def test_recovery_ends_with_the_next_thing_on_record() -> None:
    sample = one(history(), kills=[at(49.5), at(70)])
    assert sample.series["recovery_real"] == pytest.approx([0.7])


def test_each_marketplace_has_a_sample_of_its_own() -> None:
    seen = added("attempts", 0, provider="tensordock", label="other", session_id="t")(history())
    names = [sample.provider for sample in measure.samples(seen, clock=1)]
    assert names == ["tensordock", "vastai"]


def test_totals_by_marketplace_and_database_and_of_all() -> None:
    first = one(history())
    totals = measure.totals([first, replace(first, database="postgresql"), first])
    assert sorted(totals) == ["all", "vastai/postgresql", "vastai/sqlite"]
    assert totals["all"].counts["runs"] == 3 and len(totals["all"].series["stop"]) == 3
    assert measure.figures(totals["vastai/sqlite"])["stop"] == {
        "n": 2, "p50": 220, "p99": 220, "max": 220,
    }  # fmt: skip


def test_percentiles_are_values_that_were_measured() -> None:
    assert measure.percentile(range(1, 101), 50) == 50
    assert measure.percentile([3, 1, 2], 99) == 3
    assert measure.percentile([7], 50) == 7
