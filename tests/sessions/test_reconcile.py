"""Sessions from launch to proof over a marketplace in memory: each failure on its way."""

from dataclasses import replace
from decimal import Decimal

import pytest

from providers.base import (
    CreateOutcome,
    CreateResult,
    InstanceState,
    Listing,
)
from sessions import asks, ssh
from sessions.asks import LaunchRefused
from sessions.models import Session, Sighting
from sessions.states import Outcome, Resolution, State
from tests.factories import make_offer
from tests.sessions.market_double import ACCOUNT, GOOD
from tests.sessions.stories import ended, events, launch, lost, order, running

pytestmark = pytest.mark.django_db


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
