"""Rate lanes and breakers: time is an argument, the rows are real."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from providers import lanes
from providers.models import Lane

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def no_jitter(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.TIME_SCALE = 1
    monkeypatch.setattr(random, "uniform", lambda low, high: 1)


def break_lane(operation: str = "list", now: datetime = NOW) -> None:
    lanes.take("vastai", operation, now - timedelta(minutes=1))
    for _ in range(5):
        lanes.failed("vastai", operation, now)


def test_the_second_request_waits_for_the_interval() -> None:
    assert lanes.take("vastai", "create", NOW) is None
    assert lanes.take("vastai", "create", after(4.9)) == after(5)
    assert lanes.take("vastai", "create", after(5)) is None


def test_operations_and_providers_do_not_wait_for_each_other() -> None:
    assert lanes.take("vastai", "create", NOW) is None
    assert lanes.take("vastai", "destroy", NOW) is None
    assert lanes.take("unlisted", "create", NOW) is None
    assert lanes.take("unlisted", "create", after(0.5)) == after(0.75)


def test_the_clock_factor_shortens_intervals(settings) -> None:
    settings.TIME_SCALE = 50
    assert lanes.take("vastai", "create", NOW) is None
    assert lanes.take("vastai", "create", NOW) == after(0.1)


def test_two_processes_never_take_the_same_token(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes.take("vastai", "list", after(-60))
    stale = Lane.objects.get()
    assert lanes.take("vastai", "list", NOW) is None
    monkeypatch.setattr(Lane.objects, "get_or_create", lambda **_: (stale, False))
    assert lanes.take("vastai", "list", NOW) == after(1.2)


def test_five_failures_in_a_row_open_the_breaker() -> None:
    lanes.take("vastai", "list", after(-60))
    for _ in range(4):
        lanes.failed("vastai", "list", NOW)
    lanes.succeeded("vastai", "list")
    break_lane()
    assert lanes.take("vastai", "list", after(1)) == after(15)
    assert lanes.take("vastai", "read", after(1)) is None


def test_four_failures_do_not() -> None:
    lanes.take("vastai", "list", after(-60))
    for _ in range(4):
        lanes.failed("vastai", "list", NOW)
    assert lanes.take("vastai", "list", NOW) is None


def test_failures_that_were_under_way_do_not_prolong_the_break() -> None:
    break_lane()
    lanes.failed("vastai", "list", after(10))
    assert lanes.take("vastai", "list", after(11)) == after(15)


def test_one_trial_at_a_time_and_its_success_closes() -> None:
    break_lane()
    assert lanes.take("vastai", "list", after(15)) is None
    assert lanes.take("vastai", "list", after(20)) == after(75)
    lanes.succeeded("vastai", "list")
    assert lanes.take("vastai", "list", after(21)) is None
    lanes.failed("vastai", "list", after(22))
    assert lanes.take("vastai", "list", after(23)) is None


def test_a_lost_trial_is_followed_by_another() -> None:
    break_lane()
    assert lanes.take("vastai", "list", after(15)) is None
    assert lanes.take("vastai", "list", after(75)) is None


def test_each_failed_trial_doubles_the_break_up_to_five_minutes() -> None:
    break_lane()
    now, breaks = NOW, []
    for _ in range(6):
        now = Lane.objects.get().open_until
        assert lanes.take("vastai", "list", now) is None
        lanes.failed("vastai", "list", now)
        breaks.append((Lane.objects.get().open_until - now).total_seconds())
    assert breaks == [30, 60, 120, 240, 300, 300]


def test_a_destroy_is_never_broken() -> None:
    break_lane("destroy")
    assert lanes.take("vastai", "destroy", after(0)) is None
