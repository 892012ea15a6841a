"""What failed is trusted less or rests; a success forgives; other offers are not blamed."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers import memory
from providers.memory import Memory, Rate, machine_rest, offer_factor, offer_rest, rank, recall
from providers.models import Experience, Kind, Offer
from tests.factories import make_offer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FAILURES = [kind for kind in Kind if kind != Kind.OK]


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def tried(kind: str, ago: timedelta, **fields) -> Experience:
    values = {"provider": "vastai", "offer_id": "1", "machine_id": "m1", "place": "Spain"}
    return Experience(**values | {"gpu_name": "RTX 4090"} | fields, kind=kind, at=NOW - ago)


def offer(**fields) -> Offer:
    values = {"provider": "vastai", "offer_id": "1", "machine_id": "m1", "place": "Spain"}
    return Offer(**values | {"gpu_name": "RTX 4090"} | fields)


def gone(*ages: float) -> list[Experience]:
    return [tried(Kind.GONE, minutes(age)) for age in ages]


# ---- one offer


@pytest.mark.parametrize(
    ("tries", "factor"),
    [
        ([], 1),
        (gone(0), 0.7),
        (gone(29, 1), 0.49),
        (gone(30), 1),
        (gone(31, 29), 0.7),
        ([tried(Kind.OK, minutes(1))], 1),
        ([*gone(5), tried(Kind.OK, minutes(1))], 1),
        ([*gone(9), tried(Kind.OK, minutes(5)), *gone(1)], 0.7),
    ],
)
def test_each_young_failure_of_an_offer_takes_three_tenths(tries, factor: float) -> None:
    assert offer_factor(tries, NOW) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("tries", "left"),
    [
        (gone(2, 1), None),
        (gone(3, 2, 1), 29),
        (gone(30, 20, 1), 29),  # the first one is not forgotten inside half an hour
        (gone(31, 20, 1), None),
        (gone(50, 45, 29), 1),
        (gone(50, 45, 30), None),
        (gone(50, 40, 25, 1), 5),  # the newest three are too far apart: the three before count
        ([*gone(3, 2), tried(Kind.OK, minutes(1.5)), *gone(1)], None),
    ],
)
def test_three_failures_in_half_an_hour_rest_an_offer(tries, left: float | None) -> None:
    assert offer_rest(tries, NOW) == (None if left is None else NOW + minutes(left))


# ---- its machine


@pytest.mark.parametrize("kind", FAILURES)
def test_two_failures_or_wrong_hardware_rest_a_machine_and_gone_never(kind: str) -> None:
    once = machine_rest([tried(kind, hours(1))], NOW)
    twice = machine_rest([tried(kind, hours(20)), tried(kind, hours(1))], NOW)
    assert once == (NOW + hours(23) if kind == Kind.HARDWARE else None)
    assert twice == (None if kind == Kind.GONE else NOW + hours(23))


@pytest.mark.parametrize(
    ("kinds_and_hours", "left"),
    [
        ([("boot", 24), ("ssh", 0)], None),
        ([("boot", 40), ("ssh", 20)], 4),
        ([("boot", 45), ("ssh", 24)], None),
        ([("hardware", 23)], 1),
        ([("hardware", 24)], None),
        ([("hardware", 3), ("ok", 2)], None),
        ([("boot", 3), ("ok", 2), ("boot", 1)], None),
        ([("boot", 3), ("gone", 2), ("price", 1)], 23),
    ],
)
def test_a_machine_rests_for_a_day_unless_it_worked_since(kinds_and_hours, left) -> None:
    tries = [tried(kind, hours(age)) for kind, age in kinds_and_hours]
    assert machine_rest(tries, NOW) == (None if left is None else NOW + hours(left))


def test_rests_follow_the_clock_factor(settings) -> None:
    settings.TIME_SCALE = 20
    assert machine_rest([tried(Kind.HARDWARE, minutes(60))], NOW) == NOW + minutes(12)
    assert offer_rest(gone(0.5, 0.4, 0), NOW) == NOW + minutes(1.5)
    assert offer_factor(gone(1.5), NOW) == 1


# ---- its GPU, its place


def test_three_failing_offers_of_a_gpu_in_an_hour_cast_doubt_on_all_of_them() -> None:
    def confidence(*tries: Experience, **fields) -> float:
        return (
            Memory(tries, NOW)
            .standing(offer(offer_id="new", machine_id="new", **fields))
            .confidence
        )

    a, b, c = (tried(Kind.GONE, minutes(59), offer_id=n, machine_id=n) for n in "abc")
    old = tried(Kind.GONE, minutes(60), offer_id="d", machine_id="d")
    assert confidence(a, b, c) == pytest.approx(0.3)
    assert confidence(a, b, b) == confidence(a, b, old) == 1
    assert confidence(a, b, tried(Kind.OK, minutes(1), offer_id="c")) == 1
    assert confidence(a, b, c, gpu_name="L4") == confidence(a, b, c, provider="tensordock") == 1


def test_a_place_is_halved_by_its_last_try_only_where_machines_have_no_names() -> None:
    def confidence(*tries: Experience) -> float:
        return Memory(tries, NOW).standing(offer(offer_id="new", machine_id="")).confidence

    nameless = {"offer_id": "a", "machine_id": ""}
    failed = tried(Kind.GONE, minutes(29), **nameless)
    assert confidence(failed) == 0.5
    assert confidence(failed, tried(Kind.OK, minutes(3), **nameless)) == 1
    assert confidence(tried(Kind.GONE, minutes(30), **nameless)) == 1
    assert confidence(tried(Kind.GONE, minutes(1))) == 1
    assert confidence(tried(Kind.GONE, minutes(1), **nameless | {"place": "Peru"})) == 1


def test_confidence_has_a_floor() -> None:
    tries = [tried(Kind.GONE, minutes(1), machine_id="", offer_id=n) for n in "abc111111111"]
    assert Memory(tries, NOW).standing(offer(machine_id="")).confidence == memory.LEAST


# ---- the record


def test_a_machines_other_offers_share_its_record_and_nothing_of_other_marketplaces() -> None:
    tries = [
        tried(Kind.BOOT, hours(2)),
        tried(Kind.OK, hours(3)),
        tried(Kind.GONE, hours(1), offer_id="2"),
        tried(Kind.SSH, hours(24)),
        tried(Kind.SSH, hours(1), machine_id="m2", offer_id="9"),
        tried(Kind.SSH, hours(1), provider="tensordock"),
    ]
    known = Memory(tries, NOW)
    assert known.standing(offer(offer_id="3")).record == "11:00 was gone; 10:00 did not start"
    assert known.standing(offer(machine_id="", offer_id="2")).record == "11:00 was gone"


def test_an_offer_without_a_machine_rests_by_the_machines_rule(db) -> None:
    row = make_offer(machine_id="", offer_id="here")
    other = make_offer(machine_id="", offer_id="there")
    known = Memory([tried(Kind.HARDWARE, hours(1), machine_id="", offer_id="here")], NOW)
    assert known.standing(row).rests_until == NOW + hours(23)
    assert list(Offer.objects.exclude(known.resting())) == [other]


def test_resting_and_failing_offers_are_found_by_offer_and_by_machine(db) -> None:
    for number, fields in enumerate(
        [{"machine_id": "bad"}, {"offer_id": "thrice", "machine_id": ""}, {"machine_id": "once"}]
    ):
        make_offer(**{"offer_id": str(number)} | fields)
    fine = make_offer(offer_id="fine", machine_id="")
    elsewhere = make_offer(provider="tensordock", machine_id="bad", offer_id="thrice")
    tries = [tried(Kind.GONE, minutes(n), offer_id="thrice", machine_id="") for n in (1, 2, 3)]
    tries += [tried(Kind.HARDWARE, hours(1), machine_id="bad", offer_id="old")]
    tries += [tried(Kind.BOOT, hours(1), machine_id="once", offer_id="old")]
    known = Memory(tries, NOW)
    kept = [o.offer_id for o in Offer.objects.exclude(known.resting()).order_by("pk")]
    assert kept == ["2", fine.offer_id, elsewhere.offer_id]
    for row in Offer.objects.all():
        rests = known.standing(row).rests_until is not None
        failed = bool(known.standing(row).failures)
        assert rests == Offer.objects.filter(known.resting(), pk=row.pk).exists()
        assert failed == Offer.objects.filter(known.failed_today(), pk=row.pk).exists()
    assert list(Offer.objects.exclude(known.failed_today())) == [fine, elsewhere]


def facts(**fields) -> dict[str, str]:
    return {"machine_id": "m1", "place": "Spain", "country": "ES", "gpu_name": "RTX 4090"} | fields


def test_rates_name_their_scope_and_count_the_record_alone(db, django_assert_num_queries) -> None:
    memory.remember("vastai", "1", facts(), Kind.OK, NOW - timedelta(days=31))
    memory.remember("vastai", "1", facts(), Kind.BOOT, NOW - timedelta(days=29))
    assert Experience.objects.count() == 2  # the last day of the first one was not over
    memory.remember("vastai", "2", facts(), Kind.OK, NOW - hours(2))
    memory.remember("vastai", "3", facts(place=""), Kind.OK, NOW - hours(2))
    memory.remember("vastai", "4", facts(gpu_name="L4"), Kind.GONE, NOW)
    memory.remember("tensordock", "5", facts(), Kind.OK, NOW)
    assert Experience.objects.count() == 5
    with django_assert_num_queries(2):
        known = recall(NOW)
        standing = known.standing(offer())
        nowhere = known.standing(offer(place="", gpu_name="H200 NVL"))
    assert standing.rates == (
        Rate(scope="RTX 4090 in Spain", ok=1, tried=2),
        Rate(scope="RTX 4090 anywhere", ok=2, tried=3),
        Rate(scope="all GPUs in Spain", ok=1, tried=3),
        Rate(scope="all offers", ok=2, tried=4),
    )
    assert standing.rate == standing.rates[0]
    assert known.standing(offer(place="", country="ES")).rate.tried == 1
    assert nowhere.rates == (Rate(scope="all offers", ok=2, tried=4),)
    assert recall(NOW).standing(offer(provider="runpod")).rate is None
    assert recall(NOW + timedelta(days=30)).standing(offer()).rates == ()


# ---- what is tried next


def test_the_suspicious_come_later_among_what_costs_about_the_same() -> None:
    doubted = Memory(gone(1), NOW)
    rows = [offer(), offer(offer_id="2", machine_id="m2"), offer(offer_id="3", machine_id="m3")]

    def order(*prices: str) -> list[str]:
        return [o.offer_id for o in rank(rows, [Decimal(p) for p in prices], doubted)]

    assert order("0.40", "0.43", "0.42") == ["3", "2", "1"]
    assert order("0.40", "0.44", "0.439") == ["3", "1", "2"]
    assert order("0", "0", "0.44") == ["2", "1", "3"]
    assert rank([], [], doubted) == []
