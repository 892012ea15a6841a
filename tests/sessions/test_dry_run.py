"""The list of what would be tried is what is tried."""

from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest
from django.utils import timezone

from providers import memory
from providers.base import CreateOutcome, CreateResult
from providers.models import Kind, Offer
from sessions import market
from sessions.dry_run import DryRun, LaunchTerms, dry_run
from sessions.models import Attempt
from sessions.states import Fallback
from tests.factories import make_offer

from .stories import ended, launch


def terms(**fields) -> LaunchTerms:
    values = {
        "disk_gb": 20,
        "max_price_per_hour": Decimal("0.50"),
        "fallback": Fallback.SAME_GPU,
        "requirements": {},
    }
    return LaunchTerms(**(values | fields))


def names(run: DryRun) -> list[str]:
    return [one.offer.offer_id for one in run.tries]


def a_market(random: Random) -> None:
    """Some without a name of their machine, in few places: failures there weigh on neighbours."""
    for _ in range(90):
        make_offer(
            base_price_per_hour=Decimal(random.randrange(380, 520)) / 1000,
            gpu_name=random.choice(["RTX 4090", "RTX 3090", "A5000"]),
            machine_id=random.choice(["", "m1", "m2", "m3"]),
            place=random.choice(["Spain", "Norway"]),
            country=random.choice(["ES", "NO"]),
            verified=random.random() < 0.7,
            reliability=random.choice([0.9, 0.95, 0.99]),
            disk_gb_max=random.choice([10, 500]),
        )


@pytest.mark.parametrize("fallback", [Fallback.SAME_GPU, Fallback.MEMORY, Fallback.NONE])
@pytest.mark.parametrize("seed", range(2))
def test_what_is_listed_is_what_a_session_tries_when_all_are_stale(
    world, owner, fallback: Fallback, seed: int
) -> None:
    random = Random(seed)
    a_market(random)
    chosen = make_offer(machine_id=random.choice(["", "m2"]))
    for offer in random.sample(list(Offer.objects.all()), 6):
        kind = random.choice([Kind.BOOT, Kind.GONE, Kind.SSH])
        at = world.now - timedelta(minutes=random.randrange(5, 25))
        memory.remember(offer.provider, offer.offer_id, market.facts(offer), kind, at)
    wanted = random.choice([{}, {"verified_only": True}, {"min_reliability": 0.95}])
    run = dry_run(chosen, terms(fallback=fallback, requirements=wanted), world.now)
    world.market.fail["create"] = lambda spec: CreateResult(outcome=CreateOutcome.OFFER_GONE)
    ended(world, launch(world, owner, offer=chosen, fallback=fallback, requirements=wanted))
    assert names(run) == list(Attempt.objects.order_by("number").values_list("offer_id", flat=True))
    assert len(run.tries) == (1 if fallback == Fallback.NONE else 5)


@pytest.mark.django_db
def test_each_is_told_with_its_price_and_why() -> None:
    chosen = make_offer(base_price_per_hour=Decimal("0.40"))
    make_offer(base_price_per_hour=Decimal("0.45"))
    make_offer(base_price_per_hour=Decimal("0.41"), gpu_name="A6000", gpu_memory_mb=48000)
    wishes = terms(fallback=Fallback.MEMORY, requirements={"countries": ["ES"]}, disk_gb=100)
    run = dry_run(chosen, wishes, timezone.now())
    assert [(one.number, one.per_hour, one.why) for one in run.tries] == [
        (1, Decimal("0.42"), "your choice"),
        (2, Decimal("0.43"), "more memory, same country"),
        (3, Decimal("0.47"), "same GPU, same country"),
    ]
    assert run.more == 0 and run.nearest is None


@pytest.mark.django_db
def test_more_than_a_session_tries_are_counted() -> None:
    chosen = make_offer()
    for _ in range(9):
        make_offer()
    run = dry_run(chosen, terms(), timezone.now())
    assert (len(run.tries), run.more) == (5, 5)


@pytest.mark.django_db
@pytest.mark.parametrize(("base", "per_gb"), [("0.200", "0.0003"), ("0.319", "0.00021")])
def test_an_offer_at_the_ceiling_is_inside_it_and_one_above_is_not(base: str, per_gb: str) -> None:
    chosen, price = make_offer(), {"disk_price_per_gb_hour": Decimal(per_gb)}
    same = make_offer(base_price_per_hour=Decimal(base), **price)
    above = make_offer(base_price_per_hour=Decimal(base) + Decimal("0.000001"), **price)
    wishes = terms(disk_gb=30, max_price_per_hour=same.price_per_hour(30))
    run = dry_run(chosen, wishes, timezone.now())
    assert same.offer_id in names(run) and above.offer_id not in names(run)


@pytest.mark.django_db
def test_nothing_else_inside_the_ceiling_names_the_nearest() -> None:
    chosen = make_offer()
    make_offer(base_price_per_hour=Decimal("0.60"))
    run = dry_run(chosen, terms(), timezone.now())
    assert names(run) == [chosen.offer_id]
    assert run.nearest == Decimal("0.604")
    assert dry_run(chosen, terms(fallback=Fallback.NONE), timezone.now()).nearest is None
