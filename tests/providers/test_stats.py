"""Calls are counted by the hour as they ended; latencies are estimated from buckets."""

import random
from datetime import UTC, datetime, timedelta
from statistics import quantiles

import pytest

from providers import stats
from providers.base import (
    AuthRefused,
    BadResponse,
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    Listing,
    NotSent,
    RateLimited,
    RequestRefused,
)
from providers.models import CallHour
from providers.stats import Verdict

NOW = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
RETRY = DestroyOutcome.RETRY


def created(outcome: CreateOutcome) -> CreateResult:
    return CreateResult(outcome=outcome)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *[
            (created(outcome), Verdict.ANSWERED)
            for outcome in (
                CreateOutcome.CREATED,
                CreateOutcome.LEFTOVER,
                CreateOutcome.OFFER_GONE,
                CreateOutcome.NO_FUNDS,
                CreateOutcome.INVALID,
            )
        ],
        (created(CreateOutcome.RATE), Verdict.RATE_LIMITED),
        (created(CreateOutcome.UNKNOWN), Verdict.ERROR),
        (created(CreateOutcome.NOT_SENT), Verdict.ERROR),
        (created(CreateOutcome.AUTH), Verdict.ERROR),
        (DestroyResult(outcome=DestroyOutcome.ACCEPTED), Verdict.ANSWERED),
        (DestroyResult(outcome=DestroyOutcome.NOT_FOUND), Verdict.ANSWERED),
        (DestroyResult(outcome=RETRY, http_status=429), Verdict.RATE_LIMITED),
        (DestroyResult(outcome=RETRY, http_status=502), Verdict.ERROR),
        (DestroyResult(outcome=RETRY), Verdict.ERROR),
        (RateLimited("slowly"), Verdict.RATE_LIMITED),
        (AuthRefused("no"), Verdict.ERROR),
        (BadResponse("what"), Verdict.ERROR),
        (NotSent("nobody"), Verdict.ERROR),
        (RequestRefused("wrong"), Verdict.ERROR),
        (KeyError("our own bug"), Verdict.ERROR),
        (None, Verdict.ANSWERED),
        (Listing(instances=(), account_id="1"), Verdict.ANSWERED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_answer_has_a_verdict(answer: object, expected: Verdict) -> None:
    assert stats.verdict(answer) == expected


def test_no_outcome_of_a_create_is_forgotten() -> None:
    assert all(stats.verdict(created(outcome)) in Verdict for outcome in CreateOutcome)


def test_calls_of_one_hour_share_a_row_and_only_answers_have_a_latency(db) -> None:
    for minutes, verdict in (
        (0, "answered"),
        (20, "error"),
        (25, "rate_limited"),
        (30, "answered"),
    ):
        later = NOW + timedelta(minutes=minutes)
        stats.note("vastai", "list", 0.4, Verdict(verdict), later)
    stats.note("vastai", "offers", 0.4, Verdict.ANSWERED, NOW)
    stats.note("tensordock", "list", 0.4, Verdict.ANSWERED, NOW)
    first, second = CallHour.objects.filter(provider="vastai", operation="list").order_by("hour")
    assert first.hour == NOW.replace(minute=0, second=0)
    assert (first.calls, first.errors, first.rate_limited) == (3, 1, 1)
    assert sum(first.latencies) == 1 and second.calls == 1
    both = stats.together([first, second])
    assert (both.calls, both.error_rate, both.rate_limited_rate) == (4, 0.25, 0.25)
    assert 0.3 < both.p50 <= 0.5


def test_rows_older_than_a_month_go_when_a_new_hour_begins(db) -> None:
    for days in (40, 30, 0):
        stats.note("vastai", "list", 1, Verdict.ANSWERED, NOW - timedelta(days=days))
    stats.note("vastai", "offers", 1, Verdict.ANSWERED, NOW - timedelta(days=40))
    ages = [(NOW - row.hour).days for row in CallHour.objects.filter(operation="list")]
    assert sorted(ages) == [0, 30]
    assert CallHour.objects.filter(operation="offers").count() == 1  # until its own next hour


def test_nothing_is_known_without_calls() -> None:
    none = stats.together([])
    assert none.p50 is None and none.p95 is None and none.error_rate is None


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_percentiles_lie_in_the_right_bucket(share: float) -> None:
    """Against the exact figure: never farther away than the bucket that holds it is wide."""
    for seed in range(50):
        values = [random.Random(f"{seed} {i}").lognormvariate(-0.5, 1.2) for i in range(400)]
        counts = [0] * (len(stats.BOUNDS) + 1)
        for value in values:
            counts[stats.bucket(value)] += 1
        exact = quantiles(values, n=100)[round(share * 100) - 1]
        place = stats.bucket(exact)
        near = stats.BOUNDS[max(place - 1, 0) : place + 2]
        low = near[0] if place else 0
        assert low * 0.999 <= stats.percentile(counts, share) <= near[-1]


def test_what_takes_longer_than_the_last_bound_is_that_bound() -> None:
    counts = [0] * len(stats.BOUNDS) + [3]
    assert stats.percentile(counts, 0.5) == stats.BOUNDS[-1]


def test_time_is_taken_around_the_call() -> None:
    assert stats.timed(lambda: "x").answer == "x"
    assert stats.timed(lambda: "x").seconds >= 0
