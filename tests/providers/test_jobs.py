"""Due readings: claimed once, finished once, and backed off when the provider is away."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers import jobs, lanes, registry
from providers.base import (
    Account,
    AuthRefused,
    BadResponse,
    Capabilities,
    Listing,
    NotSent,
    OfferListing,
    Provider,
    ProviderError,
    RateLimited,
)
from providers.jobs import Call, Reading
from providers.models import Lane, Offer, ProviderHealth, Snapshot
from tests.factories import make_offer

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OURS = Listing(instances=(), account_id="4711")
STOCK = OfferListing(offers=(), complete=True, note="0 offers seen in 1 searches")
ME = Account(account_id="4711", balance=Decimal("41.5"))


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class Silent(Provider):
    """Answers nothing; these tests hand in what came back."""

    name, title, capabilities = "vastai", "Vast.ai", Capabilities()

    def __init__(self, **_: str) -> None:
        pass

    def _silent(self, *_: object) -> None:
        raise NotSent("nobody there")

    account = search_offers = create = list_instances = get_instance = destroy = _silent


@pytest.fixture(autouse=True)
def one_provider(settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.TIME_SCALE = 1
    settings.PROVIDERS = {"vastai": {"api_key": "k", "base_url": "http://127.0.0.1:1"}}
    monkeypatch.setitem(registry.ADAPTERS, "vastai", Silent)
    registry._build.cache_clear()
    jobs._unread.clear()
    jobs.ensure_rows(NOW)
    yield
    registry._build.cache_clear()


def claim(now: datetime, kind: str) -> Call | None:
    return next((call for call in jobs.claim(9, now) if call.kind == kind), None)


def row() -> ProviderHealth:
    return ProviderHealth.objects.get()


def finish(call: Call, now: datetime, answer: object) -> None:
    key = "error" if isinstance(answer, ProviderError) else "found"
    jobs.finish(call, Reading(started_at=now, **{key: answer}), now)


def test_everything_is_due_at_first_and_claimed_once() -> None:
    assert {call.kind for call in jobs.claim(9, NOW)} == {"offers", "listing", "account"}
    assert jobs.claim(9, after(2)) == []
    jobs.ensure_rows(NOW)
    assert ProviderHealth.objects.count() == 1


def test_the_limit_is_kept() -> None:
    assert len(jobs.claim(1, NOW)) == 1
    assert jobs.claim(0, NOW) == []


def test_of_two_processes_one_gets_the_claim() -> None:
    stale = row()
    assert claim(NOW, "listing")
    for kind in ("listing", "offers", "account"):
        assert jobs._claim(stale, kind, after(10)) is None


def test_a_lost_claim_comes_back() -> None:
    first = claim(NOW, "listing")
    assert claim(after(119), "listing") is None
    second = claim(after(121), "listing")
    assert second.fence == first.fence + 1
    finish(first, after(122), OURS)
    assert Snapshot.objects.count() == 0  # taken over meanwhile: thrown away
    finish(second, after(123), OURS)
    assert Snapshot.objects.get().complete


def test_a_closed_lane_postpones_without_losing_the_claim() -> None:
    lanes.take("vastai", "list", after(-0.2))
    assert claim(NOW, "listing") is None
    assert (row().listing_due_at, row().listing_fence) == (after(1), 0)
    assert claim(after(1), "listing")


def test_listings_are_read_once_a_minute_and_sooner_when_somebody_waits() -> None:
    finish(claim(NOW, "listing"), NOW, OURS)
    assert row().listing_due_at == after(60)
    jobs.want_listing("vastai", NOW, 3)
    assert row().listing_due_at == after(3)
    jobs.want_listing("vastai", NOW, 30)
    assert row().listing_due_at == after(3)


def test_nobody_overrides_a_back_off() -> None:
    finish(claim(NOW, "listing"), NOW, BadResponse("cut off"))
    due = row().listing_due_at
    assert after(7) <= due <= after(60)
    jobs.want_listing("vastai", NOW, 1)
    assert row().listing_due_at == due
    assert row().listing_error == "cut off" and not Snapshot.objects.get().complete
    finish(claim(due, "listing"), due, OURS)
    assert row().listing_error == "" and row().listing_failures == 0


def test_a_failed_refresh_keeps_the_last_good_offers() -> None:
    make_offer(provider="vastai", listed=True)
    finish(claim(NOW, "offers"), NOW, BadResponse("cut off"))
    assert Offer.objects.filter(listed=True).count() == 1
    assert row().offers_error == "cut off" and row().offers_read_at is None
    due = row().offers_due_at
    finish(claim(due, "offers"), due, STOCK)
    assert row().offers_error == "" and row().offers_read_at == due
    assert row().offers_note == STOCK.note
    assert row().offers_due_at == due + timedelta(seconds=60)
    assert Offer.objects.filter(listed=True).count() == 0


def test_a_part_of_the_stock_is_followed_by_the_next() -> None:
    part = OfferListing(offers=(), complete=False, next_after="0.3")
    finish(claim(NOW, "offers"), NOW, part)
    assert row().offers_due_at == after(6.5)
    call = claim(after(6.5), "offers")
    assert call.after == "0.3"
    finish(call, after(8), BadResponse("cut off"))
    assert claim(after(100), "offers").after == ""


def test_the_account_is_read_every_five_minutes() -> None:
    finish(claim(NOW, "account"), NOW, ME)
    assert (row().account_id, row().balance) == ("4711", Decimal("41.5"))
    assert claim(after(299), "account") is None
    assert claim(after(301), "account")


@pytest.mark.parametrize("kind", ["account", "listing", "offers"])
def test_a_refused_key_is_told_and_tried_once_a_minute(kind: str) -> None:
    finish(claim(NOW, kind), NOW, AuthRefused("Invalid user key"))
    assert row().auth_error == "Invalid user key"
    jobs.want_listing("vastai", NOW, 1)
    if kind != "account":
        assert claim(after(59), kind) is None
    again = claim(after(62), "account")
    finish(again, after(62), ME)
    assert row().auth_error == ""


def test_a_search_needs_no_key_and_says_nothing_about_it() -> None:
    ProviderHealth.objects.update(auth_error="Invalid user key")
    finish(claim(NOW, "offers"), NOW, STOCK)
    assert row().auth_error == "Invalid user key"


@pytest.mark.parametrize(
    "error, failures",
    [(BadResponse("x"), 1), (NotSent("x"), 1), (RateLimited("x"), 0), (AuthRefused("x"), 0)],
)
def test_only_missing_answers_count_for_the_breaker(error: ProviderError, failures: int) -> None:
    finish(claim(NOW, "listing"), NOW, error)
    assert Lane.objects.get(operation="list").failures == failures


def test_performing_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(provider="vastai", kind="listing")
    assert isinstance(jobs.perform(call).error, NotSent)
    monkeypatch.setattr(Silent, "list_instances", lambda self: 1 / 0)
    assert isinstance(jobs.perform(call).error, BadResponse)
    gone = Call(provider="tensordock", kind="listing")
    assert isinstance(jobs.perform(gone).error, registry.NotConfigured)
