"""What a start usually takes, where its time went, and when a step is late."""

from datetime import timedelta

import pytest
from django.utils import timezone

from sessions import live, typical
from sessions.progress import Part, Step, Typical, startup
from tests.web.scenes import build

NOW = timezone.now()


@pytest.fixture(autouse=True)
def anew():
    typical.forget()


def done(name: str, seconds: float | None) -> Step:
    return Step(name=name, state="done", at=NOW, seconds=seconds)


def test_a_step_needs_five_starts_and_tells_the_middle_and_nine_of_ten():
    found = typical.summary({"Booted": [50, 10, 20, 30, 40], "Created": [1, 2, 3, 4]})
    assert found == {"Booted": Typical(middle=30, most=46, count=5)}
    assert typical.nine_of_ten([*range(1, 12)]) == 10
    assert typical.summary({}) == {}


@pytest.mark.django_db
def test_only_starts_that_came_through_here_and_lately_count():
    for index in range(6):
        build("running", NOW - timedelta(minutes=index))
    build("running", NOW - timedelta(days=31))
    build("boot_timeout", NOW)
    build("running", NOW, provider="tensordock")[0].attempts.update(provider="tensordock")
    steps = typical.of("vastai", NOW)
    assert {usual.count for usual in steps.values()} == {6}
    assert list(steps) == ["Created", "Booted", "SSH answers", "Key accepted", "GPU verified",
                           "Running"]  # fmt: skip
    assert typical.of("tensordock", NOW) == {}


@pytest.mark.django_db
def test_the_record_is_read_once_a_minute(django_assert_num_queries):
    for scene in ("running", "ended", "wrong_hardware"):
        build(scene, NOW)
    minute = NOW.replace(second=0)
    with django_assert_num_queries(1):
        typical.of("vastai", minute)
        typical.of("vastai", minute + timedelta(seconds=59))
    with django_assert_num_queries(1):
        typical.of("vastai", minute + timedelta(seconds=60))


@pytest.mark.django_db
def test_the_page_says_what_is_usual_and_when_it_is_late():
    for _ in range(5):
        build("running", NOW)
    session, _ = build("booting", NOW)
    now, *todo = live.session_context(session, NOW)["steps"][2:]
    assert now.state == "now" and now.usual.count == 5
    assert now.late_at == now.since + timedelta(seconds=now.usual.most)
    assert all(step.usual for step in todo)
    html = live.session_fragments(session, NOW, push=False)["steps"]
    assert "nine of ten within" in html and "(5 starts here in 30 days)" in " ".join(html.split())
    assert 'class="late"' in html and "usually" in html
    assert (now.late_at > NOW) == ("hidden>This takes longer" in html)


def test_the_bar_has_a_part_for_each_step_and_is_whole():
    steps = [done("Requested", None), done("Created", 2), done("Booted", 6), done("Running", 0)]
    assert startup(steps) == [
        Part(name="Created", seconds=2, at=0, width=250),
        Part(name="Booted", seconds=6, at=250, width=750),
    ]
    assert startup([*steps, Step(name="GPU verified")]) == []
    assert startup([done("Requested", None)]) == []


@pytest.mark.django_db
@pytest.mark.parametrize(("scene", "shown"), [("running", True), ("ended", True), ("ssh", False)])
def test_a_session_that_came_through_shows_where_the_time_went(scene, shown):
    session, _ = build(scene, NOW)
    html = live.session_fragments(session, NOW, push=False)["steps"]
    assert ("Where the time went" in html) == shown
