"""What our own record says of an offer, on the pages where one is chosen."""

from datetime import timedelta

import pytest
from django.utils import timezone

from providers import memory
from providers.filters import parse
from providers.models import Kind, Offer
from tests.factories import make_offer
from tests.web.test_offers import _queries

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("installed")]


def tried(offer: Offer, kind: str, hours: float = 1, **facts) -> None:
    known = {"machine_id": offer.machine_id, "place": offer.place, "gpu_name": offer.gpu_name}
    at = timezone.now() - timedelta(hours=hours)
    memory.remember("vastai", offer.offer_id, known | facts, Kind(kind), at)


def text(page, address: str) -> str:
    return " ".join(page.get(address).content.decode().split())


def test_an_offer_shows_what_failed_there_and_how_often_it_worked(page) -> None:
    bad, good = make_offer(offer_id="bad"), make_offer(gpu_name="L4")
    tried(bad, "boot", 2)
    tried(bad, "ssh", 1)
    tried(bad, "ok", 30)
    tried(good, "ok", 100)
    shown = text(page, "/")
    assert shown.count("failed here") - shown.count("Hide what failed here") == 1
    assert "failed here 2× in 24 h" in shown and "let nobody in by SSH; " in shown
    assert shown.count("set aside until") == 1
    assert "1 of 3 ok <span> in Spain</span>" in shown
    assert "1 of 1 ok <span> in Spain</span>" in shown


def test_a_record_of_few_tries_elsewhere_is_not_shown_beside_each_offer(page) -> None:
    offer = make_offer()
    for tries in (1, 2):
        tried(make_offer(place="Peru", country="PE"), "ok", tries)
    assert text(page, "/?country=ES").count("2 of 2 ok") == 0
    tried(make_offer(place="Peru", country="PE"), "boot", 3)
    assert "2 of 3 ok <span> anywhere</span>" in text(page, "/?country=ES")
    assert f"/launch/vastai/{offer.offer_id}/" in text(page, "/?country=ES")


def test_without_a_record_nothing_is_claimed(page) -> None:
    make_offer(offer_id="77")
    for shown in (text(page, "/"), text(page, "/launch/vastai/77/")):
        assert " ok <span>" not in shown and "set aside" not in shown
        assert "Our own launches" not in shown and "in 24 h</span>" not in shown


def test_what_failed_today_can_be_hidden_and_is_counted(page) -> None:
    bad, same, fine = make_offer(machine_id="m"), make_offer(machine_id="m"), make_offer()
    tried(bad, "gone")
    tried(fine, "gone", 25)
    shown = text(page, "/?unfailed=1")
    assert "1 offer</h1>" in shown and "2 hidden: failed here in 24 h" in shown
    assert f"/launch/vastai/{fine.offer_id}/" in shown
    assert f"/launch/vastai/{same.offer_id}/" not in shown
    assert "none that failed here in 24 h" in shown
    assert 'name="unfailed" value="1" checked' in shown
    assert "3 offers</h1>" in text(page, "/")


def test_when_all_of_them_failed_the_page_says_what_would_help(page) -> None:
    tried(make_offer(), "gone")
    shown = text(page, "/?unfailed=1")
    assert "Nothing matches" in shown and "Without “none that failed here in 24 h”" in shown
    assert "No offers have been read" not in shown


def test_the_filter_survives_the_address() -> None:
    filters = parse({"unfailed": ["1"], "gpu": ["L4"]})
    assert filters.query() == "gpu=L4&unfailed=1" and filters.without("unfailed") == "gpu=L4"
    assert not filters.ignored and parse({"unfailed": ["0"]}).query() == ""


def test_the_launch_page_shows_the_same_record_and_the_narrowest_scopes(page) -> None:
    offer = make_offer(offer_id="77")
    tried(offer, "hardware")
    tried(make_offer(place="Peru", country="PE"), "ok", 30)
    shown = text(page, "/launch/vastai/77/")
    assert "failed here 1× in 24 h" in shown and "was not the hardware that was sold." in shown
    assert "set aside until" in shown
    for rate in ("0 of 1 ok with RTX 4090 in Spain", "1 of 2 ok with RTX 4090 anywhere"):
        assert rate in shown


def test_the_record_is_escaped_and_costs_the_same_number_of_queries(
    page, django_assert_num_queries
) -> None:
    tried(make_offer(place="<i>Spain</i>"), "gone")
    text(page, "/")  # the first look at a new stock reads it
    count = _queries(page, "/")
    for _ in range(20):
        tried(make_offer(), "boot")
    text(page, "/")
    with django_assert_num_queries(count):
        shown = text(page, "/")
    assert "<i>Spain" not in shown and shown.count("failed here 1×") == 21
