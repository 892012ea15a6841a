"""The stock in memory says what a plain look at all rows would say."""

import gc
import random
import weakref
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from statistics import median

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from providers import catalog, stock
from providers.base import OfferListing, OfferRecord
from providers.filters import Filters
from providers.models import Offer
from providers.outliers import unusual
from providers.search import PAGE, search
from providers.table import FIELDS, nth
from tests.factories import make_offer
from tests.web.queries import parsed

GPUS = ("RTX 4090", "L4", "H100 SXM")


@pytest.fixture
def market(db) -> list[Offer]:
    dice = random.Random(5)
    later = timezone.now() + timedelta(hours=1)
    offers = [
        make_offer(
            provider=dice.choice(("vastai", "tensordock")),
            gpu_name=dice.choice(GPUS),
            gpu_count=count,
            gpu_memory_mb=dice.choice((16384, 24564)),
            base_price_per_hour=count * Decimal(dice.randrange(40, 160)) / 100,
            disk_price_per_gb_hour=Decimal(dice.randrange(0, 9)) / 10000,
            disk_gb_max=dice.choice((30, 500)),
            reliability=dice.choice((None, 0.8, 0.97)),
            verified=dice.random() < 0.5,
            country=dice.choice(("ES", "DE", "")),
            evicted_until=later if dice.random() < 0.1 else None,
        )
        for count in dice.choices((1, 2, 4), k=160)
    ]
    make_offer(listed=False)
    return offers


def passes(offer: Offer, filters: Filters, *, but: str = "") -> bool:
    tests = {
        "gone": offer.evicted_until is None,
        "disk": offer.disk_gb_max >= filters.disk,
        "gpu": not filters.gpu or offer.gpu_name in filters.gpu,
        "provider": not filters.provider or offer.provider in filters.provider,
        "country": not filters.country or offer.country in filters.country,
        "count": not filters.count or offer.gpu_count == filters.count,
        "price": not filters.price or offer.price_per_hour(filters.disk) <= filters.price,
        "reliability": not filters.reliability
        or (offer.reliability or 0) * 100 >= filters.reliability,
        "verified": not filters.verified or offer.verified,
    }
    return all(passed for name, passed in tests.items() if name != but)


QUERIES = (
    "",
    "disk=1",
    "gpu=L4&gpu=H100+SXM&verified=1",
    "country=DE&count=2&price=1.2&reliability=90",
    "provider=tensordock&sort=gpu&disk=20&price=0.9",
    "gpu=B200",
)


@pytest.mark.parametrize("query", QUERIES)
def test_counts_are_those_of_the_rows(market, query: str) -> None:
    filters = parsed(query)
    result = search(filters, timezone.now())
    right = [offer for offer in market if passes(offer, filters)]
    assert (result.matching, result.listed) == (len(right), len(market))
    for name in ("gpu", "provider", "country", "count"):
        column = {"gpu": "gpu_name", "count": "gpu_count"}.get(name, name)
        shown = [o for o in market if passes(o, filters, but=name)]
        for option in result.facets[name]:
            alike = [o for o in shown if str(getattr(o, column)) == option.value]
            prices = [o.price_per_hour(filters.disk) for o in alike]
            assert (option.count, option.cheapest) == (len(alike), min(prices, default=None))
    for name in ("gone", "disk", "price", "verified", "country"):
        alone = sum(passes(o, filters, but=name) for o in market) - len(right)
        assert result.hidden.get(name, 0) == alone


@pytest.mark.parametrize("sort", ["price", "gpu", "size", "reliability"])
def test_pages_hold_every_row_once_in_order(market, sort: str) -> None:
    filters = parsed(f"sort={sort}&disk=20")
    right = [offer for offer in market if passes(offer, filters)]
    shown = []
    for page in range(1, -(-len(right) // PAGE) + 1):
        shown += search(parsed(f"sort={sort}&disk=20&page={page}"), timezone.now()).offers
    assert {o.pk for o in shown} == {o.pk for o in right} and len(shown) == len(right)
    key = {
        "price": lambda o: o.price,
        "gpu": lambda o: o.price / o.gpu_count,
        "size": lambda o: -o.gpu_memory_mb * o.gpu_count,
        "reliability": lambda o: -(o.reliability or -1),
    }[sort]
    assert [key(o) for o in shown] == sorted(key(o) for o in shown)


def test_by_gpu_tells_the_lowest_and_the_median_of_one_gpu(market) -> None:
    filters = parsed("view=gpu&verified=1")
    result = search(filters, timezone.now())
    assert not result.offers and {gpu.name for gpu in result.gpus} == set(GPUS)
    for gpu in result.gpus:
        alike = [o for o in market if passes(o, filters) and o.gpu_name == gpu.name]
        prices = [o.price_per_hour(40) / o.gpu_count for o in alike]
        assert (gpu.count, gpu.lowest, gpu.middle) == (len(alike), min(prices), median(prices))
        assert set(gpu.providers) == {o.provider for o in alike}


def test_new_stock_is_seen_at_once_and_old_stock_is_not_read_again(
    db, django_assert_num_queries
) -> None:
    make_offer()
    assert search(Filters(), timezone.now()).matching == 1
    held = stock.renew()
    make_offer()
    assert search(Filters(), timezone.now()).matching == 2
    assert stock.renew() is not held
    with django_assert_num_queries(3):  # what is gone, the version, the page
        search(Filters(), timezone.now())


def test_an_eviction_counts_at_once_without_another_version(db) -> None:
    offer, other = make_offer(), make_offer()
    assert search(Filters(), timezone.now()).matching == 2
    catalog.evict("vastai", offer.offer_id, timezone.now() + timedelta(hours=1))
    result = search(Filters(), timezone.now())
    assert [o.pk for o in result.offers] == [other.pk] and result.hidden == {"gone": 1}


def test_a_row_that_went_without_a_word_is_noticed(db) -> None:
    offer, other = make_offer(), make_offer()
    search(Filters(), timezone.now())
    Offer.objects.filter(pk=offer.pk).update(listed=False)
    result = search(Filters(), timezone.now())
    assert (result.matching, [o.pk for o in result.offers]) == (1, [other.pk])


def test_reading_what_changed_comes_to_the_same_as_reading_all(market, monkeypatch) -> None:
    """Through the door of the refresh: new rows, other prices, rows that went, rows that are back;
    one refresh after the other, in the hours of a day."""
    dice, now = random.Random(11), timezone.now()
    stock.renew()
    names = {f.name for f in fields(OfferRecord)}
    records = [
        OfferRecord(**{name: getattr(o, name) for name in names})
        for o in market
        if o.provider == "vastai"
    ]
    for refresh in range(12):
        now += timedelta(hours=13) if refresh == 6 else timedelta(seconds=30)
        listed = [
            replace(r, base_price_per_hour=Decimal(dice.randrange(40, 160)) / 100)
            if dice.random() < 0.2
            else r
            for r in dice.sample(records, k=dice.randrange(1, len(records)))
        ]
        catalog.store_offers("vastai", OfferListing(offers=tuple(listed), complete=True), now)
        changed = stock.renew()
        monkeypatch.setattr(stock, "_current", None)
        assert changed.offers == stock.renew().offers
        assert len(changed.offers) == len(listed) + sum(o.provider != "vastai" for o in market)


def test_another_price_of_the_same_offers_is_seen(db) -> None:
    now, names = timezone.now(), {f.name for f in fields(OfferRecord)}
    offers = [make_offer(base_price_per_hour=price) for price in (1, 2)]
    records = [OfferRecord(**{name: getattr(o, name) for name in names}) for o in offers]
    catalog.store_offers("vastai", OfferListing(offers=tuple(records), complete=True), now)
    assert [o.pk for o in search(Filters(), now).offers] == [o.pk for o in offers]
    dearer = replace(records[0], base_price_per_hour=Decimal(3))
    now += timedelta(seconds=30)
    catalog.store_offers("vastai", OfferListing(offers=(dearer, records[1]), complete=True), now)
    assert [o.pk for o in search(Filters(), now).offers] == [offers[1].pk, offers[0].pk]
    prices = [o.cheapest for o in search(Filters(), now).facets["gpu"]]
    assert prices == [offers[1].price_per_hour(40)]


def test_only_what_changed_is_read(market) -> None:
    stock.renew()
    for offer in market[:100]:
        Offer.objects.filter(pk=offer.pk).update(changed_at=timezone.now() - timedelta(hours=1))
    with CaptureQueriesContext(connection) as seen:
        make_offer()
        assert len(stock.renew().offers) == len(market) + 1
    assert any("changed_at" in query["sql"].rpartition("WHERE")[2] for query in seen)


def test_a_table_that_nobody_shows_is_freed_at_once(market) -> None:
    """Not when the garbage collector comes by: the next table may be there before it."""
    search(parsed("sort=gpu"), timezone.now())
    table = stock.renew()
    parts = (table, table.columns, table.index(Filters().usage, "gpu"))
    former = [weakref.ref(part) for part in parts]
    del table, parts
    gc.disable()
    try:
        make_offer()
        search(Filters(), timezone.now())
        assert [part() for part in former] == [None, None, None]
    finally:
        gc.enable()


def test_the_garbage_collector_has_nothing_to_look_through(market) -> None:
    search(parsed("sort=gpu&view=gpu"), timezone.now())
    table = stock.renew()
    index = table.index(Filters().usage, "gpu")
    held = [*table.offers, table.offers, index.prices, index.order, index.positions]
    held += [table.columns[name] for name in FIELDS] + [table.columns.rows]
    gc.collect()
    gc.collect()  # a tuple of tuples comes after those
    assert not [type(each) for each in held if gc.is_tracked(each)]


# ---- bits


@pytest.mark.parametrize("bits", [0b1, 0b1011, 0b10000, 0b1 << 900 | 0b101 << 33, (1 << 70) - 1])
def test_the_nth_bit(bits: int) -> None:
    places = [place for place in range(bits.bit_length()) if bits >> place & 1]
    assert [nth(bits, number) for number in range(len(places))] == places
    assert bits >> nth(bits, len(places)) == 0


# ---- unusual prices


@pytest.mark.parametrize(
    ("prices", "odd"),
    [
        ([], set()),
        ([1, 100, 100, 100], set()),  # too few to compare
        ([24, 100, 100, 100, 100], {0}),
        ([25, 100, 100, 100, 100], set()),  # a quarter is allowed
        ([100, 100, 1, 1000, 100, 2], {2, 5}),
        ([0, 1], {0}),  # nothing is free
        ([-1], {0}),
    ],
)
def test_which_prices_are_unusual(prices: list[int], odd: set[int]) -> None:
    assert unusual(prices) == odd


@pytest.mark.parametrize("sort", ["price", "gpu", "memory"])
def test_an_unusual_price_is_never_the_cheapest(db, sort: str) -> None:
    bait = make_offer(base_price_per_hour=Decimal("0.01"), disk_price_per_gb_hour=0)
    for _ in range(6):
        make_offer(base_price_per_hour=Decimal("0.40"), disk_price_per_gb_hour=0)
    other = make_offer(gpu_name="L4", base_price_per_hour=2, disk_price_per_gb_hour=0)
    result = search(parsed(f"sort={sort}"), timezone.now())
    assert result.offers[-1].pk == bait.pk and result.offers[-1].unusual
    assert result.offers[-2].pk == other.pk and not result.offers[-2].unusual
    assert {o.value: o.cheapest for o in result.facets["gpu"]}["RTX 4090"] == Decimal("0.4")
    assert result.unusual == 1
    lowest = {gpu.name: gpu.lowest for gpu in search(parsed("view=gpu"), timezone.now()).gpus}
    assert lowest["RTX 4090"] == Decimal("0.4")


def test_an_interruptible_price_is_compared_with_its_own_kind(db) -> None:
    for _ in range(6):
        make_offer(base_price_per_hour=Decimal("0.80"))
    make_offer(base_price_per_hour=Decimal("0.10"), interruptible=True)
    assert search(Filters(), timezone.now()).unusual == 0
