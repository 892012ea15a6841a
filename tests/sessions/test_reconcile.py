"""Sessions from launch to proof over a marketplace in memory: each failure on its way."""

from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest

from providers.base import (
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    InstanceState,
    Listing,
    NotSent,
    ProviderError,
)
from providers.models import Lane, Offer, ProviderHealth
from providers.stats import Timed
from sessions import asks, identity, labels, reconcile, ssh
from sessions.asks import LaunchRefused, Order
from sessions.models import Attempt, AuditEvent, Session, Sighting
from sessions.states import Outcome, Resolution, State
from tests.factories import make_offer, make_user
from tests.sessions.market_double import ACCOUNT, GOOD, World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(monkeypatch) -> World:
    identity.ensure()
    return World().install(monkeypatch)


@pytest.fixture
def owner():
    return make_user()


def order(offer: Offer, **fields) -> Order:
    values = {
        "idempotency_key": str(uuid4()),
        "provider": "vastai",
        "offer_id": offer.offer_id,
        "image": "nvidia/cuda:12.4.1-devel-ubuntu22.04",
        "disk_gb": 20,
        "hours": 4,
        "max_price_per_hour": Decimal("0.50"),
        "public_keys": ["ssh-ed25519 AAAAperson"],
    }
    return Order(**(values | fields))


def launch(world: World, owner, **fields) -> Session:
    offer = fields.pop("offer", None) or make_offer()
    return asks.launch(owner, order(offer, **fields), now=world.now)


def running(world: World, owner, **fields) -> Session:
    return world.until_state(launch(world, owner, **fields), State.RUNNING)


def ended(world: World, session: Session) -> Session:
    world.until_state(session, State.ENDED)
    assert not Attempt.objects.exclude(resolution__in=["gone", "not_created"]).exists()
    return session


def events(session: Session) -> list[str]:
    rows = AuditEvent.objects.filter(session_code=session.code)
    return [e.data["to"] if e.action == "session.state" else e.action for e in rows]


def test_the_whole_life(world, owner):
    session = running(world, owner)
    assert world.market.count("create") == 1
    assert world.market.count("attach") == 2, "gpubroker's own key and the person's"
    assert session.found["gpus"] == [["NVIDIA GeForce RTX 4090", 24564]]
    assert session.host_key == "ssh-ed25519 AAAA"
    assert asks.stop(session, owner, now=world.now)
    ended(world, session)
    assert (session.outcome, session.reason) == (Outcome.OK, "user")
    assert world.market.machines == {}
    assert (session.checker_key, session.generated_key) == ("", "")
    states = [e for e in events(session) if e in State.values]
    assert states == ["creating", "booting", "verifying", "running", "stopping", "ended"]
    assert session.attempt.absences == 2


def test_a_double_click_is_one_session(world, owner):
    wish = order(make_offer())
    assert asks.launch(owner, wish).pk == asks.launch(owner, wish).pk
    assert Session.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("max_price_per_hour", {"max_price_per_hour": Decimal("0.39")}),
        ("disk_gb", {"disk_gb": 5}),
        ("disk_gb", {"disk_gb": 501}),
        ("hours", {"hours": 13}),
        ("public_keys", {"public_keys": []}),
    ],
)
def test_a_launch_that_cannot_be_is_refused_at_the_edge(world, owner, field, fields):
    with pytest.raises(LaunchRefused) as refusal:
        launch(world, owner, **fields)
    assert refusal.value.field == field and not Session.objects.exists()


def test_a_generated_key_is_sealed_and_erased(world, owner):
    session = running(world, owner, public_keys=[], generate_key=True)
    assert "PRIVATE" not in session.generated_key and len(session.public_keys) == 1
    asks.stop(session, owner, now=world.now)
    assert ended(world, session).generated_key == ""


def lost(world: World):
    """The machine exists, the answer does not."""

    def fail(spec):
        world.market.add(spec.label)
        return CreateResult(outcome=CreateOutcome.UNKNOWN, message="502")

    return fail


def test_a_lost_answer_is_adopted_and_never_sent_again(world, owner):
    world.market.fail["create"] = lost(world)
    session = running(world, owner)
    assert session.attempt.resolution == Resolution.ADOPTED
    assert world.market.count("create") == 1
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    assert world.market.machines == {}


def test_a_stop_while_the_answer_is_lost_destroys_what_turns_up(world, owner):
    world.market.fail["create"] = lost(world)
    session = launch(world, owner)
    world.until(lambda: world.market.count("create") == 1)
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    assert world.market.machines == {} and session.attempt.resolution == Resolution.GONE


def test_an_answer_lost_before_anything_was_made_ends_in_the_next_offer(world, owner):
    make_offer(base_price_per_hour=Decimal("0.41"))

    def fail(spec):
        world.market.fail.clear()
        return CreateResult(outcome=CreateOutcome.UNKNOWN, message="time-out")

    world.market.fail["create"] = fail
    session = running(world, owner)
    first, second = session.attempts.order_by("number")
    assert (first.resolution, second.resolution) == (Resolution.NOT_CREATED, Resolution.CREATED)
    assert (first.resolved_at - first.answered_at).total_seconds() >= 180


def test_a_late_arrival_is_an_orphan_and_destroyed(world, owner):
    label = []
    world.market.fail["create"] = lambda spec: (
        label.append(spec.label) or CreateResult(outcome=CreateOutcome.UNKNOWN)
    )
    session = launch(world, owner, fallback="none")
    ended(world, session)
    world.market.add(label[0])
    world.until(lambda: not world.market.machines)
    world.until(lambda: Sighting.objects.filter(gone_at__isnull=False).exists())
    assert world.market.count("destroy") == 1


def test_stale_offers_are_evicted_and_the_next_comparable_one_taken(world, owner):
    cheap, dear, other = (
        make_offer(base_price_per_hour=Decimal(p), gpu_name=g)
        for p, g in (("0.41", "RTX 4090"), ("0.45", "RTX 4090"), ("0.30", "RTX 3090"))
    )

    def fail(spec):
        if spec.offer_id == dear.offer_id:
            world.market.fail.clear()
        return CreateResult(outcome=CreateOutcome.OFFER_GONE, message="no_such_ask")

    world.market.fail["create"] = fail
    clicked = make_offer(base_price_per_hour=Decimal("0.40"))
    final = make_offer(base_price_per_hour=Decimal("0.49"))
    session = running(world, owner, offer=clicked)
    tried = [a.offer_id for a in session.attempts.order_by("number")]
    assert tried == [o.offer_id for o in (clicked, cheap, dear, final)]
    clicked.refresh_from_db()
    assert clicked.evicted_until > world.now
    assert other.offer_id not in tried


def test_it_gives_up_after_five_offers_with_the_providers_words(world, owner):
    for _ in range(9):
        make_offer()
    world.market.fail["create"] = lambda spec: CreateResult(
        outcome=CreateOutcome.OFFER_GONE, message="no_such_ask is not available"
    )
    session = ended(world, launch(world, owner))
    assert (session.outcome, session.reason) == (Outcome.FAILED, "offer_gone")
    assert "no_such_ask" in session.reason_text and session.attempts.count() == 5


def test_no_offer_above_the_ceiling_is_ever_taken(world, owner):
    make_offer(base_price_per_hour=Decimal("0.51"))
    world.market.fail["create"] = lambda spec: CreateResult(outcome=CreateOutcome.OFFER_GONE)
    session = ended(world, launch(world, owner))
    assert session.reason == "no_offers" and session.attempts.count() == 1


@pytest.mark.parametrize("outcome", [CreateOutcome.RATE, CreateOutcome.NOT_SENT])
def test_too_often_and_not_sent_try_the_same_offer_again(world, owner, outcome):
    left = [1, 2]

    def fail(spec):
        left.pop()
        if not left:
            world.market.fail.clear()
        return CreateResult(outcome=outcome, message="later")

    world.market.fail["create"] = fail
    session = running(world, owner, fallback="none")
    assert len({a.offer_id for a in session.attempts.all()}) == 1
    assert len({a.label for a in session.attempts.all()}) == 3


def test_a_leftover_is_destroyed_and_proven_before_the_next_offer(world, owner):
    make_offer()

    def fail(spec):
        world.market.fail.clear()
        machine = world.market.add(spec.label, state=InstanceState.STOPPED)
        return CreateResult(outcome=CreateOutcome.LEFTOVER, instance_id=machine.instance_id)

    world.market.fail["create"] = fail
    session = running(world, owner)
    first, second = session.attempts.order_by("number")
    assert first.gone_at and second.created_at >= first.gone_at
    assert len(world.market.machines) == 1


def test_an_address_that_no_listing_tells_is_read_by_id(world, owner):
    world.market.fail["list"] = lambda: Listing(
        instances=tuple(replace(m, endpoints=()) for m in world.market.machines.values()),
        account_id=ACCOUNT,
    )
    session = running(world, owner)
    assert session.ssh_way == {"host": "127.0.0.1", "port": 22, "user": "root"}
    assert session.attempt.endpoints == [session.ssh_way]


def test_a_fallback_is_compared_with_its_own_offer(world, owner):
    make_offer(gpu_name="RTX 3090", base_price_per_hour=Decimal("0.41"))

    def fail(spec):
        world.market.fail.clear()
        return CreateResult(outcome=CreateOutcome.OFFER_GONE)

    world.market.fail["create"] = fail
    found = ssh.FoundGPU(name="NVIDIA GeForce RTX 3090", memory_mb=24564)
    world.check = replace(GOOD, gpus=(found,))
    assert running(world, owner, fallback="memory").attempt.offer["gpu_name"] == "RTX 3090"


def test_a_machine_that_dies_while_booting_fails_with_its_words(world, owner):
    session = launch(world, owner)
    world.until(lambda: world.market.machines)
    (machine_id,) = world.market.machines
    world.change(machine_id, state=InstanceState.FAILED, status_message="OCI runtime create failed")
    ended(world, session)
    assert (session.reason, session.reason_text) == ("boot_failed", "OCI runtime create failed")


def test_a_higher_price_than_agreed_is_stopped_at_first_sight(world, owner):
    session = launch(world, owner)
    world.until(lambda: world.market.machines)
    (machine_id,) = world.market.machines
    world.change(machine_id, price_per_hour=Decimal("0.60"))
    ended(world, session)
    assert session.reason == "price_breach"


def test_another_gpu_is_never_handed_out(world, owner):
    found = (ssh.FoundGPU(name="Tesla T4", memory_mb=15360),)
    world.check = replace(GOOD, gpus=found)
    session = ended(world, launch(world, owner))
    assert session.reason == "wrong_hardware" and world.market.machines == {}


def test_a_refused_key_fails_early_and_silence_at_the_deadline(world, owner):
    world.check = ssh.Check(stage="open", refused=True, message="refused our key")
    first = ended(world, launch(world, owner))
    assert first.reason == "ssh_refused"
    assert (first.stop_requested_at - first.attempt.ready_at).total_seconds() < 120
    world.check = ssh.Check(message="no answer")
    second = ended(world, launch(world, owner))
    assert second.reason == "ssh_timeout" and second.reason_text == "no answer"


def test_expiry_stops_within_a_minute(world, owner):
    session = running(world, owner, hours=1)
    world.turn(3600)
    world.until_state(session, State.STOPPING)
    assert (session.stop_requested_at - session.expires_at).total_seconds() < 60
    assert (session.reason, session.outcome) == ("expired", Outcome.OK)
    ended(world, session)


def test_unreachable_is_a_mark_and_heals(world, owner):
    running(world, owner)
    world.check = ssh.Check(message="no answer")
    world.until(lambda: Session.objects.get().unreachable_since is not None)
    world.check = GOOD
    world.until(lambda: Session.objects.get().unreachable_since is None)
    assert Session.objects.get().state == State.RUNNING and world.market.count("destroy") == 0


def test_a_changed_host_key_is_a_mark_and_not_a_reason_to_destroy(world, owner):
    session = running(world, owner)
    world.check = ssh.Check(stage="open", host_key_changed=True, message="another host key")
    world.until(lambda: Session.objects.get().unreachable_since is not None)
    for _ in range(60):
        world.turn(15)
    session.refresh_from_db()
    assert session.state == State.RUNNING and session.host_key == "ssh-ed25519 AAAA"


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
    assert (world.now - started).total_seconds() >= 1800


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
    later = world.now.replace(year=world.now.year + 1)
    Lane.objects.exclude(operation="destroy").exclude(operation="read").update(open_until=later)
    asks.stop(session, owner, now=world.now)
    ended(world, session)


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
