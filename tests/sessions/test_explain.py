"""Audit rows in words, also those that lack what later versions write."""

import pytest

from sessions import explain
from sessions.models import AuditEvent

LOOKS = {"samples": 9, "first": "2026-03-01T10:00:01+00:00", "last": "2026-03-01T10:08:02+00:00",
         "highest_load": 3}  # fmt: skip
LOOKED = "9 looks from 10:00:01 to 10:08:02 UTC, GPU at most 3 % busy"
AT = "2026-03-01T10:20:00+00:00"


@pytest.mark.parametrize("action", [*explain.SENTENCES, "something.new"])
def test_a_row_without_its_data_is_still_told(action: str) -> None:
    text, detail = explain.event(AuditEvent(action=action, data={}))
    assert text and text == text.strip() and "None" not in text
    assert detail == ""


@pytest.mark.parametrize(
    ("action", "data", "words"),
    [
        ("session.extend", {"to": AT}, ("Extended to 10:20 UTC", "")),
        ("idle.warned", {"stops_at": AT} | LOOKS,
         ("Idle: stops at 10:20 UTC unless it is used", LOOKED)),
        ("idle.stopped", {"minutes": 30} | LOOKS, ("Was idle for 30 min", LOOKED)),
        ("session.idle_stop", {"idle_minutes": 30}, ("Stops when idle for 30 min", "")),
        ("session.idle_stop", {"idle_minutes": None}, ("Stop when idle turned off", "")),
        ("switch.heard", {"alive": True, "until": AT},
         ("The machine’s own switch is set", "for the end at 10:20 UTC")),
        ("instance.read", {"evidence": "present"}, ("The marketplace still knows the machine", "")),
    ],
)  # fmt: skip
def test_a_whole_row_is_told_with_its_figures(action, data, words) -> None:
    assert explain.event(AuditEvent(action=action, data=data)) == words
