"""Sessions that vanish, stop or are overtaken, and machines that belong to nobody."""

from datetime import timedelta

import pytest

from providers import lanes
from providers.base import (
    CreateOutcome,
    DestroyOutcome,
    DestroyResult,
    Listing,
    NotSent,
    ProviderError,
)
from providers.models import Lane, ProviderHealth
from providers.stats import Timed
from sessions import asks, clocks, identity, labels, reconcile, ssh
from sessions.models import AuditEvent, Session
from sessions.states import Outcome, Resolution, State
from tests.sessions.market_double import ACCOUNT
from tests.sessions.stories import ended, launch, running

pytestmark = pytest.mark.django_db


def test_a_vanished_machine_is_lost_after_three_pieces_of_evidence(world, owner):
    session = running(world, owner)
    world.check = ssh.Check(message="no answer")
    world.market.machines.clear()
    ProviderHealth.objects.update(frozen_reason="")
    gone_at = world.now
    ended(world, session)
    assert (session.outcome, session.reason) == (Outcome.LOST, "vanished")
    assert (session.attempt.gone_at - gone_at).total_seconds() >= 180
    assert session.attempt.absences >= 3


def test_ssh_vetoes_a_listing_that_lacks_the_machine(world, owner):
    session = running(world, owner)
    world.market.fail["list"] = lambda: Listing(instances=(), account_id=ACCOUNT)
    world.market.fail["read"] = lambda instance_id: None
    for _ in range(100):
        world.turn(10)
    session.refresh_from_db()
    assert session.state == State.RUNNING


def test_an_empty_list_with_many_machines_changes_nothing(world, owner):
    sessions = [running(world, owner) for _ in range(3)]
    world.check = ssh.Check(message="no answer")
    world.market.fail["list"] = lambda: Listing(instances=(), account_id=ACCOUNT)
    world.market.fail["read"] = lambda instance_id: None
    for _ in range(60):
        world.turn(15)
    assert {s.state for s in Session.objects.all()} == {State.RUNNING}
    assert ProviderHealth.objects.get().frozen_reason
    world.market.fail.clear()
    world.turn()
    world.until(lambda: not ProviderHealth.objects.get().frozen_reason)
    assert len(sessions) == 3 and world.market.count("destroy") == 0


def test_an_outage_changes_nothing(world, owner):
    session = running(world, owner)

    def down(*args):
        raise NotSent("connection refused")

    world.market.fail |= {"list": down, "read": down}
    for _ in range(60):
        world.turn(30)
    session.refresh_from_db()
    assert session.state == State.RUNNING


def test_another_accounts_empty_list_proves_nothing(world, owner):
    session = running(world, owner)
    world.market.fail["list"] = lambda: Listing(instances=(), account_id="666")
    for _ in range(5):
        world.turn(3)
    asks.stop(session, owner, now=world.now)
    for _ in range(100):
        world.turn(3)
    session.refresh_from_db()
    assert session.state == State.STOPPING and world.market.count("destroy") == 0
    world.market.fail.clear()
    ended(world, session)


def test_a_destroy_is_never_given_up(world, owner):
    session = running(world, owner)
    world.market.fail["destroy"] = lambda i: DestroyResult(outcome=DestroyOutcome.RETRY)
    asks.stop(session, owner, now=world.now)
    for _ in range(220):
        world.turn(310)
    session.refresh_from_db()
    assert session.state == State.STOPPING and world.market.count("destroy") > 200
    world.market.fail.clear()
    ended(world, session)
    assert world.market.machines == {}


def test_an_accepted_destroy_that_did_nothing_is_repeated(world, owner):
    session = running(world, owner)
    world.market.fail["destroy"] = lambda i: DestroyResult(outcome=DestroyOutcome.ACCEPTED)
    asks.stop(session, owner, now=world.now)
    for _ in range(100):
        world.turn(3)
    assert world.market.count("destroy") >= 3
    session.refresh_from_db()
    assert session.state == State.STOPPING
    world.market.fail.clear()
    ended(world, session)


def test_a_machine_with_another_label_is_never_destroyed(world, owner):
    session = running(world, owner)
    (machine_id,) = world.market.machines
    world.change(machine_id, label="somebody-else")
    asks.stop(session, owner, now=world.now)
    for _ in range(60):
        world.turn(3)
    assert world.market.count("destroy") == 0 and machine_id in world.market.machines


def test_foreign_machines_are_never_touched(world, owner):
    session = running(world, owner)
    label = session.attempt.label
    strangers = [
        world.market.add(text).instance_id
        for text in ("", "gb1-", label[:-1], label.upper(), label + "\n", label + "\u200b",
                     label[:-1] + ("a" if label[-1] != "a" else "b"), "<b>gb1</b>")
    ]  # fmt: skip
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    for _ in range(60):
        world.turn(30)
    assert set(world.market.machines) == set(strangers)


def test_a_second_machine_with_one_label_is_destroyed_and_one_kept(world, owner):
    session = running(world, owner)
    twin = world.market.add(session.attempt.label)
    world.until(lambda: twin.instance_id not in world.market.machines)
    session.refresh_from_db()
    assert session.state == State.RUNNING and len(world.market.machines) == 1


def test_an_instance_of_ours_without_any_row_waits_in_quarantine(world, owner):
    session = running(world, owner)
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    label = labels.make(identity.current(), "vastai", ACCOUNT, "a" * 16, 1)
    world.market.add(label)
    started = world.now
    world.until(lambda: not world.market.machines)
    assert 1800 <= (world.now - started).total_seconds() <= 2100


def test_many_orphans_at_once_are_not_believed(world, owner):
    session = running(world, owner)
    world.market.fail["create"] = None
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    for _ in range(5):
        world.market.add(session.attempt.label)
    for _ in range(100):
        world.turn(10)
    assert len(world.market.machines) == 5 and ProviderHealth.objects.get().frozen_reason


def test_a_killed_process_loses_nothing(world, owner):
    """Between the permit and the answer: the call is carried out, its answer is never written."""
    session = launch(world, owner)
    (call,) = world.claim()
    reconcile.perform(call)
    world.turn(120)
    world.until_state(session, State.RUNNING)
    assert world.market.count("create") == 1
    assert session.attempt.resolution == Resolution.ADOPTED


def test_a_paused_process_writes_nothing_after_it_was_overtaken(world, owner):
    session = running(world, owner)
    calls = world.claim()
    stale = ssh.Check(message="an old failure")
    world.turn(200)
    world.until(lambda: Session.objects.get().ssh_message == "")
    reconcile.finish(calls[0], Timed(answer=stale), world.now)
    session.refresh_from_db()
    assert session.ssh_message == "" and session.ssh_failures == 0


def test_a_late_answer_does_not_undo_what_others_found(world, owner):
    session = launch(world, owner)
    calls = world.claim()
    answer = reconcile.perform(calls[0])
    world.turn(120)
    world.until_state(session, State.BOOTING)
    reconcile.finish(calls[0], answer, world.now)
    assert session.attempt.resolution == Resolution.ADOPTED
    world.until_state(session, State.RUNNING)
    assert AuditEvent.objects.filter(action="provider.create.result").count() == 1


def test_an_old_permit_is_not_used(world, owner):
    launch(world, owner)
    calls = world.claim()
    world.turn(60)
    answer = reconcile.perform(calls[0])
    assert answer.answer.outcome == CreateOutcome.NOT_SENT and world.market.count("create") == 0


def test_our_own_bug_in_a_call_is_unknown_and_not_lost(world, owner):
    def broken(spec):
        world.market.add(spec.label)
        raise KeyError("bug")

    world.market.fail["create"] = broken
    session = running(world, owner)
    assert session.attempt.resolution == Resolution.ADOPTED


def test_an_open_breaker_never_delays_a_destroy(world, owner):
    session = running(world, owner)
    later = world.now + timedelta(minutes=10)
    Lane.objects.exclude(operation="destroy").exclude(operation="read").update(open_until=later)
    asks.stop(session, owner, now=world.now)
    ended(world, session)


def test_a_clock_that_ran_ahead_for_a_while_holds_nothing_up(world, owner):
    """An hour ahead for a minute and a half, then right again (I19)."""
    session = running(world, owner, hours=8)
    world.now += timedelta(hours=1)
    for _ in range(5):
        world.turn(20)
    assert lanes.take("vastai", "destroy", world.now) is None
    world.now -= timedelta(hours=1)
    world.listed_at, begun = None, world.now
    second = running(world, owner)
    for each in (session, second):
        asks.stop(each, owner, now=world.now)
        assert world.until_state(each, State.ENDED).outcome == Outcome.OK
    assert (world.now - begun).total_seconds() < 600 and world.market.machines == {}
    told = AuditEvent.objects.get(action="clock.mended")
    assert {"Session", "Lane", "Snapshot"} <= set(told.data)
    assert not clocks.mend(world.now)


@pytest.mark.parametrize(
    ("minutes", "times"),
    [
        pytest.param([0, 1, 9], 1, id="once"),
        pytest.param([0, 9, 11, 20], 2, id="now and then"),
        pytest.param([0, 60, 2], 3, id="an hour forth and back"),
        pytest.param([0, 16, 25, 10], 3, id="ahead for a while, and back by as little as counts"),
    ],
)
def test_what_a_wrong_clock_wrote_is_looked_for_after_each_jump(world, monkeypatch, minutes, times):
    looks = []
    monkeypatch.setattr(clocks, "mend", looks.append)
    monkeypatch.setattr(clocks, "last_mend", [])
    for minute in minutes:
        clocks.watch(world.now + timedelta(minutes=minute))
    assert len(looks) == times


def test_extend_stops_at_the_maximum(world, owner):
    session = running(world, owner)
    for _ in range(20):
        asks.extend(session, owner, 1, now=world.now)
    assert (session.expires_at - session.created_at).total_seconds() == 12 * 3600
    asks.stop(session, owner, now=world.now)
    assert not asks.extend(session, owner, 1, now=world.now)


def test_every_effect_has_its_intent(world, owner):
    session = running(world, owner)
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    for what in ("create", "attach", "destroy"):
        intents, results = (
            AuditEvent.objects.filter(action=f"provider.{what}.{kind}").count()
            for kind in ("intent", "result")
        )
        assert intents == results == world.market.count(what), what


def test_a_read_error_proves_nothing(world, owner):
    session = running(world, owner)

    def down(instance_id):
        raise ProviderError("503")

    asks.stop(session, owner, now=world.now)
    world.until(lambda: world.market.count("destroy") == 1)
    world.market.fail["read"] = down
    for _ in range(60):
        world.turn(10)
    session.refresh_from_db()
    assert session.state == State.STOPPING
    world.market.fail.clear()
    ended(world, session)
