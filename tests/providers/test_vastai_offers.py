"""Vast.ai's offers: what is sold, at which price, and what is refused."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from providers.http import Answer
from providers.vastai_offers import BadRow, Stock, parse_offer, search_query

from .vast_samples import offer


def parsed(**changes: Any) -> object:
    """Through JSON text, as on the wire: numbers arrive as int and Decimal."""
    return parse_offer(Answer(status=200, body=json.dumps(offer(**changes)).encode()).json)


def rows(*prices: float, first_id: int = 1) -> list[Any]:
    found = [
        offer(id=first_id + n, dph_total=price, dph_base=price - 0.002)
        for n, price in enumerate(prices)
    ]
    return Answer(status=200, body=json.dumps(found).encode()).json


def test_an_offer_says_what_is_sold() -> None:
    found = parsed()
    assert (found.offer_id, found.machine_id) == ("30406190", "44102")
    assert (found.gpu_name, found.gpu_count, found.gpu_memory_mb) == ("RTX 5090", 1, 32607)
    assert (found.disk_gb_max, found.inet_down_mbps, found.cuda_max) == (505, 905, "12.8")
    assert (found.place, found.country) == ("California", "US")
    assert found.ends_at == datetime(2025, 12, 31, tzinfo=UTC)
    assert found.verified and not found.interruptible


def test_prices_are_split_into_gpu_and_disk() -> None:
    found = parsed()
    assert found.base_price_per_hour == Decimal("0.213300")
    assert found.disk_price_per_gb_hour == Decimal("0.000250000")


def test_the_dearer_of_two_readings_of_the_price_counts() -> None:
    assert parsed(dph_total=0.302).base_price_per_hour == Decimal("0.300000")
    assert parsed(dph_base=0.4).base_price_per_hour == Decimal("0.400000")


def test_ram_is_the_share_of_the_slice() -> None:
    assert parsed().ram_mb == 64480
    assert parsed(cpu_cores=None).ram_mb == 64480  # by the share of the GPUs
    assert parsed(cpu_cores=0, gpu_frac=None).ram_mb == 0


@pytest.mark.parametrize(
    "text, place, country",
    [(", CN", "", "CN"), ("Sweden", "Sweden", ""), (None, "", ""), ("A, B, US", "A, B", "US")],
)
def test_places(text: object, place: str, country: str) -> None:
    found = parsed(geolocation=text)
    assert (found.place, found.country) == (place, country)


@pytest.mark.parametrize(
    "changes",
    [
        {"is_bid": True},
        {"rented": True},
        {"rentable": False},
        {"external": True},
        {"verification": "unverified"},
        {"verification": None},
    ],
)
def test_what_was_not_asked_for_is_left_out(changes: dict[str, Any]) -> None:
    assert parsed(**changes) is None


BAD_PRICES = [-1, 0, 1e308, 200.1, "0.3", None, True, [], {}, 10**21]
BAD_PRICES += [float("nan"), float("inf"), float("-inf")]
BAD_IDS = [0, -1, 1.5, 2**63, "../x", "", None, True, "12 ", "٣"]


@pytest.mark.parametrize(
    "changes",
    [
        *({"dph_total": price} for price in BAD_PRICES),
        *({"id": number} for number in BAD_IDS),
        {"dph_base": None},
        {"storage_cost": "0.1"},
        {"storage_cost": -0.1},
        {"num_gpus": 0},
        {"num_gpus": "8"},
        {"gpu_ram": None},
        {"gpu_name": 5},
        {"gpu_name": "\u202e\u200b"},
        {"disk_space": 3},
    ],
)
def test_what_cannot_be_believed_is_dropped(changes: dict[str, Any]) -> None:
    with pytest.raises(BadRow):
        parsed(**changes)


def test_odd_but_harmless_fields_do_not_cost_the_offer() -> None:
    odd: dict[str, Any] = dict.fromkeys(
        ["cpu_name", "cpu_cores_effective", "cpu_ram", "inet_up", "inet_down_cost", "reliability2"]
    )
    odd |= {
        "dlperf": float("nan"),
        "cpu_ghz": float("inf"),
        "cuda_max_good": "x",
        "end_date": 0,
        "driver_version": [],
        "host_id": {},
        "extra": 1,
    }
    found = parsed(**odd)
    assert (found.cpu_name, found.cpu_cores, found.inet_up_mbps) == ("", 0, None)
    assert (found.reliability, found.cuda_max, found.ends_at) == (None, "", None)


def test_text_of_a_host_is_cleaned() -> None:
    found = parsed(cpu_name="<b>EPYC\u202e\x00 7\ud800", geolocation="A\nB, US")
    assert (found.cpu_name, found.place) == ("<b>EPYC 7", "A B")


def test_a_full_page_asks_for_more_and_a_shorter_one_ends() -> None:
    stock = Stock()
    assert stock.add(rows(*[0.1 + n / 100 for n in range(64)]))
    assert stock.add(rows(0.73, 0.9, first_id=64)) is False
    listing = stock.listing()
    assert listing.complete and listing.next_after == "" and len(listing.offers) == 65
    assert listing.note == "65 offers seen in 2 searches"


def test_a_short_first_page_is_confirmed_by_a_second() -> None:
    """The server's cap may be smaller than we think."""
    stock = Stock()
    assert stock.add(rows(0.1, 0.2))
    assert stock.add(rows(0.2, first_id=2)) is False
    assert stock.listing().complete


def test_no_offers_at_all_are_a_complete_answer() -> None:
    stock = Stock()
    assert stock.add([]) is False
    assert stock.listing().complete


def test_a_part_says_which_prices_it_covers() -> None:
    first = Stock()
    first.add(rows(0.1, 0.2, 0.3))
    part = first.listing()
    assert not part.complete and part.next_after == "0.3"
    assert (part.complete_from, part.complete_below) == (0, Decimal("0.3"))
    rest = Stock(part.next_after)
    assert search_query(rest.highest)["dph_total"] == {"gte": 0.3}
    rest.add(rows(0.3, 0.4, first_id=3))
    rest.add(rows(0.4, first_id=4))
    end = rest.listing()
    assert not end.complete and end.next_after == ""
    assert end.complete_from == Decimal("0.3") and end.complete_below > 200


def test_a_page_full_of_one_price_does_not_stop_the_walk() -> None:
    stock = Stock("0.3")
    assert stock.add(rows(*[0.3] * 64))
    assert stock.add(rows(*[0.3] * 64)) is False
    listing = stock.listing()
    assert not listing.complete and listing.next_after == "0.300001"
    assert listing.complete_below == Decimal("0.3")


def test_bad_rows_are_counted_once() -> None:
    stock = Stock()
    bad = {**offer(), "dph_total": None}
    stock.add([bad, bad, "nonsense", *rows(0.2)])
    listing = stock.listing()
    assert listing.dropped == 2 and len(listing.offers) == 1
    assert listing.note.endswith("2 unusable")
