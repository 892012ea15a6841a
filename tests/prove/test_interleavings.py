"""Seeded schedules of several processes: whatever their order, nothing leaks and all ends well.

PROVE_SEED=123 PROVE_SCHEDULES=1 pytest tests/prove/test_interleavings.py   repeats one
"""

import os
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from tests.prove.chaos import Chaos
from tests.prove.figures import record

SCHEDULES = int(os.environ.get("PROVE_SCHEDULES", "15"))
SEED = int(os.environ.get("PROVE_SEED", "1"))
STEPS, SESSIONS = 150, 2
REPEAT = "PROVE_SEED={} PROVE_SCHEDULES=1 pytest tests/prove/test_interleavings.py"


def run(seed: int, patch: pytest.MonkeyPatch) -> Counter[str]:
    dice = Random(seed)
    with Chaos(dice).installed(patch) as chaos:
        for _ in range(SESSIONS):
            chaos.launch()
        for _ in range(dice.randrange(3)):
            chaos.fault(dice.choice(sorted(FIRST_FAULTS)))
        for _ in range(STEPS):
            chaos.step()
        problems = chaos.come_to_rest()
    if problems:
        raise AssertionError("\n".join([*problems, REPEAT.format(seed)]))
    chaos.counts["creates"] = sum(chaos.market.sent.values())
    chaos.counts["destroys"] = sum(chaos.market.destroys.values())
    return chaos.counts


FIRST_FAULTS = {"create_lost", "create_late", "create_undone", "create_gone", "list_lag"}


@pytest.mark.django_db
def test_no_order_of_steps_leaks_or_loses_anything(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEED, SEED + SCHEDULES):
        counts += run(seed, monkeypatch)
    record("interleavings", schedules=SCHEDULES, first_seed=SEED, **counts)
    record_property("figures", f"interleavings: {SCHEDULES} from seed {SEED}, {dict(counts)}")
    assert counts["creates"] >= SCHEDULES and counts["destroys"]
