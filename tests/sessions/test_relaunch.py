"""Launch again: the same terms as numbers that the form takes, and rather another machine."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from sessions import relaunch
from sessions.states import Fallback, State
from tests.factories import make_offer, make_session
from tests.web.scenes import build

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.mark.parametrize("fallback", [Fallback.NONE, Fallback.SAME_GPU])
def test_only_who_asked_for_any_gpu_gets_another_one(fallback) -> None:
    make_offer(gpu_name="RTX 3090", base_price_per_hour=Decimal("0.10"))
    same = make_offer(base_price_per_hour=Decimal("0.30"))
    assert relaunch.offer(make_session(State.ENDED, fallback=fallback), NOW) == same


@pytest.mark.parametrize(
    ("scene", "elsewhere"),
    [("boot_timeout", True), ("vanished", True), ("ended", False), ("no_funds", False)],
)
def test_where_it_failed_is_offered_only_without_a_choice(scene: str, elsewhere: bool) -> None:
    session, attempts = build(scene, NOW)
    machine = attempts[-1].offer["machine_id"]
    there = make_offer(machine_id=machine, base_price_per_hour=Decimal("0.10"))
    assert relaunch.offer(session, NOW) == there
    other = make_offer(base_price_per_hour=Decimal("0.40"))
    assert relaunch.offer(session, NOW) == (other if elsewhere else there)


def test_terms_are_as_the_form_takes_them() -> None:
    session = make_session(
        State.ENDED,
        max_price_per_hour=Decimal("10.000000"),
        requirements={"min_reliability": 0.999, "countries": ["ES"]},
    )
    terms = relaunch.terms(session, make_offer(country="ES"))
    assert (terms["max_price_per_hour"], terms["min_reliability"]) == ("10", "99.9")
    assert terms["same_country"] and not terms["verified_only"]


@pytest.mark.parametrize(("lasted", "hours"), [(0.1, 1), (6, 6), (6.4, 6), (15, 12)])
def test_the_hours_are_those_it_had_in_the_end(lasted: float, hours: int) -> None:
    ends = NOW + timedelta(hours=lasted)
    session = make_session(State.ENDED, created_at=NOW, expires_at=ends)
    assert relaunch.terms(session, make_offer())["hours"] == hours


def test_what_nobody_knows_of_an_adopted_session_is_left_to_the_form() -> None:
    session = make_session(State.ENDED, image="", disk_gb=0)
    assert not {"image", "disk_gb"} & relaunch.terms(session, make_offer()).keys()
