"""What the page of a session says in every state and trouble."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from providers import registry
from sessions import audit, compared, explain, live, overview
from sessions.models import Session, Sighting
from sessions.states import State
from tests.factories import make_attempt, make_session, make_user
from tests.web.scenes import HOST_KEY, SCENES, build

pytestmark = pytest.mark.django_db


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


@pytest.mark.parametrize(("scene", "offered"), [("booting", True), ("ssh", True), ("ended", False)])
def test_a_generated_key_is_offered_as_long_as_it_opens_something(scene, offered):
    """Also before there is an address: nobody waits for the machine with nothing to do."""
    context = context_of(scene, generated_key="sealed", code="abcdef0123456789")
    shown = live.session_parts(context)["connect"]
    assert ("Download the key" in shown) is offered
    place = "mv ~/Downloads/gpu-abcdef ~/.ssh/ &amp;&amp; chmod 600 ~/.ssh/gpu-abcdef"
    assert (place in shown) is offered
    assert "Download the key" not in live.session_parts(context_of("booting"))["connect"]


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


def notice_of(scene: str, attempt: dict | None = None, **fields):
    now = timezone.now()
    session, attempts = build(scene, now, **fields)
    for name, value in (attempt or {}).items():
        setattr(attempts[-1], name, value)
        attempts[-1].save()
    return live.session_context(session, now)["notice"]


def test_only_the_chosen_offer_is_no_matter_of_ceilings():
    notice = notice_of("no_offers", fallback="none")
    assert notice.title == "Failed: the chosen offer gave no machine"
    assert "Only this offer was to be tried. The last try: the offer was gone." in notice.text
    assert "ceiling" not in notice.advice
    session = Session.objects.get()
    assert live.session_context(session, timezone.now())["timeline"] == []
    assert overview.row(session, timezone.now()).line == "The chosen offer gave no machine"


def test_a_gpu_that_does_not_show_is_no_matter_of_ssh():
    seen = {"reason": "ssh_timeout", "ssh_key_at": timezone.now()}
    assert "GPU could not be checked" in notice_of("ssh_refused", **seen).title
    assert "SSH did not answer" in notice_of("ssh_refused", reason="ssh_timeout").title


@pytest.mark.parametrize(
    ("attempt", "speaker"),
    [
        ({"outcome": "offer_gone"}, "Vast.ai"),
        ({"outcome": "unknown"}, ""),  # the words are those of our client
        ({"outcome": "not_sent"}, ""),
    ],
)
def test_nobody_is_quoted_with_words_of_ours(attempt, speaker):
    assert notice_of("no_offers", attempt).speaker == speaker
    assert (
        notice_of("no_offers", attempt, reason_text="HTTP 502 without an explanation").speaker == ""
    )


def test_a_stop_that_takes_long_says_so_and_what_one_can_do():
    long = timezone.now() - timedelta(minutes=10)
    refused = {"destroy_message": "Internal Server Error", "destroy_accepted_at": None}
    notice = notice_of("stopping", refused | {"destroy_tries": 9}, state_since=long)
    assert (notice.tone, notice.words) == ("bad", "Internal Server Error")
    assert notice.title == "Stopped on request, but it is not gone yet"
    assert "destroy it at Vast.ai" in notice.advice and "try 9" in notice.text
    held = {"destroy_message": "refused: another account", "destroy_tries": 0}
    notice = notice_of("stopping", refused | held)
    assert notice.title == "Stopped on request" and "cannot be destroyed just now" in notice.text


def test_what_does_not_run_at_the_marketplace_is_told():
    assert (
        "Vast.ai reports the machine as “exited”."
        in notice_of("unreachable", {"raw_state": "exited"}).text
    )
    assert "reports" not in notice_of("unreachable").text


def test_a_price_that_rises_later_is_told_with_both_figures():
    notice = notice_of("running", {"actual_price_per_hour": Decimal("0.9")})
    assert (notice.tone, notice.title) == ("warn", "The price has risen")
    assert "bills $0.900 an hour; agreed were $0.408" in notice.text


def test_a_machine_that_came_late_is_told_with_its_attempt():
    now = timezone.now()
    session, [attempt] = build("no_offers", now)
    attempt.outcome = "unknown"
    attempt.save()
    assert "nothing was charged" in live.session_context(session, now)["notice"].money
    seen = {"provider": "vastai", "instance_id": "31255099", "label": attempt.label}
    late = Sighting.objects.create(**seen, first_seen_at=now, last_seen_at=now)
    found = live.session_context(session, now)
    assert "see its attempt" in found["notice"].text and found["came_late"]
    assert found["attempts"][0].verdict == "came late"
    Sighting.objects.filter(pk=late.pk).update(gone_at=now)
    assert live.session_context(session, now)["attempts"][0].verdict == "came late, gone"


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
