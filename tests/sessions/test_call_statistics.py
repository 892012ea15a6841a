"""Each call of a session or of the sweep that came back is counted once, as it ended."""

import pytest

from providers.base import CreateOutcome, CreateResult, DestroyOutcome, DestroyResult
from providers.models import CallHour
from providers.stats import together
from sessions import asks, sweep
from sessions.models import Sighting
from sessions.states import State
from tests.factories import make_offer, make_user
from tests.sessions.stories import order

pytestmark = pytest.mark.django_db


def counted(operation: str) -> tuple[int, int, int]:
    """(calls, errors, rate limited), whatever the hour."""
    found = together(CallHour.objects.filter(provider="vastai", operation=operation))
    assert sum(found.latencies) == found.calls - found.errors - found.rate_limited
    return found.calls, found.errors, found.rate_limited


def test_calls_of_a_whole_session(world) -> None:
    answers = [CreateOutcome.RATE, CreateOutcome.OFFER_GONE]

    def refuse(spec) -> CreateResult:
        outcome = answers.pop(0)
        if not answers:
            del world.market.fail["create"]
        return CreateResult(outcome=outcome)

    def stumble(instance_id) -> DestroyResult:
        del world.market.fail["destroy"]
        return DestroyResult(outcome=DestroyOutcome.RETRY, http_status=502)

    make_offer()
    world.market.fail |= {"create": refuse, "destroy": stumble}
    session = asks.launch(make_user(), order(make_offer()), now=world.now)
    world.until_state(session, State.RUNNING)
    asks.stop(session, session.owner, now=world.now)
    world.until_state(session, State.ENDED)
    assert counted("create") == (3, 0, 1)
    assert counted("attach") == (world.market.count("attach"), 0, 0)
    calls, errors, _ = counted("destroy")
    assert (calls, errors) == (world.market.count("destroy"), 1)
    operations = set(CallHour.objects.values_list("operation", flat=True))
    assert operations <= {"create", "attach", "destroy", "read"}  # logins are no calls


def test_destroys_of_the_sweep(world) -> None:
    machine = world.market.add("a label of ours")
    sighting = Sighting.objects.create(
        provider="vastai",
        instance_id=machine.instance_id,
        label=machine.label,
        first_seen_at=world.now,
        last_seen_at=world.now,
    )
    call = sweep.OrphanCall(
        provider="vastai",
        instance_id=machine.instance_id,
        label=machine.label,
        sighting_id=sighting.pk,
    )
    sweep.finish(call, sweep.perform(call), world.now)
    assert counted("destroy") == (world.market.count("destroy"), 0, 0) == (1, 0, 0)
