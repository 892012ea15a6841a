"""The offers page: what is shown, what is counted, what is hidden and why."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from providers import catalog
from providers.filters import Filters
from providers.models import Offer
from providers.search import search
from providers.templatetags import prices
from tests.factories import make_health, make_offer
from tests.web.queries import parsed


def found(query: str) -> list[str]:
    return [offer.offer_id for offer in search(parsed(query), timezone.now()).offers]


# ---- the address


@pytest.mark.parametrize(
    "query",
    [
        "",
        "gpu=RTX+4090&gpu=L4&country=ES&count=2&memory=24&price=0.5&disk=60&reliability=95.5"
        "&hours=10&traffic=500"
        "&verified=1&sort=memory",
        "provider=vastai&page=3",
    ],
)
def test_an_address_survives_reading_and_writing(query: str) -> None:
    filters = parsed(query)
    assert not filters.ignored
    assert parsed(filters.query(page=filters.page)) == filters


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("colour=red", "colour"),
        ("count=two", "two"),
        ("count=1.5", "1.5"),
        ("price=-1", "-1"),
        ("price=NaN", "NaN"),
        ("price=1e9", "1e9"),
        ("disk=0", "0"),
        ("hours=0", "0"),
        ("hours=13", "from 1 to 12"),
        ("traffic=-1", "-1"),
        ("disk=99999999999999999999", "999"),
        ("memory=٣", "٣"),
        ("reliability=101", "101"),
        ("country=Spain", "Spain"),
        ("sort=luck", "luck"),
        ("page=0", "0"),
    ],
)
def test_what_makes_no_sense_is_left_out_and_said(query: str, word: str) -> None:
    filters = parsed(query)
    assert any(word in sentence for sentence in filters.ignored)
    assert filters.query() == ""


def test_empty_fields_of_the_form_are_no_filters() -> None:
    assert parsed("count=&price=&memory=&disk=&reliability=&sort=") == Filters()


def test_another_filter_starts_on_page_one_and_one_value_can_go() -> None:
    filters = parsed("gpu=L4&gpu=L40S&page=4")
    assert filters.without("gpu", "L4") == "gpu=L40S"
    assert filters.query(page=5) == "gpu=L4&gpu=L40S&page=5"


# ---- the search


def test_disk_is_part_of_the_price_that_sorts_and_filters(db) -> None:
    cheap_disk = make_offer(base_price_per_hour=Decimal("0.40"), disk_price_per_gb_hour=0)
    dear_disk = make_offer(
        base_price_per_hour=Decimal("0.39"), disk_price_per_gb_hour=Decimal("0.001")
    )
    assert found("disk=1") == [dear_disk.offer_id, cheap_disk.offer_id]
    assert found("disk=100") == [cheap_disk.offer_id, dear_disk.offer_id]
    assert found("disk=100&price=0.48") == [cheap_disk.offer_id]
    assert found("disk=100&price=0.49") == [cheap_disk.offer_id, dear_disk.offer_id]
    shown = search(parsed("disk=100"), timezone.now()).offers[1].price
    assert shown == dear_disk.price_per_hour(100) == Decimal("0.49")


def test_a_download_is_spread_over_the_hours_and_part_of_the_price(db) -> None:
    metered = make_offer(
        base_price_per_hour=Decimal("0.30"), disk_price_per_gb_hour=Decimal("0.001"),
        inet_down_price_per_gb=Decimal("0.004"),
    )  # fmt: skip
    free = make_offer(base_price_per_hour=Decimal("0.40"), disk_price_per_gb_hour=0)
    assert found("disk=10&traffic=100&hours=5") == [metered.offer_id, free.offer_id]  # 0.39
    assert found("disk=10&traffic=100&hours=4") == [free.offer_id, metered.offer_id]  # 0.41
    assert found("disk=10&traffic=100&hours=4&price=0.405") == [free.offer_id]
    assert found("disk=10&hours=4&price=0.31") == [metered.offer_id]
    offer = search(parsed("disk=10&traffic=100&hours=4"), timezone.now()).offers[1]
    assert (offer.disk, offer.traffic) == (Decimal("0.01"), Decimal("0.1"))
    assert (offer.price, offer.total) == (Decimal("0.41"), Decimal("1.64"))


def test_the_parts_and_the_total_stand_next_to_the_price(page, installed) -> None:
    make_offer(base_price_per_hour=Decimal("0.40"), disk_price_per_gb_hour=Decimal("0.0002"),
               inet_down_price_per_gb=Decimal("0.004"))  # fmt: skip
    shown = page.get("/?disk=100&traffic=50&hours=10").content.decode()
    assert "GPU 0.400 + disk 0.020<" in shown and "+ traffic 0.020" in shown
    assert "$4.40 for 10 h" in shown
    assert 'name="hours" min="1" max="12"' in shown  # no total that cannot be launched
    plain = page.get("/?disk=100").content.decode()
    assert "GPU 0.400 + disk 0.020<" in plain and "for 4 h" not in plain


def test_a_ceiling_equal_to_the_price_lets_it_through(db) -> None:
    offer = make_offer(
        base_price_per_hour=Decimal("0.1"), disk_price_per_gb_hour=Decimal("0.000007")
    )
    assert found("disk=30&price=0.10021") == [offer.offer_id]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("gpu=RTX+4090", {"gpu_name": "RTX 3090"}),
        ("country=ES", {"country": "DE"}),
        ("provider=vastai", {"provider": "tensordock"}),
        ("count=1", {"gpu_count": 2}),
        ("memory=24", {"gpu_memory_mb": 20475}),
        ("reliability=95", {"reliability": 0.9499}),
        ("reliability=95", {"reliability": None}),
        ("verified=1", {"verified": False}),
        ("disk=200", {"disk_gb_max": 199}),
        ("", {"listed": False}),
        ("", {"evicted_until": timezone.now() + timedelta(days=1)}),
    ],
)
def test_each_filter_hides_what_it_says_and_nothing_else(db, query, fields) -> None:
    good, bad = make_offer(), make_offer(**fields)
    assert found(query) == [good.offer_id]
    assert bad.offer_id not in found(query)


def test_just_as_reliable_as_asked_for_is_enough(db) -> None:
    offer = make_offer(reliability=0.999)
    assert found("reliability=99.9") == [offer.offer_id]  # 99.9 / 100 is a little more


def test_an_evicted_offer_comes_back(db) -> None:
    offer = make_offer(evicted_until=timezone.now() - timedelta(seconds=1))
    assert found("") == [offer.offer_id]


def test_counts_leave_their_own_facet_out_and_say_what_hides_the_rest(db) -> None:
    make_offer(gpu_name="L4", country="ES")
    make_offer(gpu_name="L4", country="DE", reliability=0.5)
    make_offer(gpu_name="RTX 4090", country="ES")
    make_offer(gpu_name="RTX 4090", country="DE", disk_gb_max=10)
    result = search(parsed("gpu=L4&country=ES&reliability=90"), timezone.now())
    assert (result.matching, result.listed) == (1, 4)
    gpus = {option.value: (option.count, option.chosen) for option in result.facets["gpu"]}
    assert gpus == {"L4": (1, True), "RTX 4090": (1, False)}
    countries = {option.value: option.count for option in result.facets["country"]}
    assert countries == {"ES": 1, "DE": 0}
    assert result.hidden == {"gpu": 1}
    assert search(parsed("gpu=L4&reliability=90"), timezone.now()).hidden == {
        "gpu": 1,
        "reliability": 1,
    }


@pytest.mark.parametrize(
    ("sort", "first"), [("gpu", "pair"), ("memory", "big"), ("size", "big"), ("network", "fast")]
)
def test_orders(db, sort: str, first: str) -> None:
    make_offer(offer_id="one", base_price_per_hour=Decimal("0.30"))
    make_offer(offer_id="pair", gpu_count=2, base_price_per_hour=Decimal("0.50"))
    make_offer(offer_id="big", gpu_memory_mb=200_000, base_price_per_hour=1, inet_down_mbps=None)
    make_offer(offer_id="fast", inet_down_mbps=9000, base_price_per_hour=2)
    assert found(f"sort={sort}&disk=1")[0] == first


# ---- the page


def test_pages_are_cut_by_the_server_and_cost_the_same_number_of_queries(
    page, installed, django_assert_num_queries
) -> None:
    make_offer()
    page.get("/")
    with django_assert_num_queries(COUNT := _queries(page, "/")):
        page.get("/")
    for _ in range(60):
        make_offer()
    page.get("/")  # reads the stock, once for each version
    with django_assert_num_queries(COUNT):
        first = page.get("/").content.decode()
    assert first.count("data-row") == 50
    assert "61 offers" in first and 'rel="next"' in first
    last = page.get("/?page=2").content.decode()
    assert last.count("data-row") == 11
    assert page.get("/?page=99").content.decode().count("data-row") == 11


def _queries(page, path: str) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(
        connection,
    ) as queries:
        page.get(path)
    return len(queries)


def test_htmx_gets_the_results_alone_and_a_clean_address(page, installed) -> None:
    make_offer()
    answer = page.get("/?gpu=rtx4090&count=&price=", headers={"HX-Request": "true"})
    text = answer.content.decode()
    assert "<html" not in text and 'id="results"' in text and 'hx-swap-oob="true"' in text
    assert '<span id="sheet-count" hx-swap-oob="true">1</span>' in text  # below the filters
    assert answer["HX-Push-Url"] == "/?gpu=RTX+4090"
    again = {"HX-Request": "true", "HX-Current-URL": "http://testserver/?gpu=RTX+4090"}
    assert "HX-Push-Url" not in page.get("/?gpu=RTX+4090", headers=again)
    back = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
    assert b"<html" in page.get("/", headers=back).content


def test_strange_values_are_named_and_hostile_text_is_escaped(page, installed) -> None:
    make_offer(cpu_name="<script>alert(1)</script>", place='"><img src=x>')
    answer = page.get("/?gpu=<b>RTX</b>&provider=acme&colour=red&sort=x'")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "No provider is called “acme”" in text and "“colour” is not a filter" in text
    assert "<script>alert" not in text and "<img src=x" not in text and "<b>RTX</b>" not in text
    assert "1 offer" in text


def test_a_sold_out_gpu_is_not_taken_for_an_unknown_one(page, installed) -> None:
    make_offer(gpu_name="L4")
    text = page.get("/?gpu=H100+SXM").content.decode()
    assert "Nothing matches" in text and "Without “H100 SXM”" in text and "Ignored" not in text


def test_a_failed_listing_keeps_the_offers_and_says_so(page, installed) -> None:
    make_offer()
    make_health(offers_error="HTTP 502", offers_note="64 of about 3,000 offers were seen")
    text = page.get("/").content.decode()
    assert "last listing failed, showing the one before" in text
    assert "64 of about 3,000 offers were seen" in text
    assert "1 offer" in text


def test_empty_states_say_what_to_do(page, db, settings) -> None:
    assert "No offers have been read yet" in page.get("/").content.decode()
    settings.PROVIDERS = {}
    assert "VASTAI_API_KEY" in page.get("/").content.decode()
    assert "VASTAI_API_KEY" in page.get("/providers/").content.decode()


def test_the_page_shows_price_parts_and_where_to_launch(page, installed) -> None:
    make_offer(offer_id="77", base_price_per_hour=Decimal("0.40"))
    text = page.get("/?disk=100").content.decode()
    assert "<b>0.420</b>" in text and "GPU 0.400 + disk 0.020" in text
    assert 'href="/launch/vastai/77/?disk=100"' in text
    assert "Spain" in text and "99.0 %" in text


def test_providers_page_shows_account_errors_and_breakers(page, installed) -> None:
    from providers.models import Lane

    make_health(auth_error="invalid key", frozen_reason="half of the account vanished")
    later = timezone.now() + timedelta(minutes=1)
    Lane.objects.create(
        provider="vastai", operation="create", next_at=later, open_until=later, failures=5
    )
    text = page.get("/providers/").content.decode()
    for word in (
        "key refused",
        "invalid key",
        "alf of the account vanished",
        "circuit open",
        "$25.00",
    ):
        assert word in text
    assert "canary-key" not in text


def test_only_one_page_of_rows_is_loaded(page, installed, monkeypatch) -> None:
    Offer.objects.bulk_create(_copies(make_offer(), 3000))
    catalog.changed("vastai", timezone.now())
    loaded = []
    monkeypatch.setattr(
        Offer, "from_db", classmethod(lambda cls, *row: loaded.append(1) or FROM_DB(cls, *row))
    )
    assert "3,001 offers" in page.get("/?sort=memory").content.decode()
    assert len(loaded) == 50


FROM_DB = Offer.from_db.__func__


def _copies(offer: Offer, number: int) -> list[Offer]:
    columns = {f.name: getattr(offer, f.name) for f in Offer._meta.fields if f.name != "id"}
    return [Offer(**columns | {"offer_id": f"copy-{n}"}) for n in range(number)]


def test_figures_read_well_and_never_flatter() -> None:
    assert [prices.percent(share) for share in (0.9996, 0.987, 1.0, None)] == [
        "99.9 %",
        "98.7 %",
        "100.0 %",
        "–",
    ]
    assert prices.gigabytes(24564) == "24 GB"
    assert prices.speed(2100) == "2.1 Gbit/s"
    assert prices.cpu("AMD EPYC 7402 24-Core Processor") == "EPYC 7402"
    assert prices.place(Offer(place="Germany, DE")) == "Germany"
    assert prices.place(Offer(place="Texas, US")) == "Texas, US"
    assert prices.place(Offer(country="ES")) == "Spain"
