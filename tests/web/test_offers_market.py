"""By GPU, side by side, over time, and the notice that there are new prices."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from providers import catalog, charts, history, picks
from providers.filters import COMPARED, Filters, parse
from providers.history import Point
from providers.models import PriceHour
from tests.factories import make_offer

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)


def text(page, address: str) -> str:
    answer = page.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


# ---- by GPU


def test_by_gpu_leads_to_the_offers_of_one(page, installed) -> None:
    for price in (1, 2, 4):
        make_offer(gpu_name="L4", base_price_per_hour=price, disk_price_per_gb_hour=0)
    make_offer(gpu_name="RTX 4090", gpu_count=4, base_price_per_hour=2, disk_price_per_gb_hour=0)
    shown = text(page, "/?view=gpu&disk=20")
    assert "4 offers" in shown and shown.count("data-row") == 2
    assert shown.index(">RTX 4090</a>") < shown.index(">L4</a>")  # 0.5 for one GPU
    assert "<b>1.000</b>" in shown and "2.000" in shown and "<b>0.500</b>" in shown
    assert '3<span class="sr"> offers of L4<' in shown and "> offer of RTX 4090<" in shown
    assert 'href="/?gpu=L4&amp;disk=20"' in shown and 'href="/prices/L4/"' in shown
    assert 'name="view" value="gpu" form="filters"' in shown


def test_by_gpu_costs_the_same_number_of_queries(page, installed) -> None:
    def queries() -> int:
        page.get("/?view=gpu")
        with CaptureQueriesContext(connection) as seen:
            page.get("/?view=gpu")
        return len(seen)

    make_offer()
    before = queries()
    for name in ("L4", "L40S", "H100 SXM"):
        make_offer(gpu_name=name)
    assert queries() == before


# ---- side by side


def test_a_pick_survives_filters_and_can_be_taken_back(page, installed) -> None:
    one, two = make_offer(), make_offer(provider="tensordock", offer_id="a b/c")
    first = text(page, "/?disk=20")
    assert f'href="/?disk=20&amp;compare=vastai%3A{one.offer_id}"' in first
    assert "tray" not in first
    both = f"compare=vastai%3A{one.offer_id}&compare=tensordock%3Aa+b%2Fc"
    shown = text(page, f"/?{both}")
    assert "Compare 2" in shown and shown.count('class="pick on"') == 2
    assert 'name="compare" value="tensordock:a b/c" form="filters"' in shown
    assert f'href="/?compare=vastai%3A{one.offer_id}"' in shown  # without the other
    assert two.offer_id in text(page, f"/offers/compare/?{both}")


def test_at_most_four_the_newest_stay() -> None:
    texts = [f"vastai:{n}" for n in range(6)]
    filters = parse({"compare": [*texts, "nonsense", "vastai:5"]})
    assert filters.compare == tuple(texts[-COMPARED:]) and not filters.ignored
    assert parse({"compare": [filters.picked("vastai:9").rpartition("%3A")[2]]}).compare == ()
    assert filters.picked("vastai:9").count("compare=") == COMPARED
    assert "vastai%3A2" not in filters.picked("vastai:9")
    assert "vastai%3A5" not in filters.picked("vastai:5")


def test_the_best_is_marked_where_there_is_one(db) -> None:
    cheap = make_offer(base_price_per_hour=Decimal("0.2"), reliability=None)
    dear = make_offer(base_price_per_hour=Decimal("0.4"), inet_down_mbps=5000, reliability=0.9)
    keys = (picks.key(cheap), picks.key(dear))
    rows = {row.name: row for row in picks.table(picks.read(Filters(compare=keys)))}
    assert rows["$/h all in"].best == [True, False]
    assert rows["Download"].best == [False, True]
    assert rows["RAM"].best == [False, False]  # alike
    assert rows["Reliability"].best == [False, False]  # one is unknown
    assert rows["Reliability"].values == ["–", "90.0 %"]


def test_a_picked_offer_that_went_is_said(page, installed) -> None:
    gone = make_offer(listed=False)
    shown = text(page, f"/offers/compare/?compare=vastai:{gone.offer_id}&compare=vastai:none")
    assert "no longer listed" in shown and "1 of the picked offers is no longer known" in shown
    assert "/launch/" not in shown
    assert "Nothing to compare" in text(page, "/offers/compare/")


def test_an_unusual_price_is_flagged(page, installed) -> None:
    for _ in range(5):
        make_offer()
    assert "unusual price" not in text(page, "/")
    make_offer(base_price_per_hour=Decimal("0.01"))
    shown = text(page, "/")
    assert "1 with an unusual price, behind all others" in shown
    assert shown.count(">unusual price<") == 1


# ---- over time


def collected(**fields: object) -> list[tuple]:
    rows = PriceHour.objects.filter(**fields).order_by("provider", "gpu_name", "hour")
    return list(rows.values_list("gpu_name", "hour", "low", "median", "offers"))


def test_an_hour_holds_p10_and_median_of_one_gpu(db) -> None:
    for price in range(11, 31):
        make_offer(base_price_per_hour=2 * price, gpu_count=2, disk_price_per_gb_hour=0)
    make_offer(base_price_per_hour=5, interruptible=True)
    make_offer(base_price_per_hour=Decimal("0.001"))  # unusual
    make_offer(provider="tensordock")
    history.collect("vastai", NOW)
    assert collected() == [("RTX 4090", NOW.replace(minute=0), 12, 20, 20)]


def test_an_hour_follows_the_market_and_hours_follow_each_other(db) -> None:
    make_offer(base_price_per_hour=1, disk_price_per_gb_hour=0)
    history.collect("vastai", NOW)
    make_offer(base_price_per_hour=3, disk_price_per_gb_hour=0)
    history.collect("vastai", NOW + timedelta(minutes=5))
    assert [row[4] for row in collected()] == [1]
    history.collect("vastai", NOW + timedelta(minutes=12))
    assert [row[4] for row in collected()] == [2]
    history.collect("vastai", NOW + timedelta(minutes=31))
    assert [row[1].hour for row in collected()] == [12, 13]
    history.collect("vastai", NOW + timedelta(days=30))
    assert [row[1].day for row in collected()] == [4, 3]


def test_a_reading_collects_prices(db) -> None:
    from providers.base import OfferListing

    make_offer()
    catalog.store_offers("vastai", OfferListing(offers=(), complete=False), NOW)
    assert len(collected(provider="vastai")) == 1


def price_hours(number: int) -> None:
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    PriceHour.objects.bulk_create(
        PriceHour(
            provider="vastai",
            gpu_name="L4",
            hour=now - timedelta(hours=12 * n),
            low=Decimal("0.3"),
            median=Decimal("0.4") + Decimal(n) / 100,
            offers=7,
        )
        for n in range(number)
    )


def test_the_page_of_a_gpu_draws_and_says_its_prices(page, installed) -> None:
    price_hours(20)
    shown = text(page, "/prices/L4/")
    assert "Median $0.400 now, from $0.400 to $0.590" in shown and "32 % down" in shown
    assert 'role="img"' in shown and "<table" in shown and "style=" not in shown
    make_offer(gpu_name="L4")
    assert 'class="spark down"' in text(page, "/?view=gpu")


def test_a_gpu_without_history_and_an_unknown_one(page, installed) -> None:
    assert "No history yet" in text(page, "/prices/H100%20SXM/")
    assert page.get("/prices/Voodoo 3/").status_code == 404
    assert page.get("/prices/<script>/").status_code == 404
    assert page.get("/prices/a%00b/").status_code == 404  # PostgreSQL does not take it


@pytest.mark.parametrize(
    ("prices", "words", "tone"),
    [
        ((1, 1), "unchanged", "same"),
        ((2, 1), "50 % down", "down"),
        ((1, 2), "100 % up", "up"),
        ((0, 1), "unchanged", "same"),
    ],
)
def test_a_spark_says_where_prices_went(prices, words: str, tone: str) -> None:
    points = [
        Point(at=NOW + timedelta(days=n), low=Decimal(p), median=Decimal(p), offers=1)
        for n, p in enumerate(prices)
    ]
    spark = charts.spark(points)
    assert spark and spark.words.endswith(words) and spark.tone == tone
    assert spark.path.startswith("M0.0 ") and "L120.0 " in spark.path
    assert charts.spark(points[:1]) is None


@pytest.mark.parametrize(
    ("highest", "labels"),
    [
        ("0.556", ["$0.00", "$0.20", "$0.40", "$0.60", "$0.80"]),
        ("0.4", ["$0.00", "$0.10", "$0.20", "$0.30", "$0.40"]),
        ("0.054", ["$0.000", "$0.020", "$0.040", "$0.060", "$0.080"]),
        ("31", ["$0.00", "$10.00", "$20.00", "$30.00", "$40.00"]),
        ("0", ["$0.00", "$0.25", "$0.50", "$0.75", "$1.00"]),
    ],
)
def test_a_chart_has_round_prices_at_its_side(highest: str, labels: list[str]) -> None:
    price = Decimal(highest)
    chart = charts.chart([Point(at=NOW, low=price, median=price, offers=1)], NOW, price)
    assert [tick.label for tick in chart.prices] == labels
    heights = [tick.at for tick in chart.prices]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] <= float(chart.median.rsplit(" ", 1)[1]) <= heights[0]  # it fits


# ---- news


def test_news_only_of_other_stock(page, installed) -> None:
    make_offer()
    shown = text(page, "/?gpu=RTX+4090&page=1")
    have = shown.split("/offers/news/?have=")[1].split("&")[0]
    assert page.get(f"/offers/news/?have={have}&gpu=RTX+4090").status_code == 204
    make_offer()
    answer = page.get(f"/offers/news/?have={have}&gpu=RTX+4090&page=2")
    assert answer.status_code == 286  # htmx asks no more
    assert 'href="/?gpu=RTX+4090&amp;page=2"' in answer.content.decode()
