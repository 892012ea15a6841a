"""Hypothesis plays people, processes, marketplace and strangers against each other (6.6).

PROVE_SEED=123 pytest tests/prove/test_machine.py   repeats its plays

At the end of every play the faults are over and 40 minutes pass: all must have come to an end.
"""

import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sessions import labels
from sessions.identity import current
from sessions.models import Attempt, Session
from sessions.states import State
from tests.prove.chaos import Chaos
from tests.prove.figures import HALVES, record
from tests.prove.wild_market import FAULTS
from tests.sessions.market_double import ACCOUNT

EXAMPLES = int(os.environ.get("PROVE_EXAMPLES", "8"))
STEPS = int(os.environ.get("PROVE_STEPS", "30"))
SEED = int(os.environ.get("PROVE_SEED", "1"))
WORKERS = st.integers(0, 2)
MOST_TWINS = 2  # more new orphans at once are not believed, by design
seen: Counter[str] = Counter()  # over all plays


class Play(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 10**6), warm=st.booleans())
    def begin(self, seed: int, warm: bool) -> None:
        self.stack = ExitStack()
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        self.chaos = self.stack.enter_context(Chaos(Random(seed)).installed(patch))
        self.twins = 0
        self.chaos.launch()
        if warm:
            self.chaos.settle(lambda: Session.objects.filter(state=State.RUNNING).exists())

    def teardown(self) -> None:
        if not hasattr(self, "stack"):
            return
        with self.stack:
            running = set(Session.objects.filter(verified_at__isnull=False))
            problems = self.chaos.come_to_rest()
            running |= set(Session.objects.filter(verified_at__isnull=False))
            seen.update(self.chaos.counts)
            seen.update(plays=1, sessions=len(self.chaos.sessions), ran=len(running))
            seen.update(Session.objects.values_list("reason", flat=True))
            assert not problems, "\n".join(problems)

    # people

    @precondition(lambda self: len(self.chaos.sessions) < 4)
    @rule()
    def launch(self) -> None:
        self.chaos.launch()

    @rule(number=st.integers(0, 3))
    def stop(self, number: int) -> None:
        self.chaos.stop(self.chaos.sessions[number % len(self.chaos.sessions)])

    @rule(number=st.integers(0, 3))
    def extend(self, number: int) -> None:
        self.chaos.extend(self.chaos.sessions[number % len(self.chaos.sessions)])

    # time and processes

    @rule(seconds=st.sampled_from([1, 3, 10, 30, 90, 200, 4000]))
    def tick(self, seconds: float) -> None:
        self.chaos.tick(seconds)

    @rule(turns=st.integers(1, 12))
    def work(self, turns: int) -> None:
        for _ in range(turns):
            self.chaos.turn()

    @rule(steps=st.integers(1, 20))
    def jostle(self, steps: int) -> None:
        for _ in range(steps):
            self.chaos.work()

    @rule(worker=WORKERS)
    def claim_and_pause(self, worker: int) -> None:
        self.chaos.claim(self.chaos.workers[worker])

    @rule(worker=WORKERS)
    def perform(self, worker: int) -> None:
        self.chaos.perform(self.chaos.workers[worker])

    @rule(worker=WORKERS)
    def finish(self, worker: int) -> None:
        self.chaos.finish(self.chaos.workers[worker])

    @rule(worker=WORKERS)
    def finish_again(self, worker: int) -> None:
        self.chaos.finish_again(self.chaos.workers[worker])

    @rule(worker=WORKERS)
    def crash(self, worker: int) -> None:
        self.chaos.kill(self.chaos.workers[worker])

    @rule()
    def read_and_delay(self) -> None:
        self.chaos.read()

    @rule()
    def store(self) -> None:
        self.chaos.store()

    # the marketplace

    @rule(name=st.sampled_from(FAULTS))
    def fault(self, name: str) -> None:
        self.chaos.fault(name)

    @rule()
    def outage(self) -> None:
        self.chaos.market.active |= {"list_error", "read_error", "destroy_error"}

    @rule()
    def faults_off(self) -> None:
        for name in list(self.chaos.market.active):
            self.chaos.fault(name)

    @rule(number=st.integers(0, 3))
    def vanish(self, number: int) -> None:
        alive = [a for a in Attempt.objects.all() if a.instance_id in self.chaos.market.machines]
        if alive:
            self.chaos.market.vanish(alive[number % len(alive)].instance_id)
            seen["vanished"] += 1

    # strangers

    @rule(
        label=st.sampled_from(
            ["", "training", "gb1-", "gb1-aaaaaaaaaa-bbbbbbbbbbbbbbbb-1-cccccccc"]
        )
    )
    def foreign(self, label: str) -> None:
        self.chaos.market.foreign(label)

    @rule(change=st.sampled_from(["mac", "number", "upper", "cut", "account", "space"]))
    def forge_label(self, change: str) -> None:
        attempt = Attempt.objects.first()
        if attempt:
            self.chaos.market.foreign(forged(attempt, change))
            seen["forged labels"] += 1

    @precondition(lambda self: self.twins < MOST_TWINS)
    @rule()
    def twin(self) -> None:
        attempt = Attempt.objects.exclude(instance_id="").first()
        if attempt:
            self.twins += 1
            self.chaos.market.twin(attempt.label)
            seen["twins"] += 1

    @invariant()
    def nothing_of_others_is_touched(self) -> None:
        if hasattr(self, "chaos"):
            assert not self.chaos.market.problems
            ended = Session.objects.filter(state=State.ENDED).values_list("code", flat=True)
            for entry in self.chaos.market.ledger.values():
                parts = not (entry.foreign or entry.twin or entry.gone) and labels.parse(
                    entry.label
                )
                assert not parts or parts.code not in ended, f"{entry} outlives its session"


def forged(attempt: Attempt, change: str) -> str:
    label, code = attempt.label, attempt.session.code
    last = "a" if label[-1] != "a" else "b"
    return {
        "mac": label[:-1] + last,
        "number": f"{label[:-10]}9{label[-9:]}",
        "upper": label.upper(),
        "cut": label[:-1],
        "account": labels.make(current(), "vastai", f"{ACCOUNT}9", code, attempt.number),
        "space": f" {label}",
    }[change]


@pytest.mark.django_db
@pytest.mark.parametrize("half", HALVES)
def test_whatever_happens_all_ends_well(
    half: int, record_property: Callable[[str, object], None]
) -> None:
    seen.clear()
    examples = EXAMPLES // len(HALVES)
    how = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seeded(len(HALVES) * SEED + half)(Play), settings=how)
    figures = {name or "no reason": count for name, count in sorted(seen.items())}
    record(f"hypothesis_{half}", examples=examples, steps=STEPS, **figures)
    record_property("figures", f"hypothesis: {examples} plays x {STEPS} steps, {figures}")
    assert seen["ran"] >= examples / 2, "sessions must really run in these plays"
