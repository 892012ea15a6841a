"""Lists of sessions, and what people do with one: over HTTP, each only with what is theirs."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from sessions import live, overview, vault
from sessions.models import AuditEvent, Session, SSHKey
from sessions.states import State
from tests.factories import make_key, make_offer, make_session, make_user
from tests.web.scenes import build

pytestmark = pytest.mark.django_db


def test_list_puts_trouble_first_and_counts(client):
    owner = make_user()
    for scene in ("running", "ended", "unreachable"):
        build(scene, timezone.now(), owner=owner)
    client.force_login(owner)
    html = client.get(reverse("sessions")).content.decode()
    assert html.index("Needs attention") < html.index("Open <") and "Ended <" not in html
    totals = live.strip(owner)
    assert (totals.running, totals.open, totals.attention) == (2, 2, 1)
    assert totals.per_hour == Decimal("0.41") + Decimal("0.408")
    assert totals.today > 0


def test_what_is_not_billed_counts_nothing():
    session, _ = build("no_offers", timezone.now())
    assert live.strip(session.owner).today == 0


def test_trouble_is_found_however_many_are_open(monkeypatch):
    owner, now = make_user(), timezone.now()
    build("unreachable", now - timedelta(hours=1), owner=owner)
    for _ in range(3):
        build("booting", now, owner=owner)
    monkeypatch.setattr(overview, "OPEN_LIMIT", 2)
    shown = overview.overview(Session.objects.visible_to(owner), now)
    assert [row.line for row in shown.rows][0] == "SSH does not answer"
    assert (len(shown.attention), len(shown.open), shown.hidden) == (1, 1, 2)
    assert "2 more open sessions are not shown" in live.list_html(shown, push=False)


def ended_page(client, **query) -> str:
    return client.get(reverse("sessions"), {"show": "ended"} | query).content.decode()


def test_ended_sessions_are_paged(client):
    owner = make_user()
    for _ in range(21):
        make_session(State.ENDED, owner=owner)
    client.force_login(owner)
    assert "Page 1 of 2" in ended_page(client)
    for page in ("2", "99"):
        second = ended_page(client, page=page)
        assert second.count("row-s") == 1 and "/ws/sessions/" not in second
        assert "days=7&amp;page=1" in second and 'ws-connect="/ws/strip/"' in second
    assert client.get(reverse("sessions"), {"show": "ended", "page": "9e9"}).status_code == 200
    assert "row-s" not in client.get(reverse("sessions")).content.decode()


def test_ended_sessions_of_a_period(client):
    owner, now = make_user(), timezone.now()
    for days in (0, 3, 20, 100):
        make_session(State.ENDED, owner=owner, ended_at=now - timedelta(days=days, minutes=1))
    client.force_login(owner)
    counts = {days: ended_page(client, days=days).count("row-s") for days in ("1", "7", "30", "0")}
    assert counts == {"1": 1, "7": 2, "30": 3, "0": 4}
    for nonsense in ("", "8", "x"):
        assert ended_page(client, days=nonsense).count("row-s") == 2


def test_empty_lists_lead_to_the_offers(client):
    client.force_login(make_user())
    for html in (client.get(reverse("sessions")).content.decode(), ended_page(client)):
        assert f'<a class="btn go" href="{reverse("offers")}">Find an offer</a>' in html
    assert "Nothing ended in the last 7 days" in html


ROUTES = [("get", "session"), ("get", "session_fragment"), ("post", "session_stop"),
          ("post", "session_extend"), ("post", "session_key")]  # fmt: skip


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_somebody_elses_session_does_not_exist(client, method, route):
    session, _ = build("running", timezone.now())
    client.force_login(make_user())
    assert getattr(client, method)(reverse(route, args=[session.pk])).status_code == 404
    session.refresh_from_db()
    assert session.state == State.RUNNING


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_nobody_gets_in_without_a_login(client, method, route):
    session, _ = build("running", timezone.now())
    response = getattr(client, method)(reverse(route, args=[session.pk]))
    assert response.status_code == 302 and "/login/" in response["Location"]


@pytest.mark.parametrize("route", ["session_stop", "session_extend", "session_key"])
def test_get_never_changes_anything(client, route):
    session, _ = build("running", timezone.now())
    client.force_login(session.owner)
    assert client.get(reverse(route, args=[session.pk])).status_code == 405


def test_who_sees_all_may_look_but_not_stop(client):
    session, _ = build("running", timezone.now())
    viewer = make_user()
    viewer.user_permissions.add(Permission.objects.get(codename="view_all_sessions"))
    client.force_login(viewer)
    html = client.get(reverse("session", args=[session.pk])).content.decode()
    assert "may-stop" not in html and "is-owner" not in html and "stop-form" not in html.split(
        "ws-connect")[0]  # fmt: skip
    assert client.post(reverse("session_stop", args=[session.pk])).status_code == 403
    assert client.post(reverse("session_key", args=[session.pk])).status_code == 404


def test_stop_answers_fragments_to_htmx_and_twice_is_once(client):
    session, _ = build("running", timezone.now())
    client.force_login(session.owner)
    url = reverse("session_stop", args=[session.pk])
    html = client.post(url, headers={"HX-Request": "true"}).content.decode()
    assert 'id="session-head"' in html and "hx-swap-oob" in html and "Stopping" in html
    assert client.post(url).headers["Location"] == reverse("session", args=[session.pk])
    stops = AuditEvent.objects.filter(action="session.state", session_code=session.code)
    assert [e.data["to"] for e in stops] == ["stopping"]


def test_an_administrators_stop_says_so(client):
    session, _ = build("running", timezone.now())
    client.force_login(make_user(is_superuser=True))
    client.post(reverse("session_stop", args=[session.pk]))
    session.refresh_from_db()
    assert (session.state, session.reason) == (State.STOPPING, "admin")


def test_extend_adds_an_hour_up_to_the_limit(client):
    session, _ = build("running", timezone.now())
    client.force_login(session.owner)
    for _ in range(12):
        client.post(reverse("session_extend", args=[session.pk]))
    now = Session.objects.get(pk=session.pk)
    assert now.expires_at == session.created_at + timedelta(hours=12)


def test_when_no_more_can_be_added_it_is_said(client):
    now = timezone.now()
    session, _ = build("running", now, created_at=now, expires_at=now + timedelta(hours=11))
    client.force_login(session.owner)
    page, url = (reverse(f"session{what}", args=[session.pk]) for what in ("", "_extend"))
    html = client.get(page).content.decode()
    assert "the longest" not in html and ">+1 h</button>" in html
    Session.objects.filter(pk=session.pk).update(expires_at=now + timedelta(hours=11.5))
    assert ">+30 min</button>" in client.get(page).content.decode()
    first = client.post(url, headers={"HX-Request": "true"})
    assert "HX-Trigger" not in first
    html = first.content.decode()
    assert 'disabled aria-describedby="extend-note"' in html and "12 h is the longest" in html
    again = client.post(url, headers={"HX-Request": "true"})  # of a page that is old
    assert "the longest session is 12 hours" in json.loads(again["HX-Trigger"])["toast"]["text"]
    assert "the longest session is 12 hours" in client.post(url, follow=True).content.decode()


def test_the_generated_key_is_for_its_owner_while_the_session_lives(client):
    session, _ = build("running", timezone.now())
    session.generated_key = vault.seal("PRIVATE PEM", f"generated:{session.pk}")
    session.save()
    url = reverse("session_key", args=[session.pk])
    client.force_login(session.owner)
    response = client.post(url)
    assert response.content == b"PRIVATE PEM" and "no-store" in response["Cache-Control"]
    event = AuditEvent.objects.get(action="session.key_downloaded")
    assert event.actor == f"user:{session.owner_id}" and "PRIVATE" not in str(event.data)
    client.force_login(make_user(is_superuser=True))
    assert client.post(url).status_code == 404
    Session.objects.filter(pk=session.pk).update(
        state=State.ENDED, outcome="ok", ended_at=timezone.now()
    )
    client.force_login(session.owner)
    assert client.post(url).status_code == 404


def test_so_many_keys_an_hour_and_then_a_page_that_says_when(client, settings):
    settings.KEY_DOWNLOADS_PER_HOUR = 2
    session, _ = build("running", timezone.now())
    session.generated_key = vault.seal("PRIVATE PEM", f"generated:{session.pk}")
    session.save()
    client.force_login(session.owner)
    answers = [client.post(reverse("session_key", args=[session.pk])) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    text = answers[2].content.decode()
    assert "PRIVATE" not in text and "in 60 min" in text
    assert 3500 < int(answers[2]["Retry-After"]) <= 3601
    assert AuditEvent.objects.filter(action="session.key_downloaded").count() == 2


def test_what_a_provider_says_is_text_and_never_markup(client):
    session, attempts = build("booting", timezone.now())
    evil = '<img src=x onerror=alert(1)>" hx-get="/x'
    attempts[-1].status_message = attempts[-1].message = evil
    attempts[-1].offer |= {"place": evil, "gpu_name": evil}
    attempts[-1].save()
    client.force_login(session.owner)
    html = client.get(reverse("session", args=[session.pk])).content.decode()
    assert "<img src=x" not in html and '" hx-get="/x' not in html and "&lt;img" in html
    html = client.get(reverse("sessions")).content.decode()
    assert "<img src=x" not in html


def ended_with_script(**fields) -> Session:
    session, _ = build("boot_timeout", timezone.now(), startup_script="echo hi", **fields)
    key = make_key(session.owner)
    make_key(session.owner, public_key="ssh-ed25519 AAAAother", fingerprint="SHA256:other")
    Session.objects.filter(pk=session.pk).update(public_keys=[key.public_key])
    session.refresh_from_db()
    return session


def test_launch_again_leads_to_a_comparable_offer_with_the_same_terms(client):
    session = ended_with_script(image="example/image:1", disk_gb=33)
    make_offer(offer_id="dear", gpu_name=session.gpu_name, base_price_per_hour=Decimal(9))
    make_offer(offer_id="cheap", gpu_name=session.gpu_name, base_price_per_hour=Decimal("0.2"))
    client.force_login(session.owner)
    answer = client.get(reverse("session_again", args=[session.pk]))
    assert answer.url == f"/launch/vastai/cheap/?again={session.pk}"
    form = client.get(answer.url).context["form"]
    terms = {name: form[name].value() for name in ("image", "disk_gb", "startup_script")}
    assert terms == {"image": "example/image:1", "disk_gb": 33, "startup_script": "echo hi"}
    assert [
        key.public_key for key in SSHKey.objects.filter(pk__in=form["public_keys"].value())
    ] == (session.public_keys)


def test_launch_again_without_a_comparable_offer_leads_to_the_offers(client):
    session = ended_with_script()
    client.force_login(session.owner)
    assert client.get(reverse("session_again", args=[session.pk])).url == reverse("offers")


def test_terms_of_somebody_elses_session_are_not_told(client):
    session = ended_with_script(image="example/secret:1")
    make_offer(offer_id="cheap")
    boss = make_user("boss", is_superuser=True)
    client.force_login(boss)
    assert client.get(reverse("session_again", args=[session.pk])).status_code == 404
    for given in (session.pk, "no-uuid"):
        page = client.get(f"/launch/vastai/cheap/?again={given}")
        assert page.status_code == 200 and "example/secret:1" not in page.content.decode()
