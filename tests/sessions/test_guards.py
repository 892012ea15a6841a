"""Guards that other guards cover for: each one alone, so that losing it is noticed."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from providers.base import (
    CreateOutcome,
    CreateResult,
    InstanceState,
    Listing,
    ProviderError,
    RequestRefused,
    SSHEndpoint,
)
from providers.models import Snapshot
from providers.vastai import VastAI
from sessions import (
    asks,
    attention,
    audit,
    evidence,
    identity,
    keys,
    labels,
    lifecycle,
    moves,
    reconcile,
    ssh,
    steps,
    sweep,
)
from sessions.calls import AttachCall, DestroyCall, ReadCall
from sessions.evidence import Scene, gather
from sessions.models import Attempt, AuditEvent, Deployment, Session, Sighting
from sessions.moves import StaleSession
from sessions.states import Outcome, Resolution, State
from tests.factories import make_attempt
from tests.sessions.market_double import ACCOUNT, GOOD, World
from tests.sessions.stories import ended, launch, running

pytestmark = pytest.mark.django_db


def late_arrival(world: World, owner) -> str:
    """A label whose create was given up -> a machine that carries it turns up now."""
    world.market.fail["create"] = lambda spec: CreateResult(outcome=CreateOutcome.OFFER_GONE)
    session = ended(world, launch(world, owner, fallback="none"))
    world.market.add(session.attempt.label)
    return session.attempt.label


def read_only(world: World) -> None:
    Deployment.objects.update(installation_id="copied")
    assert identity.current().read_only


def test_an_extension_is_faster_than_an_expiry_that_was_decided(world, owner):
    """The worker has read the row before, and writes after."""
    session = running(world, owner)
    world.now = session.expires_at + timedelta(seconds=1)
    (as_read,) = reconcile.claim_due(50, world.now)
    assert asks.extend(session, owner, 1, now=world.now)
    assert reconcile.advance(as_read, Scene(), world.now) is None
    world.turn()
    session.refresh_from_db()
    assert (session.state, session.reason) == (State.RUNNING, "")
    world.now = session.expires_at
    world.turn()
    session.refresh_from_db()
    assert (session.state, session.reason) == (State.STOPPING, "expired")


def test_the_database_refuses_a_second_open_attempt():
    """I6, whatever the code above it believes."""
    first = make_attempt()
    with pytest.raises(IntegrityError), transaction.atomic():
        make_attempt(first.session)
    Attempt.objects.filter(pk=first.pk).update(resolution=Resolution.NOT_CREATED)
    second = make_attempt(first.session)
    Attempt.objects.filter(pk=second.pk).update(resolution=Resolution.GONE)
    assert make_attempt(first.session).number == 3


def test_a_machine_that_moves_is_looked_for_where_it_is(world, owner, monkeypatch):
    session, asked = running(world, owner), []
    (machine_id,) = world.market.machines

    def check(target: ssh.Target) -> ssh.Check:
        asked.append((target.host, target.port))
        return GOOD if target.port == 2222 else ssh.Check(message="no answer")

    monkeypatch.setattr(ssh, "check", check)
    there = SSHEndpoint(host="203.0.113.7", port=2222, user="root")
    world.change(machine_id, endpoints=(there,))
    for _ in range(2):
        world.turn(61)
    session.refresh_from_db()
    assert asked[-1] == (there.host, there.port) and session.ssh_way == vars(there)
    assert session.state == State.RUNNING and session.unreachable_since is None


def test_an_empty_id_asks_for_nothing():
    provider = VastAI(api_key="not-a-real-key", base_url="http://127.0.0.1:9")
    with pytest.raises(RequestRefused):
        provider.get_instance("")


def test_an_orphan_that_changed_its_label_is_left_alone(world, owner):
    late_arrival(world, owner)
    (machine_id,) = world.market.machines
    world.market.fail["read"] = lambda i: replace(world.market.machines[i], label="not ours")
    for _ in range(60):
        world.turn(5)
    assert machine_id in world.market.machines and world.market.count("destroy") == 0
    assert Sighting.objects.get().destroy_tries


def test_an_orphan_needs_two_looks_a_minute_apart(world, owner):
    late_arrival(world, owner)
    started = world.now
    world.until(lambda: world.market.count("destroy"))
    assert 60 <= (world.now - started).total_seconds() <= 300
    assert Sighting.objects.get().looks >= 2


def test_one_look_is_not_two_however_long_ago(world, owner):
    late_arrival(world, owner)
    world.turn(3)
    Sighting.objects.update(first_seen_at=world.now - timedelta(hours=1))
    assert Sighting.objects.get().looks == 1
    assert not sweep.claim(50, world.now)


def test_a_read_only_deployment_sweeps_nothing(world, owner):
    late_arrival(world, owner)
    for _ in range(10):
        world.turn(3)
    read_only(world)
    for _ in range(60):
        world.turn(5)
    assert world.market.count("destroy") == 0 and world.market.machines


def test_a_permit_is_given_once(world, owner):
    session = launch(world, owner)
    world.claim()
    Attempt.objects.update(sent_at=world.now)
    session.refresh_from_db()
    with pytest.raises(StaleSession):
        steps.create(session, lifecycle.Create(), world.now + timedelta(seconds=60))
    assert AuditEvent.objects.filter(action="provider.create.intent").count() == 1


def test_the_providers_id_is_never_erased(world, owner):
    session = running(world, owner)
    instance_id = session.attempt.instance_id
    asks.stop(session, owner, now=world.now)
    assert ended(world, session).attempt.instance_id == instance_id != ""


@pytest.mark.parametrize("state", [s for s in InstanceState if s != InstanceState.RUNNING])
def test_a_stopped_machine_is_present(world, owner, state):
    session = running(world, owner)
    world.check = ssh.Check(message="no answer")
    world.change(session.attempt.instance_id, state=state)
    for _ in range(40):
        world.turn(15)
    session.refresh_from_db()
    assert (session.state, session.attempt.absences) == (State.RUNNING, 0)
    facts = gather(session, Scene(), world.now)
    assert facts.listed and facts.seen.state == state


def test_an_incomplete_listing_is_no_absence(world, owner):
    session = running(world, owner)
    asks.stop(session, owner, now=world.now)
    world.until(lambda: world.market.count("destroy"))
    world.turn(4)
    accepted = session.attempt.destroy_accepted_at
    assert Snapshot.objects.filter(started_at__gt=accepted).update(complete=False)
    session.refresh_from_db()
    facts = gather(session, Scene(), world.now)
    assert facts.listed_at is None or facts.listed_at <= accepted


def test_a_host_key_is_pinned_once(world, owner):
    session = running(world, owner)
    world.check = replace(GOOD, host_key="ssh-ed25519 BBBB")
    for _ in range(20):
        world.turn(15)
    session.refresh_from_db()
    assert session.ssh_checked_at > session.verified_at and session.host_key == "ssh-ed25519 AAAA"


def test_who_was_overtaken_changes_nothing(world, owner):
    session = launch(world, owner)
    stale = Session.objects.get(pk=session.pk)
    Session.objects.update(fence=session.fence + 1)
    with pytest.raises(StaleSession):
        moves.change(stale, now=world.now, failures=7)
    with pytest.raises(StaleSession):
        moves.stop(stale, "user", "", Outcome.OK, actor="user:1", now=world.now)
    session.refresh_from_db()
    assert (session.state, session.failures) == (State.REQUESTED, 0)


def test_what_is_claimed_is_not_claimed_again(world, owner):
    launch(world, owner)
    assert len(reconcile.claim_due(50, world.now)) == 1
    assert reconcile.claim_due(50, world.now) == []
    later = world.now + timedelta(seconds=reconcile.CLAIM_SECONDS + 1)
    assert len(reconcile.claim_due(50, later)) == 1, "a lost claim comes back"


def test_of_two_claims_one_wins(world, owner):
    launch(world, owner)
    one, other = Session.objects.get(), Session.objects.get()
    assert [reconcile.take(one, world.now), reconcile.take(other, world.now)] == [True, False]


def test_a_state_and_its_event_are_written_together(world, owner, monkeypatch):
    session = launch(world, owner)

    def full(*args, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr(audit, "append", full)
    with pytest.raises(OSError):
        moves.stop(session, "user", "", Outcome.OK, actor="user:1", now=world.now)
    assert Session.objects.get().state == State.REQUESTED


def test_cost_runs_from_the_permit_to_the_proof(world, owner):
    session = running(world, owner)
    attempt = session.attempt
    Attempt.objects.update(
        sent_at=world.now - timedelta(hours=2), answered_at=world.now - timedelta(hours=1)
    )
    attempt.refresh_from_db()
    assert attempt.cost(world.now) == Decimal("0.40") * 2
    Attempt.objects.update(gone_at=world.now, resolution=Resolution.GONE)
    attempt.refresh_from_db()
    assert attempt.cost(world.now + timedelta(hours=5)) == Decimal("0.40") * 2


def test_cost_follows_the_price_and_a_rise_destroys_nothing(world, owner):
    """What was billed before the change keeps its price (I22); its owner is told (I15)."""
    session = running(world, owner, hours=8)
    (machine_id,) = world.market.machines
    begun = session.attempt.sent_at
    for hours, price, told in ((2, "0.60", "$0.600"), (4, "0.50", "$0.500"), (6, "0.40", "")):
        world.now = begun + timedelta(hours=hours)
        world.change(machine_id, price_per_hour=Decimal(price))
        world.turn(0)
        alerts = [alert.title for alert in attention.of_sessions([session], world.now)]
        assert [t.split(": ")[-1] for t in alerts] == (
            [f"billed {told} an hour, agreed were $0.404"] if told else []
        )
    world.now = begun + timedelta(hours=7)
    attempt = session.attempt
    earned = 2 * Decimal("0.40") + 2 * Decimal("0.60") + 2 * Decimal("0.50") + Decimal("0.40")
    assert abs(attempt.cost(world.now) - earned) < Decimal("0.002")
    last_hour = attempt.cost(world.now, since=world.now - timedelta(hours=1))
    assert abs(last_hour - Decimal("0.40")) < Decimal("0.001")
    session.refresh_from_db()
    assert session.state == State.RUNNING and world.market.count("destroy") == 0
    told = AuditEvent.objects.filter(action="instance.price").first()
    assert told.data["message"] == "$0.400000 an hour until now, $0.60 from now on"
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    assert abs(session.attempt.cost(world.now + timedelta(days=1)) - earned) < Decimal("0.01")


def test_a_price_that_never_rests_is_not_followed_without_end(world, owner):
    session = running(world, owner)
    (machine_id,) = world.market.machines
    for number in range(evidence.MOST_RATES + 20):
        world.change(machine_id, price_per_hour=Decimal("0.41") - Decimal(number % 2) / 100)
        world.turn(61)
    assert len(session.attempt.offer["rates"]) == evidence.MOST_RATES


def test_a_label_of_another_account_is_not_swept(world, owner):
    """Our key now opens another account, in which a copy of our label stands."""
    session = running(world, owner)
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    foreign = labels.make(identity.current(), "vastai", "999", session.code, 1)
    world.market.add(foreign)
    for _ in range(30):
        world.turn(15)
    assert world.market.machines and not Sighting.objects.filter(label=foreign).exists()
    world.market.fail["list"] = lambda: Listing(
        instances=tuple(world.market.machines.values()), account_id="999"
    )
    for _ in range(30):
        world.turn(15)
    assert world.market.machines and ACCOUNT != "999"


def stopping_reads(world: World, owner) -> ReadCall:
    """A session whose destroy was accepted, and the read that a process holds for it."""
    session = running(world, owner)
    asks.stop(session, owner, now=world.now)
    world.until(lambda: world.market.count("destroy"))
    for _ in range(60):
        world.now += timedelta(seconds=3)
        world.read()
        for call in reconcile.claim(50, world.now):
            return call
    raise AssertionError("no read was due")


def test_an_overtaken_read_is_no_evidence(world, owner):
    call = stopping_reads(world, owner)
    assert isinstance(call, ReadCall)
    Session.objects.update(fence=call.fence + 1)
    reconcile.finish(call, reconcile.perform(call), world.now)
    assert Attempt.objects.get().absences == 0


def test_one_read_is_one_piece_of_evidence_however_often_it_is_told(world, owner):
    call = stopping_reads(world, owner)
    answer = reconcile.perform(call)
    for _ in range(3):  # a commit whose confirmation was lost is told again
        reconcile.finish(call, answer, world.now)
    assert Attempt.objects.get().absences == 1


def test_no_line_of_a_private_key_is_in_a_repr(world, owner):
    pem = keys.generate().private_pem
    target = ssh.Target(host="192.0.2.1", port=22, user="root", private_pem=pem)
    shown = repr(target)
    assert not [line for line in pem.splitlines() if line and line in shown]


def test_a_key_told_twice_is_one_key(world, owner):
    """By a process that was overtaken, or after a commit whose confirmation was lost."""
    session, call = launch(world, owner), None
    while not isinstance(call, AttachCall):
        (call,) = world.claim()
        answer = reconcile.perform(call)
        world.read()
        if not isinstance(call, AttachCall):
            reconcile.finish(call, answer, world.now)
    for _ in range(3):
        reconcile.finish(call, answer, world.now)
    assert session.attempt.keys_attached == 1
    world.until_state(session, State.RUNNING)
    assert session.attempt.keys_attached == 2


def test_a_key_that_cannot_be_installed_is_not_waited_for_without_end(world, owner):
    def refuse(instance_id: str) -> None:
        raise ProviderError("500")

    world.market.fail["attach"] = refuse
    session = ended(world, launch(world, owner))
    assert (session.outcome, session.reason) == (Outcome.FAILED, "boot_timeout")


def test_a_late_answer_to_a_destroy_takes_no_proof_back(world, owner):
    session = running(world, owner)
    asks.stop(session, owner, now=world.now)
    (call,) = [call for call in world.claim() if isinstance(call, DestroyCall)]
    answer = reconcile.perform(call)
    world.turn(200)  # paused; another process goes on, and ends it
    attempt = ended(world, session).attempt
    reconcile.finish(call, answer, world.now)
    attempt.refresh_from_db()
    assert attempt.absences >= 2 and attempt.first_absence_at < attempt.gone_at
