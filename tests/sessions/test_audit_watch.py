"""The audit's chain verified all the time: what is new, all of it in rounds, and who is told."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from gpubroker.health import readiness
from sessions import attention, audit, audit_watch, tasks
from sessions.models import AuditEvent, Heartbeat
from tests.factories import make_user
from tests.sessions.test_audit import NOW, TABLE, fill, forge

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _plain_static(settings):
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": plain}


@pytest.fixture
def pieces(monkeypatch) -> None:
    monkeypatch.setattr(audit_watch, "AT_ONCE", 2)


def look(minutes: int = 1) -> audit_watch.Verdict:
    assert audit_watch.look(NOW + minutes * MINUTE)
    return audit_watch.verdict()


def edit(sequence: int, reason: str = "nothing to see") -> None:
    forge(f"UPDATE {TABLE} SET reason = %s WHERE sequence = %s", reason, sequence)


def test_nothing_is_said_before_the_first_look():
    assert audit_watch.verdict() is None
    assert readiness(NOW)["audit"] == {"ok": True, "detail": "not verified yet"}


def test_a_whole_chain_is_called_whole_with_its_newest_event():
    last = fill()[-1]
    seen = look()
    assert (seen.ok, seen.sequence, seen.head) == (True, 5, last.hash)
    assert seen.at == seen.whole_at == NOW + MINUTE and seen.first_bad is None
    [row] = Heartbeat.objects.filter(name="audit")
    assert row.data["ok"] and row.data["sequence"] == 5 and row.data["head"] == last.hash


def test_an_empty_trail_is_whole():
    assert look().ok and look(2).sequence == 0


def test_new_events_are_verified_a_piece_a_look(pieces):
    fill(5)
    assert [look(n).sequence for n in (1, 2, 3)] == [2, 4, 5]
    assert [look(n).whole_at for n in (4, 5)][-1] is not None


@pytest.mark.parametrize("sequence", [1, 3, 5])
def test_an_edit_is_found_within_a_round(pieces, sequence: int):
    fill()
    for minute in range(1, 7):
        look(minute)
    edit(sequence)
    verdicts = [look(minute) for minute in range(7, 15)]
    assert not verdicts[-1].ok
    assert verdicts[-1].first_bad == sequence
    assert f"Event {sequence} was changed" in verdicts[-1].problem
    first = next(seen for seen in verdicts if not seen.ok)
    assert verdicts[-1].broken_since == first.at


def test_a_break_is_told_everywhere_and_taken_back_when_it_is_mended(client: Client):
    fill()
    look()
    before = AuditEvent.objects.get(sequence=3).reason
    edit(3)
    look(2)
    assert readiness(NOW)["audit"]["ok"] is False
    assert "Event 3" in readiness(NOW)["audit"]["detail"]
    [alert] = [a for a in attention.deployment() if a.key == "audit"]
    assert alert.severity == attention.BAD and "Event 3" in alert.text
    assert alert.since == NOW + 2 * MINUTE
    client.force_login(make_user(is_superuser=True, is_staff=True))
    page = reverse("admin:gpu_sessions_auditevent_changelist")
    html = client.get(page).content.decode()
    assert "The chain is broken" in html and "First bad event: 3" in html
    edit(3, before)
    assert look(3).ok and readiness(NOW)["audit"]["ok"]
    assert not [a for a in attention.deployment() if a.key == "audit"]
    assert "The chain is whole" in client.get(page).content.decode()


def test_the_administration_says_when_nothing_was_verified_yet(client: Client):
    client.force_login(make_user(is_superuser=True, is_staff=True))
    html = client.get(reverse("admin:gpu_sessions_auditevent_changelist")).content.decode()
    assert "was not verified yet" in html


def test_a_lost_end_is_found_by_the_anchor():
    fill()
    look()
    audit.write_anchor(NOW)
    forge(f"DELETE FROM {TABLE} WHERE sequence > 3")
    seen = look(2)
    assert not seen.ok and "has lost event 5" in seen.problem and seen.first_bad is None


def test_an_older_database_that_was_declared_true_is_whole_again():
    fill()
    look()
    forge(f"DELETE FROM {TABLE} WHERE sequence > 3")
    audit.replace_anchor(NOW)
    seen = look(2)
    assert seen.ok and seen.sequence == 3


def test_of_two_that_look_one_writes(monkeypatch):
    fill()
    look()

    def meanwhile(*_):
        Heartbeat.objects.filter(name="audit").update(at=NOW + 5 * MINUTE)
        return audit_watch.NOTHING

    monkeypatch.setattr(audit_watch, "_judged", meanwhile)
    assert not audit_watch.look(NOW + 2 * MINUTE)
    assert audit_watch.verdict().at == NOW + 5 * MINUTE


def test_the_backstop_looks():
    fill()
    tasks.backstop()
    assert audit_watch.verdict().sequence == 5
