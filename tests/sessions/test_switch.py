"""A machine's own switch, as gpubroker keeps it: told of extensions, believed only in its words."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from providers.dead_man import GRACE_SECONDS, epoch
from sessions import answers, asks, attention, money, page, ssh, switch, watch
from sessions.models import AuditEvent, Session
from sessions.states import Outcome, State
from tests.sessions.market_double import GOOD
from tests.sessions.stories import ended, events, running

pytestmark = pytest.mark.django_db
GRACE = timedelta(seconds=GRACE_SECONDS)


def says(end: datetime, what: str = "ready", age: int = 30) -> str:
    return f"gpubroker-switch {epoch(end)} {what} {age}\n"


class Machine:
    """What the switch on the machine does with the command: it moves later, and says so."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.reached = True
        self.output: str | None = None  # instead of a proper answer
        self.end: datetime | None = None

    def check(self, target: ssh.Target) -> ssh.Check:
        if not target.also:
            return GOOD
        self.commands.append(target.also)
        if not self.reached:
            return ssh.Check(message="The port does not answer (no connection in time).")
        asked = int(target.also.split("echo ")[1].split()[0])
        if self.end and asked > epoch(self.end):
            self.end = datetime.fromtimestamp(asked, self.end.tzinfo)
        spoken = says(self.end) if self.end else ""
        return replace(GOOD, also=spoken if self.output is None else self.output)


@pytest.fixture
def machine(world, monkeypatch) -> Machine:
    world.market.capabilities = replace(world.market.capabilities, self_destroy=True)
    found = Machine()
    monkeypatch.setattr(ssh, "check", found.check)
    create = world.market.create

    def remember(spec):
        found.end, found.lease = spec.lease.end, spec.lease
        return create(spec)

    monkeypatch.setattr(world.market, "create", remember)
    return found


def attempt(session: Session):
    session.refresh_from_db()
    return session.attempt


def cost(session: Session, world) -> money.Cost:
    return money.cost(session, session.attempts.all(), world.now)


def for_a_while(world, minutes: float) -> None:
    for _ in range(int(2 * minutes)):
        world.turn(30)


def test_a_create_call_carries_the_end_and_the_longest(world, owner, machine):
    session = running(world, owner)
    assert machine.lease.end == session.expires_at == attempt(session).switch_at
    assert machine.lease.start == attempt(session).sent_at
    assert machine.lease.latest == session.created_at + timedelta(hours=12)


def test_without_the_means_no_switch_is_set_and_nothing_more_is_run(world, owner, machine):
    world.market.capabilities = replace(world.market.capabilities, self_destroy=False)
    world.market.create = type(world.market).create.__get__(world.market)
    session = running(world, owner)
    for_a_while(world, 3)
    assert machine.commands == [] and attempt(session).switch_at is None


def test_the_machine_is_asked_once_and_again_after_a_while(world, owner, machine):
    session = running(world, owner)
    assert attempt(session).switch_seen_at is None
    for_a_while(world, 3)
    assert len(machine.commands) == 1 and attempt(session).switch_seen_at
    for_a_while(world, 20)
    assert len(machine.commands) in (2, 3)


def test_an_extension_moves_the_machines_end(world, owner, machine):
    session = running(world, owner)
    for_a_while(world, 3)
    asks.extend(session, owner, 2, now=world.now)
    for_a_while(world, 3)
    assert machine.end - attempt(session).switch_at < timedelta(seconds=1)
    assert attempt(session).switch_at >= session.expires_at
    assert events(session).count("switch.heard") == 2


def test_what_cannot_be_reached_is_told_again_until_it_has_heard(world, owner, machine):
    session = running(world, owner)
    first = session.expires_at
    for_a_while(world, 3)
    machine.reached = False
    asks.extend(session, owner, 2, now=world.now)
    for_a_while(world, 10)
    assert len(machine.commands) > 5 and attempt(session).switch_at < session.expires_at
    assert not [a for a in attention.of_sessions([session], world.now) if "itself" in a.title]
    world.now = first - timedelta(minutes=9)
    found = attention.of_sessions([attempt(session).session], world.now)
    assert f"{first + GRACE:%H:%M} UTC although" in found[0].title
    assert found[0].severity == attention.BAD
    notice = page.notice(session, session.attempt, cost(session, world), "Vast.ai", world.now, {})
    assert notice.tone == "bad" and f"{first + GRACE:%H:%M}" in notice.title
    watch.record(world.now)
    assert AuditEvent.objects.filter(action="alert.raised", reason=found[0].title).exists()
    machine.reached = True
    session.refresh_from_db()
    for_a_while(world, 5)
    assert attempt(session).switch_at >= session.expires_at
    assert not [a for a in attention.of_sessions([session], world.now) if "itself" in a.title]


@pytest.mark.parametrize("output", ["", "sh: not found", "gpubroker-switch x ready 5", None])
def test_what_does_not_answer_as_a_switch_is_not_confirmed(world, owner, machine, output):
    session = running(world, owner)
    machine.output = says(session.expires_at, "helpless") if output is None else output
    for_a_while(world, 4)
    assert attempt(session).switch_seen_at is None
    assert session.state == State.RUNNING
    shown = switch.own_end(session, session.attempt)
    assert shown == switch.OwnEnd(
        possible=True, at=session.expires_at + GRACE, confirmed=False
    ) or (output is None and not shown.confirmed)


def test_one_that_dies_later_is_not_confirmed_any_more(world, owner, machine):
    session = running(world, owner)
    for_a_while(world, 3)
    assert attempt(session).switch_seen_at
    machine.output = says(session.expires_at, age=100_000)
    for_a_while(world, 15)
    assert attempt(session).switch_seen_at is None


def test_an_end_that_cannot_be_is_not_believed(world, owner, machine):
    session = running(world, owner)
    machine.output = says(session.created_at + timedelta(hours=13))
    for_a_while(world, 3)
    assert attempt(session).switch_at == session.expires_at


def asleep_until(world, at: datetime) -> None:
    """Nobody looks meanwhile, and the machine has destroyed itself when they do."""
    world.market.machines.clear()
    world.now = at


def test_a_machine_that_ended_itself_is_told_as_such(world, owner, machine):
    session = running(world, owner)
    for_a_while(world, 3)
    fires = attempt(session).switch_at + GRACE
    asleep_until(world, fires + timedelta(hours=5))
    ended(world, session)
    gone = attempt(session)
    assert (session.outcome, session.reason) == (Outcome.OK, "expired")
    assert gone.ended_itself_at == fires
    assert gone.billed_until(world.now) == fires, "not until somebody came back"
    notice = page.notice(session, gone, cost(session, world), "Vast.ai", world.now, {})
    assert f"It destroyed itself at about {fires:%H:%M} UTC." in notice.text


def test_a_machine_that_was_gone_before_its_time_did_not_end_itself(world, owner, machine):
    session = running(world, owner)
    for_a_while(world, 3)
    asleep_until(world, attempt(session).switch_at + timedelta(minutes=5))
    ended(world, session)
    assert attempt(session).ended_itself_at is None


def test_a_machine_that_was_logged_in_to_later_did_not_end_itself(world, owner, machine):
    """Its switch was taken out; somebody destroyed it by hand after that."""
    session = running(world, owner)
    for_a_while(world, 3)
    fires = attempt(session).switch_at + GRACE
    Session.objects.update(ssh_seen_at=fires + timedelta(minutes=5))
    asleep_until(world, fires + timedelta(hours=1))
    ended(world, session)
    assert attempt(session).ended_itself_at is None


def test_nobody_claims_it_of_a_switch_that_never_spoke(world, owner, machine):
    session = running(world, owner)
    asleep_until(world, attempt(session).switch_at + GRACE * 3)
    ended(world, session)
    assert attempt(session).ended_itself_at is None


def test_an_extension_that_never_arrived_ends_as_lost(world, owner, machine):
    session = running(world, owner)
    for_a_while(world, 3)
    machine.reached = False
    asks.extend(session, owner, 3, now=world.now)
    fires = attempt(session).switch_at + GRACE
    asleep_until(world, fires + timedelta(minutes=1))
    ended(world, session)
    gone = attempt(session)
    assert (session.outcome, session.reason) == (Outcome.LOST, "vanished")
    assert gone.ended_itself_at == fires and gone.destroy_tries == 0


def test_a_second_destroy_proves_nothing_of_the_switch(world, owner, machine):
    """The first may have been the one that worked."""
    session = running(world, owner)
    for_a_while(world, 3)
    at = attempt(session)
    at.destroy_tries = 2
    call = type("Call", (), {"provider": "vastai", "lane": "destroy"})()
    world.now = at.switch_at + GRACE * 2
    at.save()
    answers.destroyed(call, answers.DestroyResult(outcome="not_found"), session, at, world.now)
    assert attempt(session).ended_itself_at is None


def test_who_ends_it_is_told_for_each_marketplace(world, owner, machine):
    session = running(world, owner)
    for_a_while(world, 3)
    shown = switch.own_end(session, attempt(session))
    assert shown.possible and shown.confirmed and shown.at >= session.expires_at + GRACE
    world.market.capabilities = replace(world.market.capabilities, self_destroy=False)
    assert switch.own_end(session, session.attempt) == switch.OwnEnd(possible=False)
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    assert switch.own_end(session, attempt(session)) is None
