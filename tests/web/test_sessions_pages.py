"""What the page of a session says in every state and trouble."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from providers import registry
from sessions import audit, compared, explain, live, overview, vault
from sessions.models import AuditEvent, Session, SSHKey
from sessions.states import State
from tests.factories import make_attempt, make_key, make_offer, make_session, make_user
from tests.web.scenes import HOST_KEY, SCENES, build

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _configured(monkeypatch, settings):
    monkeypatch.setattr(registry, "names", lambda: ["vastai"])
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": plain}


def context_of(name: str, **fields):
    now = timezone.now()
    session, _ = build(name, now, **fields)
    return live.session_context(session, now)


def states(steps) -> str:
    return " ".join(step.state for step in steps)


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        ("requested", "done now todo todo todo todo todo"),
        ("creating", "done now todo todo todo todo todo"),
        ("leftover", "done now todo todo todo todo todo"),
        ("booting", "done done now todo todo todo todo"),
        ("ssh", "done done done now todo todo todo"),
        ("key", "done done done done now todo todo"),
        ("running", "done done done done done done done"),
        ("stopping", "done done done done done done done"),
        ("stopping_failed", "done done failed todo todo todo todo"),
        ("stopping_unknown", "done cut todo todo todo todo todo"),
        ("ended", "done done done done done done done"),
        ("no_offers", "done failed todo todo todo todo todo"),
        ("boot_timeout", "done done failed todo todo todo todo"),
        ("ssh_refused", "done done done done failed todo todo"),
        ("wrong_hardware", "done done done done done failed todo"),
        ("vanished", "done done done done done done done"),
    ],
)
def test_steps_show_how_far_it_came(scene, expected):
    assert states(context_of(scene)["steps"]) == expected


@pytest.mark.parametrize(
    ("scene", "names", "expected"),
    [
        ("running", [], ""),
        ("stopping", ["Stop", "Destroy sent", "Destroy accepted", "First proof", "Second proof",
                      "Confirmed gone"], "done done done done now todo"),
        ("stopping_unknown", ["Stop", "Nothing was created"], "done now"),
        ("ended", None, "done done done done done done"),
        ("no_offers", None, "done done"),
        ("vanished", ["Missed", "Still missing", "Confirmed gone"], "done done done"),
    ],
)  # fmt: skip
def test_the_way_to_the_proof_is_shown_once_it_stops(scene, names, expected):
    steps = context_of(scene)["end_steps"]
    assert states(steps) == expected
    assert names is None or [step.name for step in steps] == names


@pytest.mark.parametrize(
    ("scene", "tone", "title", "flows"),
    [
        ("stopping", "warn", "Stopped on request", True),
        ("stopping_failed", "bad", "Failed: the machine failed to start", True),
        ("stopping_unknown", "warn", "Stopped on request", True),
        ("ended", "ok", "Confirmed gone", False),
        ("expired", "ok", "Confirmed gone", False),
        ("never_sent", "ok", "Ended: nothing was created", False),
        ("no_offers", "bad", "Failed: no comparable offer is left", False),
        ("no_funds", "bad", "Failed: the marketplace account has no funds", False),
        ("boot_timeout", "bad", "Failed: the machine did not start in time", False),
        ("ssh_refused", "bad", "Failed: SSH refused the key", False),
        ("wrong_hardware", "bad", "Failed: not the GPU that was sold", False),
        ("price_breach", "bad", "Failed: billed above the agreed price", False),
        ("vanished", "bad", "The machine vanished", False),
        ("unreachable", "warn", "SSH does not answer", True),
        ("host_key", "bad", "The SSH host key changed", True),
    ],
)
def test_notice_says_what_happened_and_whether_money_flows(scene, tone, title, flows):
    found = context_of(scene)
    notice = found["notice"]
    assert (notice.tone, notice.title) == (tone, title)
    assert found["cost"].billing is flows
    assert notice.money.startswith("Nothing is billed") is not flows


@pytest.mark.parametrize(
    "scene", ["requested", "creating", "booting", "ssh", "key", "running", "ends_soon"]
)
def test_no_notice_when_all_goes_its_way(scene):
    assert context_of(scene)["notice"] is None


def test_a_marketplace_without_its_key_is_a_red_notice(monkeypatch):
    monkeypatch.setattr(registry, "names", list)
    notice = context_of("running")["notice"]
    assert notice.tone == "bad" and "no longer configured" in notice.title
    assert notice.money.startswith("Billing $0.410 an hour")


@pytest.mark.parametrize(
    ("scene", "words", "gives_up"),
    [
        ("requested", "a worker", None),
        ("creating", "Vast.ai to answer the create request", 600),
        ("unknown", "looked up by its label", 600),
        ("leftover", "a refused machine to be gone", 600),
        ("booting", "Vast.ai to start the machine", 900),
        ("ssh", "SSH to answer on ssh5.example.org:39860, try 3", 600),
        ("key", "SSH to accept the key", 600),
    ],
)
def test_the_present_step_says_what_it_waits_for_and_until_when(scene, words, gives_up):
    found = context_of(scene)
    step = next(step for step in found["steps"] if step.state == "now")
    assert words in step.waiting_for
    until = step.gives_up_at and (step.gives_up_at - found["session"].state_since).total_seconds()
    assert until == gives_up


@pytest.mark.parametrize(
    ("scene", "verdicts"),
    [
        ("creating", ["not created", "asked"]),
        ("unknown", ["no clear answer"]),
        ("leftover", ["refused, left a machine"]),
        ("booting", ["not created", "starting"]),
        ("running", ["not created", "in use"]),
        ("stopping", ["stopping"]),
        ("ended", ["confirmed gone"]),
    ],
)
def test_attempts_have_their_verdict(scene, verdicts):
    assert [line.verdict for line in context_of(scene)["attempts"]] == verdicts


def test_proof_of_cleanup_shows_both_pieces_of_evidence():
    found = context_of("ended")
    (line,) = found["attempts"]
    assert len(line.proof) == 2
    assert found["notice"].proof == line.proof
    html = live.session_parts(found)["attempts"]
    assert "Absent from a complete listing and by its id" in html and "and again at" in html


def test_connect_box_gives_command_config_and_host_key():
    connect = context_of("running")["connect"]
    assert connect.command.endswith("-p 39860 root@ssh5.example.org")
    assert connect.known_hosts == f"[ssh5.example.org]:39860 {HOST_KEY}"
    assert connect.forget == "ssh-keygen -R '[ssh5.example.org]:39860'"
    assert connect.editor == f"vscode://vscode-remote/ssh-remote+{connect.alias}/root"
    assert connect.copy.endswith(f" {connect.alias}:/root/")
    assert connect.fingerprint.startswith("SHA256:") and len(connect.fingerprint) == 50
    assert "IdentityFile ~/.ssh/gpu-" in connect.config


@pytest.mark.parametrize(
    "way",
    [
        {"host": "-oProxyCommand=x", "port": 22, "user": "root"},
        {"host": "a;rm -rf", "port": 22, "user": "root"},
        {"host": "h.example.org", "port": "22 -o", "user": "root"},
        {"host": "h.example.org", "port": 0, "user": "root"},
        {"host": "h.example.org", "port": 22, "user": "$(id)"},
    ],
)
def test_an_address_that_could_be_shell_is_never_shown(way):
    now = timezone.now()
    session, attempts = build("running", now)
    attempts[-1].endpoints = [way]
    attempts[-1].save()
    found = live.session_context(session, now)
    assert found["connect"] is None
    assert str(way["host"]) not in "".join(live.session_parts(found).values())


@pytest.mark.parametrize("scene", ["requested", "booting", "stopping", "ended"])
def test_no_address_before_it_is_checked_or_after_it_stops(scene):
    assert context_of(scene)["connect"] is None


def test_claimed_and_found_stand_side_by_side():
    good, bad = context_of("running")["compared"], context_of("wrong_hardware")["compared"]
    assert [line.same for line in good] == [True, True, None, None]
    assert [line.same for line in bad] == [False, False, None, None] and "RTX 3060" in bad[0].found
    assert all(not line.found for line in context_of("booting")["compared"])


def test_memory_that_nobody_sold_is_not_called_the_same():
    session, [*_, attempt] = build("running", timezone.now(), gpu_memory_mb=0)
    attempt.offer = attempt.offer | {"gpu_memory_mb": 0}  # adopted
    memory = compared.compared(session, attempt)[1]
    assert (memory.sold, memory.found, memory.same) == ("not said", "24,564 MB", None)


def test_cost_so_far_per_hour_and_at_most():
    now = timezone.now()
    session, attempts = build("running", now, expires_at=now + timedelta(hours=2))
    cost = live.session_context(session, now)["cost"]
    assert cost.so_far == attempts[-1].cost(now) > 0
    assert cost.per_hour == Decimal("0.41")
    assert cost.at_most == cost.so_far + Decimal("0.82")


def test_nobody_can_say_the_most_while_a_stopped_machine_is_not_proven_gone():
    assert context_of("stopping")["cost"].at_most is None
    assert context_of("ended")["cost"].at_most == context_of("ended")["cost"].so_far > 0


def test_timeline_tells_the_audit_in_words_and_repeats_once():
    session = make_session(State.VERIFYING)
    audit.append("session.launch", session=session, actor=f"user:{session.owner_id}")
    for _ in range(3):
        audit.append("ssh.verdict", session=session, actor="worker",
                     data={"stage": "", "message": "connection refused"})  # fmt: skip
    timeline = live.session_context(session, timezone.now())["timeline"]
    assert [(m.text, m.detail, m.times) for m in timeline] == [
        ("SSH does not answer yet", "connection refused", 3), ("Launch requested", "", 1),
    ]  # fmt: skip
    assert timeline[1].who == session.owner.username


def test_every_reason_of_the_lifecycle_has_words():
    words = """user expired boot_timeout boot_failed ssh_timeout ssh_refused wrong_hardware
        price_breach no_offers offer_gone no_funds auth invalid not_created vanished
        host_key_changed provider_gone admin"""
    for word in words.split():
        assert explain.reason(word).meaning


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_renders_whole_without_a_request(scene):
    found = context_of(scene)
    parts = live.session_parts(found)
    assert set(parts) == set(live.PARTS)
    assert found["status"] in parts["head"]
    assert "csrf" not in "".join(parts.values()) and "style=" not in "".join(parts.values())


TROUBLES = """no_offers no_funds boot_timeout ssh_refused wrong_hardware price_breach vanished
    stopping_failed unreachable host_key"""


@pytest.mark.parametrize("scene", TROUBLES.split())
def test_each_trouble_says_what_happened_what_it_costs_and_what_next(scene):
    told = context_of(scene)["notice"]
    assert told.title and told.text and told.money and told.advice


def test_queries_do_not_grow_with_attempts_and_events(django_assert_num_queries):
    now = timezone.now()
    session, _ = build("running", now)
    audit.append("session.extend", session=session, actor=f"user:{session.owner_id}")
    live.session_context(session, now)  # what is usual is read once a minute
    with CaptureQueriesContext(connection) as few:
        live.session_context(session, now)
    for number in range(3, 8):
        make_attempt(session, number=number, resolution="not_created")
        audit.append("attempt.not_created", session=session, actor="worker")
    with django_assert_num_queries(len(few)):
        live.session_context(session, now)
    assert len(few) <= 4


def test_list_queries_do_not_grow(django_assert_num_queries):
    owner = make_user()
    for scene in ("running", "ended", "unreachable", "booting", "stopping"):
        build(scene, timezone.now(), owner=owner)
    with django_assert_num_queries(4):
        live.list_push(str(owner.pk), timezone.now())
    visible = Session.objects.visible_to(owner)
    with django_assert_num_queries(3):
        overview.ended(visible, timezone.now(), 7, 1)


# ---- over HTTP


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
    assert "the longest" not in client.get(page).content.decode()
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
