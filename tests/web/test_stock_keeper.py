"""A large stock: people are shown the former offers while the keeper reads the new ones."""

import threading
from dataclasses import fields
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError
from django.utils import timezone

from gpubroker import asgi
from providers import catalog, registry, stock
from providers.base import OfferListing, OfferRecord
from providers.filters import Filters
from providers.models import Offer
from providers.search import search, version_text
from providers.table import Index
from tests.factories import make_health, make_offer, make_user
from tests.web.queries import parsed


@pytest.fixture
def large(db, monkeypatch) -> None:
    """Every stock counts as large; the keeper is driven by hand, by stock.renew()."""
    monkeypatch.setattr(stock, "LARGE", 0)
    monkeypatch.setattr(stock, "keep", lambda: None)
    monkeypatch.setattr(stock, "_current", None)
    stock._wake.clear()
    stock.renew()


def test_nobody_waits_for_a_large_stock(large, django_assert_num_queries) -> None:
    offer = make_offer()
    former = stock.renew()
    make_offer()
    with django_assert_num_queries(3):  # what is gone, the version, the page
        result = search(Filters(), timezone.now())
    assert [o.pk for o in result.offers] == [offer.pk] and stock._wake.is_set()
    assert result.version == version_text(former.version) != version_text(stock.version())
    assert result.behind == {"vastai": former.version["vastai"][1]}
    stock.renew()
    result = search(Filters(), timezone.now())
    assert (result.matching, result.behind) == (2, {})


def test_first_offers_of_another_provider_are_news_of_that_one_alone(large) -> None:
    make_offer()
    stock.renew()
    make_offer(provider="tensordock")
    assert search(Filters(), timezone.now()).behind == {"tensordock": None}


def test_an_offer_that_went_is_not_shown_although_the_table_is_the_former(large) -> None:
    now, names = timezone.now(), {f.name for f in fields(OfferRecord)}
    _, other = make_offer(), make_offer()
    stock.renew()
    record = OfferRecord(**{name: getattr(other, name) for name in names})
    catalog.store_offers("vastai", OfferListing(offers=(record,), complete=True), now)
    result = search(Filters(), now)
    assert result.behind and [o.pk for o in result.offers] == [other.pk]


def test_a_row_that_went_without_a_word_is_left_out_at_once_and_counted_soon(large) -> None:
    offer, other = make_offer(), make_offer()
    stock.renew()
    Offer.objects.filter(pk=offer.pk).update(listed=False)
    assert [o.pk for o in search(Filters(), timezone.now()).offers] == [other.pk]
    assert stock._wake.is_set()
    stock.renew()
    assert search(Filters(), timezone.now()).matching == 1


def test_old_offers_are_shown_for_a_moment_only(large, monkeypatch) -> None:
    """Where nobody renews the table, people wait rather than see what may be hours old."""
    make_offer()
    stock.renew()
    make_offer()
    assert search(Filters(), timezone.now()).matching == 1
    monkeypatch.setattr(stock, "LATE", 0)
    assert search(Filters(), timezone.now()).matching == 2


def test_the_page_tells_the_age_of_the_offers_that_it_shows(large, client, monkeypatch) -> None:
    monkeypatch.setattr(registry, "names", lambda: ["vastai"])
    client.force_login(make_user())
    make_offer()
    former = stock.renew().version["vastai"][1]
    make_offer()
    make_health(offers_read_at=timezone.now())
    assert client.get("/").context["freshness"][0].read_at == former
    stock.renew()
    assert client.get("/").context["freshness"][0].read_at > former


def test_what_people_asked_lately_is_prepared(large, monkeypatch) -> None:
    for query in ("", "sort=size&disk=77&verified=1"):
        search(parsed(query), timezone.now())
    make_offer()
    stock.renew()
    for work in ("__init__", "bits", "_bitmaps"):
        monkeypatch.setattr(Index, work, lambda *_: pytest.fail("a person waits for it"))
    for query in ("", "sort=size&disk=77&verified=1"):
        assert search(parsed(query), timezone.now()).matching == 1


def test_what_nobody_asked_lately_is_not_prepared(large, monkeypatch) -> None:
    search(parsed("sort=size&disk=77"), timezone.now())
    monkeypatch.setattr(stock, "LATELY", 0)
    made, warm = [], Index.warm
    monkeypatch.setattr(Index, "warm", lambda *args: made.append(args) or warm(*args))
    make_offer()
    stock.renew()
    assert len(made) == 1  # what everybody sees first


class TheEnd(BaseException):
    """Of a keeper that would go on for ever."""


def test_the_keeper_goes_on_after_a_failure_and_holds_no_connection(monkeypatch, caplog) -> None:
    looks = iter([None, DatabaseError("away"), None, TheEnd()])
    done = []

    def look() -> None:
        error = next(looks)
        done.append("look")
        if error:
            raise error

    monkeypatch.setattr(stock, "renew", look)
    monkeypatch.setattr(stock, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(stock, "connection", SimpleNamespace(close=lambda: done.append("close")))
    with pytest.raises(TheEnd):
        stock._keep()
    assert done == ["look", "close"] * 4
    assert "the offers could not be read" in caplog.text and "away" in caplog.text


def test_the_keeper_looks_at_once_when_somebody_asked(monkeypatch) -> None:
    looks = iter([None, TheEnd()])

    def look() -> None:
        if error := next(looks):
            raise error

    monkeypatch.setattr(stock, "renew", look)
    monkeypatch.setattr(stock, "connection", SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(stock, "LOOK_SECONDS", 3600)
    stock._wake.set()
    with pytest.raises(TheEnd):
        stock._keep()


def test_there_is_one_keeper_and_another_after_it(monkeypatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(stock, "_keeper", None)
    monkeypatch.setattr(stock, "_keep", lambda: over.wait(60))
    stock.keep()
    first = stock._keeper
    stock.keep()
    assert stock._keeper is first and first.daemon
    over.set()
    first.join(60)
    stock.keep()
    assert stock._keeper is not first


def test_a_web_process_keeps_its_stock_from_its_first_request_on(monkeypatch) -> None:
    told = []

    async def page(*arguments: object) -> None:
        told.append(arguments)

    monkeypatch.setattr(asgi, "django", page)
    monkeypatch.setattr(stock, "keep", lambda: told.append("keep"))
    async_to_sync(asgi.http)("scope", "receive", "send")
    assert told == ["keep", ("scope", "receive", "send")]
