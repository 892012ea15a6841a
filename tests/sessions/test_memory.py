"""Sessions write how offers did, and what they try next follows from it."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from providers import memory
from providers.base import CreateOutcome, CreateResult, InstanceState
from providers.models import Experience, Kind, Offer
from sessions import asks, market, reconcile, ssh, steps
from sessions.models import Session
from sessions.states import Outcome, State
from tests.factories import make_offer
from tests.sessions.market_double import GOOD, World
from tests.sessions.stories import ended, launch, running

pytestmark = pytest.mark.django_db


def kinds() -> list[str]:
    return list(Experience.objects.order_by("pk").values_list("kind", flat=True))


def answer(world: World, *outcomes: str) -> None:
    """To the next create calls, in turn; then machines are made again."""
    left = list(outcomes)

    def fail(spec):
        outcome = left.pop(0)
        if not left:
            del world.market.fail["create"]
        return CreateResult(outcome=outcome, message=str(outcome))

    world.market.fail["create"] = fail


def failing(world: World, offer: Offer, kind: str, ago: timedelta, **facts) -> None:
    names = ("machine_id", "place", "gpu_name")
    known = {name: getattr(offer, name) for name in names} | facts
    memory.remember("vastai", offer.offer_id, known, Kind(kind), world.now - ago)


# ---- what is written


def test_a_session_that_runs_is_remembered_once_with_its_own_offer(world, owner):
    clicked, next_one = make_offer(), make_offer(base_price_per_hour=Decimal("0.41"))
    answer(world, CreateOutcome.OFFER_GONE)
    session = running(world, owner, offer=clicked)
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    rows = Experience.objects.order_by("pk").values_list("kind", "offer_id", "machine_id", "place")
    assert list(rows) == [
        ("gone", clicked.offer_id, clicked.machine_id, "Spain"),
        ("ok", next_one.offer_id, next_one.machine_id, "Spain"),
    ]


def boot_fails(world: World) -> None:
    (machine_id,) = world.market.machines
    world.change(machine_id, state=InstanceState.FAILED)


def never_boots(world: World) -> None:
    (machine_id,) = world.market.machines
    world.change(machine_id, state=InstanceState.STARTING, endpoints=())


def costs_more(world: World) -> None:
    (machine_id,) = world.market.machines
    world.change(machine_id, price_per_hour=Decimal("0.60"))


def silent(world: World) -> None:
    world.check = ssh.Check(message="no answer")


def refuses(world: World) -> None:
    world.check = ssh.Check(stage="open", refused=True)


def other_gpu(world: World) -> None:
    world.check = replace(GOOD, gpus=(ssh.FoundGPU(name="Tesla T4", memory_mb=15360),))


@pytest.mark.parametrize(
    ("trouble", "reason", "kind", "hidden"),
    [
        (boot_fails, "boot_failed", Kind.BOOT, False),
        (never_boots, "boot_timeout", Kind.BOOT, False),
        (silent, "ssh_timeout", Kind.SSH, False),
        (refuses, "ssh_refused", Kind.SSH, False),
        (other_gpu, "wrong_hardware", Kind.HARDWARE, True),
        (costs_more, "price_breach", Kind.PRICE, True),
    ],
)
def test_each_failure_is_remembered_and_a_liar_hidden_at_once(
    world, owner, trouble, reason, kind, hidden
):
    session = launch(world, owner)
    world.until(lambda: world.market.machines)
    trouble(world)
    ended(world, session)
    row = Experience.objects.get()
    assert (session.reason, row.kind, row.at) == (reason, kind, session.stop_requested_at)
    until = Offer.objects.get().evicted_until
    assert until == (row.at + timedelta(minutes=30) if hidden else None)


@pytest.mark.parametrize(
    "outcome", [CreateOutcome.NO_FUNDS, CreateOutcome.AUTH, CreateOutcome.INVALID]
)
def test_what_is_not_the_offers_doing_is_not_remembered(world, owner, outcome):
    answer(world, outcome)
    assert ended(world, launch(world, owner)).outcome == Outcome.FAILED
    assert kinds() == []


def test_waiting_for_a_rate_and_a_request_that_never_left_are_not_remembered(world, owner):
    answer(world, CreateOutcome.RATE, CreateOutcome.NOT_SENT)
    running(world, owner)
    assert kinds() == ["ok"]


def test_a_persons_stop_while_booting_is_not_remembered(world, owner):
    session = launch(world, owner)
    world.until_state(session, State.BOOTING)
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    assert kinds() == []


def test_a_leftover_counts_as_gone(world, owner):
    answer(world, CreateOutcome.LEFTOVER)
    session = launch(world, owner, fallback="none")
    world.until(lambda: bool(kinds()))
    assert kinds() == ["gone"] and session.attempts.count() == 1


def test_an_answer_that_is_told_twice_is_one_experience(world, owner):
    answer(world, CreateOutcome.OFFER_GONE)
    launch(world, owner, fallback="none")
    (call,) = world.claim()
    told = reconcile.perform(call)
    for _ in range(3):
        reconcile.finish(call, told, world.now)
    assert kinds() == ["gone"]


def test_state_and_memory_are_written_together_or_not_at_all(world, owner, monkeypatch):
    session = launch(world, owner)
    world.until_state(session, State.VERIFYING)

    def broken(*args) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(market, "remember", broken)
    move = steps.lifecycle.Move(State.RUNNING)
    with pytest.raises(RuntimeError):
        steps.move_on(session, move, world.now)
    assert Session.objects.get().state == State.VERIFYING and kinds() == []


# ---- what follows


def tried(world: World, owner, **fields) -> list[str]:
    session = running(world, owner, **fields)
    return list(session.attempts.order_by("number").values_list("offer_id", flat=True))


def test_the_clicked_offer_is_tried_first_whatever_is_remembered(world, owner):
    clicked = make_offer()
    make_offer(base_price_per_hour=Decimal("0.30"))
    failing(world, clicked, "hardware", timedelta(hours=1))
    assert tried(world, owner, offer=clicked) == [clicked.offer_id]


def test_resting_machines_and_offers_are_not_tried_next(world, owner):
    clicked = make_offer()
    resting, hiding, last = (
        make_offer(base_price_per_hour=Decimal(p)) for p in ("0.30", "0.31", "0.48")
    )
    failing(world, resting, "hardware", timedelta(hours=1), gpu_name="L4")
    for minutes in (20, 15, 10):
        failing(world, hiding, "gone", timedelta(minutes=minutes), gpu_name="L4")
    answer(world, CreateOutcome.OFFER_GONE)
    assert tried(world, owner, offer=clicked) == [clicked.offer_id, last.offer_id]


def test_a_doubtful_offer_comes_after_one_at_about_its_price_and_before_a_dearer_one(world, owner):
    clicked = make_offer()
    doubtful, near, dear = (
        make_offer(base_price_per_hour=Decimal(p)) for p in ("0.40", "0.42", "0.46")
    )
    failing(world, doubtful, "gone", timedelta(minutes=5))
    answer(world, *[CreateOutcome.OFFER_GONE] * 3)
    wanted = [o.offer_id for o in (clicked, near, doubtful, dear)]
    assert tried(world, owner, offer=clicked) == wanted


def test_a_rest_ends_and_nothing_but_a_resting_offer_is_no_offer(world, owner):
    make_offer(), make_offer(base_price_per_hour=Decimal("0.41"), machine_id="bad")
    clicked, bad = Offer.objects.order_by("pk")
    failing(world, bad, "hardware", timedelta(hours=1))
    answer(world, CreateOutcome.OFFER_GONE)
    assert ended(world, launch(world, owner, offer=clicked)).reason == "no_offers"
    world.now += timedelta(hours=23)
    answer(world, CreateOutcome.OFFER_GONE)
    assert tried(world, owner, offer=clicked) == [clicked.offer_id, bad.offer_id]
