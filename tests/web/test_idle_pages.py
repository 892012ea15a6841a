"""The stop when idle on pages: who may change it, what is shown, who is told."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from sessions import live
from sessions.models import GPUSample, Session
from tests.factories import make_user
from tests.web.conftest import BACKEND
from tests.web.scenes import build

pytestmark = pytest.mark.django_db


def running(**fields) -> Session:
    now = timezone.now()
    session, _ = build("running", now, idle_minutes=30, **fields)
    for minute in range(25):
        at = now - timedelta(minutes=minute)
        GPUSample.objects.create(session=session, at=at, load=0, memory_mb=1)
    return session


def warned(**fields) -> Session:
    now = timezone.now()
    soon = now + timedelta(minutes=9)
    return running(idle_warned_at=now, idle_stops_at=soon, **fields)


@pytest.fixture
def signed_in(client):
    def sign_in(user):
        client.force_login(user, backend=BACKEND)
        return client

    return sign_in


def test_the_page_tells_of_the_stop_and_one_click_calls_it_off(signed_in):
    session = warned()
    page = signed_in(session.owner)
    text = page.get(f"/sessions/{session.pk}/").content.decode()
    assert f"Idle: stops at {session.idle_stops_at:%H:%M} UTC" in text
    soon = f"idle: stops at {session.idle_stops_at:%H:%M} UTC unless it is used"
    assert soon in page.get("/sessions/").content.decode()
    assert "25 looks in 24 min; GPU 0 to 0 % busy" in text and 'id="keep-button"' in text
    assert page.post(f"/sessions/{session.pk}/keep/").status_code == 302
    session.refresh_from_db()
    assert session.idle_stops_at is None and session.idle_from
    assert "Idle since" not in page.get(f"/sessions/{session.pk}/").content.decode()


@pytest.mark.parametrize(
    ("fields", "minutes"),
    [
        ({"idle_minutes": "120"}, 120),
        ({"idle_minutes": ""}, None),
        ({"idle_minutes": "120", "off": "1"}, None),
        ({"idle_minutes": "14"}, 30),
        ({"idle_minutes": "x"}, 30),
    ],
)
def test_it_can_be_changed_while_it_runs(signed_in, fields, minutes):
    session = running()
    signed_in(session.owner).post(f"/sessions/{session.pk}/idle/", fields)
    session.refresh_from_db()
    assert session.idle_minutes == minutes


def test_a_wrong_time_comes_back_with_what_is_wrong_and_a_right_one_takes_it_away(signed_in):
    session, htmx = running(), {"HX-Request": "true"}
    page, url = signed_in(session.owner), f"/sessions/{session.pk}/idle/"
    wrong = page.post(url, {"idle_minutes": "14"}, headers=htmx)
    text = wrong.content.decode()
    assert wrong.status_code == 422 and 'id="idle-field" hx-swap-oob="true"' in text
    assert 'value="14"' in text and "autofocus" in text and 'aria-invalid="true"' in text
    assert "Between 15 and 720 minutes" in text and "session-head" not in text
    right = page.post(url, {"idle_minutes": "15"}, headers=htmx).content.decode()
    assert 'id="idle-field" hx-swap-oob="true"' in right and 'value="15"' in right
    assert "errorlist" not in right and "aria-invalid" not in right and "session-head" in right
    plain = page.post(url, {"idle_minutes": "x"}, follow=True).content.decode()
    assert "Between 15 and 720 minutes" in plain and 'class="toast warning"' in plain


@pytest.mark.parametrize(
    ("what", "fields"), [("keep", {}), ("idle", {"idle_minutes": "30"}), ("extend", {})]
)
@pytest.mark.parametrize(("scene", "said"), [("stopping", "is stopping"), ("ended", "has ended")])
def test_what_comes_too_late_is_said(signed_in, what, fields, scene, said):
    session, _ = build(scene, timezone.now())
    page, url = signed_in(session.owner), f"/sessions/{session.pk}/{what}/"
    answer = page.post(url, fields, headers={"HX-Request": "true"})
    assert said in json.loads(answer["HX-Trigger"])["toast"]["text"]
    assert said in page.post(url, fields, follow=True).content.decode()


@pytest.mark.parametrize("what", ["keep", "idle"])
def test_nobody_else_can(signed_in, what):
    session = warned()
    assert signed_in(make_user()).post(f"/sessions/{session.pk}/{what}/").status_code == 404
    session.refresh_from_db()
    assert session.idle_stops_at and session.idle_minutes == 30


def test_the_owner_is_told_wherever_they_are():
    session = warned()
    assert live.milestone(session) == "idle"
    assert live.milestone_at(session) == session.idle_warned_at
    toast = live.toast_html(session, "idle")
    assert "is idle and stops at" in toast and "toast warning" in toast


def test_a_machine_that_is_not_handed_out_shows_nothing_of_it():
    session, _ = build("booting", timezone.now(), idle_minutes=30)
    parts = live.session_parts(live.session_context(session, timezone.now()))
    assert parts["load"].strip() == ""
