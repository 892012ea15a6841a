"""An orphan that no row knows becomes a session again, where that is honest."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from providers.base import InstanceState
from providers.models import ProviderHealth
from sessions import adopt, asks, attention, identity, labels, ssh, sweep
from sessions.adopt import AdoptRefused
from sessions.models import Attempt, AuditEvent, Session, Sighting
from sessions.states import Outcome, Resolution, State
from tests.factories import make_key, make_session
from tests.sessions.market_double import ACCOUNT
from tests.sessions.stories import ended, events

pytestmark = pytest.mark.django_db
CODE = "abcdefghij234567"


@pytest.fixture
def lost(world):
    """A machine of ours on the account, seen, whose rows are not there."""
    label = labels.make(identity.current(), "vastai", ACCOUNT, CODE, 3)
    made = world.now - timedelta(hours=2)
    world.market.add(label, gpu_name_raw="RTX 4090", gpu_count=1, machine_id="m7", created_at=made)
    world.until(lambda: Sighting.objects.exists())
    return Sighting.objects.get()


def refusal(world, owner, lost) -> str:
    before = (Session.objects.count(), AuditEvent.objects.count())
    with pytest.raises(AdoptRefused) as caught:
        adopt.adopt(lost.pk, owner, "a demo", world.now)
    assert (Session.objects.count(), AuditEvent.objects.count()) == before
    assert Sighting.objects.filter(pk=lost.pk, gone_at=lost.gone_at).exists()
    return str(caught.value)


def test_it_goes_the_way_of_every_session(world, owner, lost):
    key = make_key(owner)
    session = adopt.adopt(lost.pk, owner, "a demo runs on it", world.now)
    assert (session.code, session.owner, session.attempt.number) == (CODE, owner, 3)
    assert session.expires_at == world.now + timedelta(hours=4)
    assert session.public_keys == [key.public_key] and session.checker_public_key
    world.until_state(session, State.RUNNING)
    assert world.market.count("attach") == 2 and world.market.count("create") == 0
    assert session.found["problems"] == [] and session.host_key
    assert [e for e in events(session) if e in State.values] == [
        "creating", "booting", "verifying", "running",
    ]  # fmt: skip
    told = AuditEvent.objects.get(action="session.adopted")
    assert (told.actor, told.reason) == (f"user:{owner.pk}", "a demo runs on it")
    assert told.label == lost.label and told.session_code == CODE
    asks.stop(session, owner, now=world.now)
    ended(world, session)
    assert world.market.machines == {} and session.outcome == Outcome.OK
    assert AuditEvent.objects.filter(action="provider.destroy.intent").count() == 1


def test_it_is_no_orphan_any_more(world, owner, lost):
    session = adopt.adopt(lost.pk, owner, "a demo", world.now)
    world.until_state(session, State.RUNNING)
    for minutes in (1, 40, 41, 42):  # longer than any quarantine
        world.turn(minutes * 60)
        world.turn(15)
    session.refresh_from_db()
    assert session.is_open
    assert world.market.count("destroy") == 0
    assert not Sighting.objects.filter(gone_at__isnull=True).exists()
    assert attention.scene(world.now).orphans == []


def test_it_is_billed_since_it_exists(world, owner, lost):
    session = adopt.adopt(lost.pk, owner, "a demo", world.now)
    [machine] = world.market.machines.values()
    attempt = session.attempt
    assert (attempt.sent_at, attempt.resolution) == (machine.created_at, Resolution.ADOPTED)
    assert attempt.cost(world.now) >= Decimal("0.40") * 2
    assert session.max_price_per_hour == attempt.price_per_hour == Decimal("0.40")


def test_another_gpu_than_it_says_is_wrong_hardware(world, owner, lost):
    session = adopt.adopt(lost.pk, owner, "a demo", world.now)
    world.check = replace(world.check, gpus=(ssh.FoundGPU(name="NVIDIA A2", memory_mb=16000),))
    world.until_state(session, State.STOPPING)
    assert session.reason == "wrong_hardware"


def test_a_session_that_is_known_is_not_made_again(world, owner, lost):
    make_session(State.ENDED, code=CODE)
    assert "Its session is known" in refusal(world, owner, lost)


def test_a_marketplace_without_late_keys_cannot(world, owner, lost):
    world.market.capabilities = replace(world.market.capabilities, attach_key=False)
    assert "takes keys only when it creates" in refusal(world, owner, lost)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": InstanceState.STOPPED}, "does not run"),
        ({"price_per_hour": None}, "what it costs"),
        ({"gpu_name_raw": ""}, "what it is"),
        ({"gpu_count": 0}, "what it is"),
    ],
)
def test_what_cannot_be_verified_is_refused(world, owner, lost, fields, words):
    world.change(lost.instance_id, **fields)
    world.turn(10)
    assert words in refusal(world, owner, lost)


def test_what_is_not_listed_is_refused(world, owner, lost):
    world.market.machines.clear()
    world.turn(10)
    lost.refresh_from_db()
    assert "gone" in refusal(world, owner, lost)


def test_another_account_or_a_read_only_copy_is_refused(world, owner, lost, settings):
    ProviderHealth.objects.update(account_id="2002")
    assert "another account" in refusal(world, owner, lost)
    ProviderHealth.objects.update(account_id=ACCOUNT)
    settings.DEPLOYMENT_ID = "other00000"
    assert "read-only" in refusal(world, owner, lost)


def test_of_an_adoption_and_a_destroy_one_wins(world, owner, lost):
    """The sweep has read the row before, and takes it after."""
    world.now += timedelta(hours=1)
    lost.looks = 9
    adopted = adopt.adopt(lost.pk, owner, "a demo", world.now)
    assert sweep._take(lost, world.now) == []
    assert adopted.state == State.BOOTING


def test_a_destroy_that_was_sent_is_not_taken_back(world, owner, lost):
    world.until(lambda: Sighting.objects.get().destroy_tries or not world.market.machines, 2000)
    lost.refresh_from_db()
    assert "destroy was sent" in refusal(world, owner, lost)


def test_two_people_adopt_it_once(world, owner, lost):
    adopt.adopt(lost.pk, owner, "a demo", world.now)
    lost.refresh_from_db()
    refusal(world, owner, lost)
    assert Session.objects.count() == Attempt.objects.count() == 1
