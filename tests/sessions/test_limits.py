"""How often one person may launch, however many requests arrive together."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from time import monotonic
from uuid import uuid4

import pytest
from django.db import OperationalError, connection

from sessions import asks, audit, identity, limits
from sessions.limits import HOUR, MINUTE, Limit, TooMany
from sessions.models import AuditEvent, Session
from tests.factories import make_health, make_offer, make_user

from .stories import order

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ages", "seconds"),
    [
        ([], None),
        ([0], None),
        ([0, 0], 60),
        ([5, 59], 1),
        ([5, 60], None),  # exactly a minute ago is long enough
        ([1, 20, 30], 40),  # the second newest counts
        ([-5, -5], 65),  # of a clock that was ahead
    ],
)
def test_the_oldest_of_the_most_decides(ages: list[int], seconds: int | None) -> None:
    times = [NOW - timedelta(seconds=age) for age in ages]
    again = Limit(most=2, span=MINUTE).again_at(times, NOW)
    assert again == (NOW + timedelta(seconds=seconds) if seconds else None)


@pytest.fixture
def owner(db, settings):
    settings.PROVIDERS = {"vastai": {"api_key": "canary-key", "base_url": "http://127.0.0.1:9"}}
    settings.LAUNCHES_PER_MINUTE, settings.LAUNCHES_PER_HOUR = 2, 3
    identity.ensure()
    make_health("vastai")
    return make_user()


def launch(owner, now: datetime) -> Session:
    return asks.launch(owner, order(make_offer()), now=now)


def refused(owner, now: datetime) -> TooMany:
    before = Session.objects.count(), AuditEvent.objects.count()
    with pytest.raises(TooMany) as refusal:
        launch(owner, now)
    assert (Session.objects.count(), AuditEvent.objects.count()) == before
    return refusal.value


def test_launches_are_counted_by_the_minute_and_by_the_hour(owner) -> None:
    launch(owner, NOW)
    launch(owner, NOW + timedelta(seconds=20))
    refusal = refused(owner, NOW + timedelta(seconds=30))
    assert refusal.seconds == 31
    assert "launched 2 sessions within a minute" in refusal.message
    launch(owner, NOW + timedelta(seconds=61))
    refusal = refused(owner, NOW + timedelta(minutes=10))
    assert refusal.seconds == 50 * 60 + 1
    assert "3 sessions within an hour" in refusal.message and "51 min" in refusal.message
    launch(owner, NOW + HOUR)
    launch(make_user(), NOW + HOUR)  # others are not counted


def test_the_second_click_of_the_last_launch_is_no_launch(owner) -> None:
    offer = make_offer()
    last = [order(offer), order(offer)]
    sessions = [asks.launch(owner, wish, now=NOW) for wish in last]
    assert asks.launch(owner, last[1], now=NOW) == sessions[1]


def at_once(act: Callable[[int], object], number: int) -> list[object]:
    """Each in a thread with a connection of its own."""
    end = monotonic() + 30

    def run(index: int) -> object:
        while monotonic() < end:
            try:
                return act(index)
            except TooMany as refusal:
                return refusal
            except OperationalError as error:  # SQLite in memory does not wait for a lock
                assert "is locked" in str(error)
            finally:
                connection.close()
        raise AssertionError("locked for ever")

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


@pytest.mark.django_db(transaction=True)
def test_parallel_launches_do_not_pass_together(owner) -> None:
    wishes = [order(make_offer(), idempotency_key=str(uuid4())) for _ in range(6)]
    results = at_once(lambda index: asks.launch(owner, wishes[index]), 6)
    assert sum(isinstance(each, TooMany) for each in results) == 4
    assert Session.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_launches_are_counted_one_at_a_time_in_their_own_transaction(owner, monkeypatch) -> None:
    """Without chance, and on SQLite too, which needs no lock."""
    done = []

    def spy(name: str) -> None:
        real = getattr(limits, name)

        def act(*given) -> None:
            done.append((name, connection.in_atomic_block))
            real(*given)

        monkeypatch.setattr(limits, name, act)

    spy("one_at_a_time")
    spy("check_launch")
    launch(owner, NOW)
    assert done == [("one_at_a_time", True), ("check_launch", True)]


@pytest.mark.django_db(transaction=True)
def test_parallel_clicks_are_one_session(owner) -> None:
    wish = order(make_offer())
    results = at_once(lambda index: asks.launch(owner, wish), 4)
    assert {each.pk for each in results} == {Session.objects.get().pk}


def test_downloads_of_keys_are_counted_by_their_events(owner, settings) -> None:
    settings.KEY_DOWNLOADS_PER_HOUR = 2
    actor = asks.actor(owner)
    for minutes in (0, 10):
        at = NOW + timedelta(minutes=minutes)
        limits.check_key_download(actor, at)
        audit.append(limits.KEY_DOWNLOAD, actor=actor, now=at)
    with pytest.raises(TooMany, match="downloaded 2 keys within an hour.* 40 min"):
        limits.check_key_download(actor, NOW + timedelta(minutes=20, seconds=1))
    limits.check_key_download("user:0", NOW + timedelta(minutes=20))
    limits.check_key_download(actor, NOW + HOUR)
