"""Spans of time in words."""

from datetime import timedelta

import pytest
from django.utils import timezone

from providers import spans


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0.0 s"), (1.24, "1.2 s"), (41, "41 s"), (60, "1 min"), (185, "3 min 5 s"),
     (3600, "1 h"), (14280, "3 h 58 min"), (187200, "2 d 4 h")],
)  # fmt: skip
def test_in_two_units_at_most(seconds: float, words: str) -> None:
    assert spans.duration(seconds) == spans.duration(timedelta(seconds=seconds)) == words


def test_from_an_instant_and_until_one() -> None:
    now = timezone.now()
    assert spans.age(now - timedelta(hours=2)).startswith("2 h")
    assert spans.left(now + timedelta(hours=2, minutes=30)).startswith("2 h")
    assert spans.left(now - timedelta(hours=2)) == "now"
    assert [spans.age(None), spans.left(None), spans.duration(None)] == [""] * 3
