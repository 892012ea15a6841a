"""The stop when idle: the pure judgement of samples, and sessions that live or end by it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from sessions import asks, attention, idle, load, money, page, tasks
from sessions import lifecycle as do
from sessions.asks import LaunchRefused
from sessions.idle import IDLE_LOAD, LEAST_SAMPLES, STEADY_MB, Idle, Sample, Watch
from sessions.models import AuditEvent, GPUSample, Session
from sessions.rules import RULES
from sessions.states import Outcome, State
from sessions.steps import apply
from tests.factories import make_session
from tests.sessions.market_double import GOOD
from tests.sessions.stories import ended, events, launch, running
from tests.sessions.test_lifecycle import facts

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
HALF_HOUR = 1800.0


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def sample(minute: float, load: int | None = 0, memory_mb: int | None = 1) -> Sample:
    return Sample(at=at(minute), load=load, memory_mb=memory_mb)


def looks(first: int, last: int, **fields: int | None) -> list[Sample]:
    """One each minute, both ends included."""
    return [sample(minute, **fields) for minute in range(first, last + 1)]


def since(samples: list[Sample], now: float) -> float | None:
    """Minute from which on the GPU has been idle."""
    found = idle.stretch(samples, RULES, at(now))
    return (found.since - T0) / timedelta(minutes=1) if found else None


@pytest.mark.parametrize(
    ("samples", "now", "expected"),
    [
        pytest.param([], 10, None, id="none"),
        pytest.param(looks(0, 10), 10, 0, id="idle"),
        pytest.param(looks(0, 10), 15, 0, id="last look five minutes ago"),
        pytest.param(looks(0, 10), 15.1, None, id="no look for longer"),
        pytest.param(looks(0, 10, load=IDLE_LOAD), 10, 0, id="at the threshold"),
        pytest.param(looks(0, 10, load=IDLE_LOAD + 1), 10, None, id="above it"),
        pytest.param([*looks(0, 9), sample(10, load=90)], 10, None, id="just now in use"),
        pytest.param([*looks(0, 9), sample(10, load=None)], 10, None, id="just now unknown"),
        pytest.param([*looks(0, 9), sample(10, memory_mb=None)], 10, None, id="memory unknown"),
        pytest.param(looks(0, 10), 5, 0, id="another clock is five minutes ahead"),
        pytest.param(looks(0, 10), 4.9, None, id="the clock was set back"),
        pytest.param(looks(0, 5) + looks(10, 20), 20, 0, id="gap of five minutes"),
        pytest.param(looks(0, 5) + looks(11, 20), 20, 11, id="gap of six minutes"),
        pytest.param([*looks(0, 4), sample(5, load=90), *looks(6, 9)], 9, 6, id="used once"),
        pytest.param([*looks(0, 4), sample(5, load=None), *looks(6, 9)], 9, 6, id="unknown once"),
        pytest.param(looks(0, 4) + looks(5, 9, memory_mb=1 + STEADY_MB), 9, 0, id="steady"),
        pytest.param(looks(0, 4) + looks(5, 9, memory_mb=2 + STEADY_MB), 9, 5, id="memory grew"),
        pytest.param(looks(0, 4, memory_mb=9000) + looks(5, 9), 9, 5, id="memory was freed"),
        pytest.param([sample(m, memory_mb=40 * m) for m in range(10)], 9, 7, id="memory grows on"),
    ],
)
def test_since_when_a_gpu_is_idle(samples, now, expected):
    assert since(samples, now) == expected


def test_the_proof_counts_what_it_stands_on():
    found = idle.stretch([sample(0, load=80), *looks(1, 8), sample(9, load=3)], RULES, at(9))
    assert found == Idle(since=at(1), last=at(9), count=9, highest=3)
    assert found.words == "9 looks from 12:01:00 to 12:09:00 UTC, GPU at most 3 % busy"


def decided(samples: list[Sample], now: float, stops_at: float | None = None) -> do.Action:
    announced = None if stops_at is None else at(stops_at)
    watch = Watch(seconds=HALF_HOUR, samples=samples, stops_at=announced)
    session = facts(State.RUNNING, idle=watch, ssh_checked_at=at(now), expires_at=at(9999))
    return do.decide(session, RULES, at(now))


def test_a_warning_comes_ten_minutes_before_and_the_stop_after_both():
    assert isinstance(decided(looks(0, 19), 19), do.Wait)
    warning = decided(looks(0, 20), 20)
    assert isinstance(warning, do.WarnIdle) and warning.stops_at == at(30)
    assert isinstance(decided(looks(0, 29), 29, stops_at=30), do.Wait)
    stop = decided(looks(0, 30), 30, stops_at=30)
    assert isinstance(stop, do.StopIdle) and stop.proof.count == 31


def test_a_late_warning_still_gives_ten_minutes():
    late = decided(looks(0, 50), 50)
    assert isinstance(late, do.WarnIdle) and late.stops_at == at(60)
    assert isinstance(decided(looks(0, 59), 59, stops_at=60), do.Wait)


def test_only_a_look_after_the_announced_moment_stops():
    assert isinstance(decided(looks(0, 29), 30.5, stops_at=30), do.Wait)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param([*looks(0, 24), sample(25, load=70)], id="in use"),
        pytest.param([*looks(0, 24), sample(25, load=None)], id="unknown"),
        pytest.param([*looks(0, 23), sample(24, load=70), sample(25)], id="in use a minute ago"),
        pytest.param(looks(0, 19), id="no look for six minutes"),
        pytest.param([], id="kept running"),
    ],
)
def test_a_warning_is_called_off(samples):
    assert isinstance(decided(samples, 25, stops_at=30), do.CallOffIdle)


@pytest.mark.parametrize("missing", range(1, 7))
def test_looks_that_are_missing_never_count_as_idle(missing):
    """A quarter of an hour without SSH in the middle of an idle hour: it starts anew."""
    samples = looks(0, 10) + looks(10 + 5 + missing, 39)
    assert not isinstance(decided(samples, 39, stops_at=35), do.StopIdle)
    assert isinstance(decided(samples, 39, stops_at=35), do.CallOffIdle | do.Wait)


def test_few_samples_are_not_enough():
    few = [sample(minute) for minute in (0, 5, 10, 15)]
    watch = Watch(seconds=900, samples=few, stops_at=at(15))
    found = idle.stretch(few, RULES, at(15))
    assert len(few) == LEAST_SAMPLES - 1 and not idle.over(found, watch)
    found = idle.stretch([*few, sample(16)], RULES, at(16))
    assert idle.over(found, watch)


def test_without_having_asked_nothing_is_stopped():
    session = facts(State.RUNNING, ssh_checked_at=at(50), expires_at=at(9999))
    assert isinstance(do.decide(session, RULES, at(50)), do.Wait)


# ---- sessions


pytestmark = pytest.mark.django_db
IDLE = replace(GOOD, load=0, memory_used_mb=1)
BUSY = replace(GOOD, load=97, memory_used_mb=20_000)
NOT_TOLD = replace(GOOD, load=None, memory_used_mb=1)


def for_a_while(world, session: Session, minutes: float) -> Session:
    until = world.now + timedelta(minutes=minutes)
    while world.now < until:
        world.turn(60)
    session.refresh_from_db()
    return session


def test_an_idle_session_is_warned_of_and_stopped_with_its_proof(world, owner):
    world.check = IDLE
    session = running(world, owner, idle_minutes=15)
    for_a_while(world, session, 7)
    assert session.idle_stops_at and "idle.warned" in events(session)
    found = attention.of_sessions([session], world.now)
    assert found[0].severity == attention.WARN and "idle" in found[0].title
    cost = money.cost(session, session.attempts.all(), world.now)
    notice = page.notice(session, session.attempt, cost, "Vast.ai", world.now, {})
    assert notice.keep and f"{session.idle_stops_at:%H:%M}" in notice.title
    announced = session.idle_stops_at
    for_a_while(world, session, 9)
    ended(world, session)
    assert (session.outcome, session.reason) == (Outcome.OK, "idle")
    stopped = AuditEvent.objects.get(session_code=session.code, action="idle.stopped")
    assert stopped.data["samples"] >= 14 and stopped.data["highest_load"] == 0
    assert datetime.fromisoformat(stopped.data["last"]) >= announced
    assert session.reason_text.startswith(f"{stopped.data['samples']} looks from")
    destroys = AuditEvent.objects.filter(action="provider.destroy.intent", reason="idle")
    assert destroys.count() == 1 and world.market.machines == {}


@pytest.mark.parametrize("check", [BUSY, NOT_TOLD, replace(IDLE, memory_used_mb=None)])
def test_a_gpu_in_use_or_unknown_stops_nothing(world, owner, check):
    world.check = check
    session = for_a_while(world, running(world, owner, idle_minutes=15), 9)
    assert session.state == State.RUNNING and "idle.warned" not in events(session)
    assert session.gpu_samples.count() >= 5


def test_an_unreachable_machine_is_not_idle(world, owner):
    world.check = IDLE
    session = for_a_while(world, running(world, owner, idle_minutes=15), 7)
    assert session.idle_stops_at
    world.check = replace(GOOD, stage="", gpus=(), host_key="")
    for_a_while(world, session, 12)
    assert session.state == State.RUNNING and session.idle_stops_at is None
    assert events(session).count("idle.called_off") == 1


def test_without_the_choice_samples_are_kept_and_nothing_follows(world, owner):
    world.check = IDLE
    session = for_a_while(world, running(world, owner), 9)
    assert session.state == State.RUNNING and session.gpu_samples.count() >= 5


def test_keep_running_calls_it_off_and_counts_anew(world, owner):
    world.check = IDLE
    session = for_a_while(world, running(world, owner, idle_minutes=15), 8)
    assert asks.keep_running(session, owner, now=world.now)
    for_a_while(world, session, 4)
    assert session.idle_stops_at is None and session.state == State.RUNNING
    for_a_while(world, session, 4)
    assert session.idle_stops_at > world.now, "idleness counts from the click"
    assert asks.idle_stop(session, owner, None, now=world.now)
    for_a_while(world, session, 18)
    assert session.state == State.RUNNING and session.idle_minutes is None
    assert not asks.idle_stop(session, owner, 14) and not asks.idle_stop(session, owner, 721)
    row = AuditEvent.objects.get(session_code=session.code, action="session.idle_stop")
    assert row.data == {"idle_minutes": None, "idle_minutes_before": 15}


def test_who_keeps_it_running_is_faster_than_a_stop_that_was_decided(world, owner):
    world.check = IDLE
    session = for_a_while(world, running(world, owner, idle_minutes=15), 8)
    proof = Idle(since=world.now, last=world.now, count=15, highest=0)
    decision = do.StopIdle(session.idle_stops_at, proof)
    asks.keep_running(Session.objects.get(pk=session.pk), owner, now=world.now)
    with pytest.raises(asks.StaleSession):
        apply(session, decision, world.now)
    session.refresh_from_db()
    assert session.state == State.RUNNING and "idle.stopped" not in events(session)


@pytest.mark.parametrize("said", ["off", "another time", "kept running", "extended"])
def test_no_warning_follows_what_somebody_said_meanwhile(world, owner, said):
    session = running(world, owner, idle_minutes=15)
    proof = Idle(since=world.now, last=world.now, count=15, highest=0)
    person = Session.objects.get(pk=session.pk)
    assert {
        "off": lambda: asks.idle_stop(person, owner, None, now=world.now),
        "another time": lambda: asks.idle_stop(person, owner, 30, now=world.now),
        "kept running": lambda: asks.keep_running(person, owner, now=world.now),
        "extended": lambda: asks.extend(person, owner, 1, now=world.now),
    }[said]()
    with pytest.raises(asks.StaleSession):
        apply(session, do.WarnIdle(world.now, proof), world.now)
    session.refresh_from_db()
    assert session.idle_stops_at is None and "idle.warned" not in events(session)


def test_an_extension_says_that_it_is_in_use(world, owner):
    session = running(world, owner, idle_minutes=15)
    proof = Idle(since=world.now, last=world.now, count=15, highest=0)
    apply(session, do.WarnIdle(world.now + timedelta(minutes=10), proof), world.now)
    assert asks.extend(session, owner, 1, now=world.now)
    session.refresh_from_db()
    assert session.idle_stops_at is None and session.idle_from == world.now


@pytest.mark.parametrize("minutes", [0, 14, 721])
def test_a_time_that_cannot_be_is_refused(world, owner, minutes):
    with pytest.raises(LaunchRefused) as refusal:
        launch(world, owner, idle_minutes=minutes)
    assert refusal.value.field == "idle_minutes"


@pytest.mark.django_db
def test_samples_go_after_a_day_also_while_nothing_runs():
    session, now = make_session(State.ENDED), timezone.now()
    for hours in (23, 25):
        at = now - timedelta(hours=hours)
        GPUSample.objects.create(session=session, at=at, load=0, memory_mb=1)
    tasks.backstop()
    [kept] = session.gpu_samples.all()
    assert kept.at == now - timedelta(hours=23)


def test_the_chart_breaks_where_nothing_is_known():
    samples = [*looks(0, 2, load=50), sample(3, load=None), *looks(4, 5), sample(15, load=100)]
    chart = load.chart(samples, 24_564)
    assert [part[0] for part in chart.load.split("M")[1:]] and chart.load.count("M") == 3
    assert chart.memory.count("M") == 2
    assert chart.load.endswith("M600.0 2.0h.1")
    assert chart.words == (
        "7 looks in 15 min; GPU 0 to 100 % busy; memory in use 1 to 1 of 24,564 MB; "
        "1 without figures"
    )
