"""Several sessions stopped by one request: what is shown before, and what became of each."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sessions import asks, bulk
from sessions.models import AuditEvent, Session
from sessions.moves import StaleSession
from sessions.states import State
from tests.factories import make_user
from tests.web.scenes import build

pytestmark = pytest.mark.django_db
URL = "/sessions/stop/"


@pytest.fixture
def owner(installed):
    return make_user()


@pytest.fixture
def page(client: Client, owner) -> Client:
    client.force_login(owner)
    return client


def some(owner, *scenes: str) -> list[Session]:
    return [build(scene, timezone.now(), owner=owner)[0] for scene in scenes]


def codes(*sessions: Session) -> dict[str, list[str]]:
    return {"s": [session.code for session in sessions]}


def lines(html: str) -> list[str]:
    """The words of each line, without markup."""
    found = re.findall(r"<li>(.*?)</li>", html.split('id="main"')[1], re.S)
    return [" ".join(re.sub(r"<[^>]+>", " ", line).split()) for line in found]


def verdicts(html: str) -> list[str]:
    return re.findall(r'class="verdict">(.*?)<', html)


def state(session: Session) -> str:
    return Session.objects.get(pk=session.pk).state


def stops(session: Session) -> list[AuditEvent]:
    found = AuditEvent.objects.filter(action="session.state", session_code=session.code)
    return [event for event in found if event.data["to"] == "stopping"]


def test_what_would_be_destroyed_is_named_with_its_cost_and_nothing_happens(page, owner):
    running, booting = some(owner, "running", "booting")
    html = page.get(URL, codes(running, booting)).content.decode()
    assert "Stop 2 sessions?" in html and "Stop and destroy 2" in html
    cost = [bulk.seen(owner, [s.code], timezone.now())[s.code].cost for s in (running, booting)]
    assert sum(c.so_far for c in cost) > 0
    assert "These machines are destroyed" in html and "<b>$0.818</b>/h" in html
    assert all("RTX 4090" in line and "$0.01" in line for line in lines(html))
    assert state(running) == State.RUNNING and state(booting) == State.BOOTING


def test_one_request_stops_all_and_says_what_became_of_each(page, owner):
    running, booting, stopping, ended = some(owner, "running", "booting", "stopping", "ended")
    foreign, _ = build("running", timezone.now())
    picked = codes(running, stopping, booting, ended, foreign)
    picked["s"] += ["z" * 16, running.code, "<script>"]
    html = page.post(URL, picked).content.decode()
    assert "2 of 6 sessions asked to stop" in html and "autofocus" in html
    assert verdicts(html) == [
        "stop asked", "stop asked", "already stopping", "already ended", "not found", "not found",
    ]  # fmt: skip
    assert state(running) == state(booting) == State.STOPPING and state(foreign) == State.RUNNING
    for session in (running, booting):
        (event,) = stops(session)
        assert (event.actor, event.reason) == (f"user:{owner.pk}", "user")
    assert "<script>" not in html.split('id="main"')[1]


def test_twice_is_once(page, owner):
    (running,) = some(owner, "running")
    page.post(URL, codes(running))
    html = page.post(URL, codes(running)).content.decode()
    assert verdicts(html) == ["already stopping"] and len(stops(running)) == 1


def test_what_is_not_ones_business_looks_like_what_does_not_exist(page):
    foreign, _ = build("running", timezone.now())
    nothing = "q" * 16
    for ask in (page.get, page.post):
        answers = [ask(URL, {"s": [code]}).content.decode() for code in (foreign.code, nothing)]
        left, right = (lines(html) for html in answers)
        assert [line.replace(foreign.code, nothing) for line in left] == right
        assert "RTX" not in answers[0].split('id="main"')[1]
        assert "not found" in left[0]
    assert state(foreign) == State.RUNNING


def test_who_may_see_but_not_stop_is_told_so(client, installed):
    session, _ = build("running", timezone.now())
    viewer = make_user()
    viewer.user_permissions.add(Permission.objects.get(codename="view_all_sessions"))
    client.force_login(viewer)
    assert "None of these can be stopped" in client.get(URL, codes(session)).content.decode()
    assert verdicts(client.post(URL, codes(session)).content.decode()) == ["not allowed"]
    assert state(session) == State.RUNNING and stops(session) == []


def test_an_administrators_stop_says_so(client, installed):
    session, _ = build("running", timezone.now())
    client.force_login(make_user(is_superuser=True))
    client.post(URL, codes(session))
    assert [event.reason for event in stops(session)] == ["admin"]


def test_one_that_is_busy_does_not_keep_the_others(page, owner, monkeypatch):
    first, second = some(owner, "running", "booting")
    stop = asks.stop

    def busy(session, *arguments):
        if session.pk == first.pk:
            raise StaleSession(session.code)
        return stop(session, *arguments)

    monkeypatch.setattr(asks, "stop", busy)
    html = page.post(URL, codes(first, second)).content.decode()
    assert sorted(verdicts(html)) == [bulk.BUSY, "stop asked"]
    assert state(second) == State.STOPPING


def test_without_a_choice_or_a_token_nothing_happens(page, owner):
    (running,) = some(owner, "running")
    for choice in ({}, {"s": ["", "short", "x" * 5000]}):
        for ask in (page.get, page.post):
            assert ask(URL, choice)["Location"] == reverse("sessions")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(owner)
    assert strict.post(URL, codes(running)).status_code == 403
    assert page.put(URL).status_code == 405
    assert state(running) == State.RUNNING


def test_what_would_happen_costs_the_same_for_any_number(
    page, owner, django_assert_max_num_queries
):
    few = some(owner, "running")
    with django_assert_max_num_queries(30) as first:
        page.get(URL, codes(*few))
    many = few + some(owner, "booting", "ssh", "unreachable", "ended", "stopping")
    with django_assert_max_num_queries(len(first)):
        page.get(URL, codes(*many))


def test_only_what_can_be_stopped_can_be_picked(page, owner):
    running, stopping = some(owner, "running", "stopping")
    html = page.get(reverse("sessions")).content.decode()
    assert f'value="{running.code}" form="bulk"' in html and 'action="/sessions/stop/"' in html
    assert f'value="{stopping.code}"' not in html


@pytest.mark.parametrize(
    ("codenames", "own_only"),
    [
        ([], False),
        (["view_all_sessions"], True),
        (["view_all_sessions", "stop_all_sessions"], False),
    ],
    ids=["own", "all to see", "all to stop"],
)
def test_everybody_can_pick_what_they_may_stop(client, installed, codenames, own_only):
    user = make_user()
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    (running,) = some(user, "running")
    client.force_login(user)
    html = client.get(reverse("sessions")).content.decode()
    assert f'value="{running.code}" form="bulk" data-owner="{user.pk}"' in html
    assert (f'data-own="{user.pk}" hidden' in html) == (" own-only" in html) == own_only
    assert verdicts(client.post(URL, codes(running)).content.decode()) == ["stop asked"]


def test_a_session_that_ends_meanwhile_is_told_as_such(page, owner):
    (running,) = some(owner, "running")
    assert "Stop 1 session?" in page.get(URL, codes(running)).content.decode()
    now = timezone.now() + timedelta(seconds=1)
    Session.objects.filter(pk=running.pk).update(state=State.ENDED, outcome="ok", ended_at=now)
    assert verdicts(page.post(URL, codes(running)).content.decode()) == ["already ended"]
