"""decide() on plain values: every state, works / not yet / too late / outage."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers.base import CreateOutcome, InstanceState
from sessions import lifecycle as do
from sessions.facts import AttemptFacts, Facts, Seen
from sessions.lifecycle import STEPS, decide
from sessions.rules import MAX_OFFERS, RULES
from sessions.states import NEXT, Outcome, Resolution, State

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def attempt(**kw) -> AttemptFacts:
    given = {"number": 1, "created_at": T0, "sent_at": T0, "answered_at": T0, "ever_seen": True}
    made = {"outcome": CreateOutcome.CREATED, "resolution": Resolution.CREATED}
    price = {"instance_id": "7", "price_per_hour": Decimal("0.10")}
    return AttemptFacts(**(given | made | price | kw))


def unknown(**kw) -> AttemptFacts:
    lost = {"outcome": CreateOutcome.UNKNOWN, "resolution": "", "instance_id": ""}
    return attempt(**(lost | {"ever_seen": False} | kw))


def seen(state: InstanceState = InstanceState.RUNNING, **kw) -> Seen:
    return Seen(**({"instance_id": "7", "state": state, "has_endpoint": True} | kw))


def facts(state: State, **kw) -> Facts:
    given = {
        "state": state,
        "state_since": T0,
        "created_at": T0,
        "expires_at": at(4 * 3600),
        "max_price_per_hour": Decimal("0.12"),
        "attempt": attempt(),
    }
    return Facts(**(given | kw))


def action(f: Facts, seconds: float = 1):
    return decide(f, RULES, at(seconds))


def failed(f: Facts, seconds: float = 1) -> str:
    got = action(f, seconds)
    assert isinstance(got, do.Move) and got.to == State.STOPPING, got
    assert got.outcome == Outcome.FAILED
    return got.reason


def test_every_state_has_a_step_and_only_ended_has_no_way_out():
    assert set(STEPS) == set(State) == set(NEXT)
    assert [s for s in State if not NEXT[s]] == [State.ENDED]
    assert all(State.STOPPING in NEXT[s] for s in State if s not in ("stopping", "ended"))


@pytest.mark.parametrize("state", State)
def test_a_read_only_deployment_only_waits(state):
    assert isinstance(action(facts(state, read_only="restored"), 99999), do.Wait)


@pytest.mark.parametrize("state", State)
def test_news_are_written_down_first(state):
    news = {"raw_state": "loading"}
    assert action(facts(state, news=news)) == do.Observe(news)


@pytest.mark.parametrize("state", [s for s in State if s not in ("stopping", "ended")])
def test_expiry_stops_every_state(state):
    f = facts(state)
    assert action(f, 4 * 3600 - 1) != do.Move(State.STOPPING, "expired", outcome="ok")
    got = action(f, 4 * 3600)
    assert (got.to, got.reason) == (State.STOPPING, "expired")
    assert got.outcome == (Outcome.OK if state == State.RUNNING else Outcome.FAILED)


def test_requested_tries_an_offer():
    assert action(facts(State.REQUESTED, attempt=None)) == do.TryOffer()


def test_creating_sends_once():
    unsent = attempt(sent_at=None, answered_at=None, outcome="", resolution="", instance_id="")
    assert action(facts(State.CREATING, attempt=unsent)) == do.Create()
    sent = replace(unsent, sent_at=T0)
    for seconds in (1, 100, 1000, 10000):
        assert not isinstance(action(facts(State.CREATING, attempt=sent), seconds), do.Create)


def test_created_goes_to_booting():
    assert action(facts(State.CREATING)) == do.Move(State.BOOTING)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(CreateOutcome.NO_FUNDS, "no_funds"), (CreateOutcome.AUTH, "auth"),
     (CreateOutcome.INVALID, "invalid")],
)  # fmt: skip
def test_some_refusals_end_the_session(outcome, reason):
    closed = attempt(outcome=outcome, resolution=Resolution.NOT_CREATED, instance_id="")
    assert failed(facts(State.CREATING, attempt=closed)) == reason


@pytest.mark.parametrize(
    "outcome", [CreateOutcome.OFFER_GONE, CreateOutcome.RATE, CreateOutcome.NOT_SENT]
)
def test_other_refusals_try_on_until_a_limit(outcome):
    closed = attempt(outcome=outcome, resolution=Resolution.NOT_CREATED, instance_id="")
    f = facts(State.CREATING, attempt=closed, offers_tried=MAX_OFFERS - 1)
    assert action(f) == do.TryOffer()
    assert failed(replace(f, offers_tried=MAX_OFFERS)) == "offer_gone"
    assert failed(f, RULES.offers) == "not_created"


def test_waiting_for_a_rate_lane_does_not_use_up_the_time_for_offers():
    closed = attempt(outcome=CreateOutcome.RATE, resolution=Resolution.NOT_CREATED, instance_id="")
    f = facts(State.CREATING, attempt=closed, first_sent_at=at(RULES.offers))
    assert action(f, RULES.offers * 2 - 1) == do.TryOffer()
    assert failed(f, RULES.offers * 2) == "not_created"


@pytest.mark.parametrize("state", [State.CREATING, State.STOPPING])
class TestALostCreate:
    def test_is_adopted_when_its_label_is_seen(self, state):
        f = facts(state, attempt=unknown(), seen=seen())
        assert action(f) == do.Adopt("7")

    def test_waits_for_a_listing_that_started_after_it(self, state):
        for listed_at in (None, at(-1), T0):
            f = facts(state, attempt=unknown(), listed_at=listed_at)
            got = action(f)
            assert isinstance(got, do.Wait) and got.listing

    def test_looks_again_and_again_before_the_settle_window_ends(self, state):
        f = facts(state, attempt=unknown(looks=50), listed_at=at(RULES.settle - 1))
        assert isinstance(action(f), do.Look)

    def test_needs_four_looks_after_the_settle_window(self, state):
        f = facts(state, attempt=unknown(looks=2), listed_at=at(RULES.settle))
        assert isinstance(action(f), do.Look)
        f = facts(state, attempt=unknown(looks=3), listed_at=at(RULES.settle))
        assert isinstance(action(f), do.NotCreated)

    def test_counts_from_the_last_moment_it_could_be_on_its_way(self, state):
        crashed = unknown(looks=9, answered_at=None, outcome="")
        f = facts(state, attempt=crashed, listed_at=at(RULES.settle + RULES.create_call - 1))
        assert isinstance(action(f), do.Look)
        f = facts(state, attempt=crashed, listed_at=at(RULES.settle + RULES.create_call))
        assert isinstance(action(f), do.NotCreated)

    def test_one_listing_is_one_look(self, state):
        f = facts(state, attempt=unknown(last_look_at=at(10)), listed_at=at(10))
        assert isinstance(action(f), do.Wait)


def test_a_leftover_is_destroyed_before_the_next_offer():
    left = attempt(outcome=CreateOutcome.LEFTOVER, resolution=Resolution.LEFTOVER)
    assert action(facts(State.CREATING, attempt=left)) == do.Destroy()
    gone = replace(left, resolution=Resolution.GONE)
    assert action(facts(State.CREATING, attempt=gone)) == do.TryOffer()


def test_booting_attaches_keys_then_waits_then_verifies():
    f = facts(State.BOOTING, attempt=attempt(keys_missing=1), seen=seen())
    assert action(f) == do.AttachKey()
    loading = facts(State.BOOTING, seen=seen(InstanceState.STARTING))
    assert isinstance(action(loading), do.Wait)
    nowhere = facts(State.BOOTING, seen=seen(has_endpoint=False))
    assert action(nowhere) == do.ReadInstance(), "the listing does not tell the address"
    assert failed(nowhere, RULES.boot) == "boot_timeout"
    assert action(facts(State.BOOTING, seen=seen())) == do.Move(State.VERIFYING)


def test_booting_has_a_deadline_from_the_entry_into_the_state():
    f = facts(State.BOOTING, seen=seen(InstanceState.STARTING), state_since=at(100))
    assert isinstance(action(f, 100 + RULES.boot - 1), do.Wait)
    assert failed(f, 100 + RULES.boot) == "boot_timeout"


def test_keys_that_queue_for_the_lane_have_twice_the_time():
    f = facts(State.BOOTING, attempt=attempt(keys_missing=1), seen=seen())
    assert action(f, 2 * RULES.boot - 1) == do.AttachKey()
    assert failed(f, 2 * RULES.boot) == "boot_timeout"


@pytest.mark.parametrize("state", [State.BOOTING, State.VERIFYING])
@pytest.mark.parametrize("machine", [InstanceState.FAILED, InstanceState.STOPPED])
def test_a_machine_that_ended_at_the_host_fails(state, machine):
    assert failed(facts(state, seen=seen(machine))) == "boot_failed"


@pytest.mark.parametrize("state", [State.BOOTING, State.VERIFYING])
def test_price_breach(state):
    honest = attempt(actual_price_per_hour=Decimal("0.105"))
    got = action(facts(state, attempt=honest, seen=seen()))
    assert not (isinstance(got, do.Move) and got.to == State.STOPPING)
    dear = attempt(actual_price_per_hour=Decimal("0.1052"))
    assert failed(facts(state, attempt=dear, seen=seen())) == "price_breach"
    over = attempt(actual_price_per_hour=Decimal("0.1002"))
    low = facts(state, attempt=over, seen=seen(), max_price_per_hour=Decimal("0.10"))
    assert failed(low) == "price_breach"


class TestVerifying:
    def test_checks_now_and_then(self):
        f = facts(State.VERIFYING, seen=seen())
        assert action(f, 6) == do.CheckSSH()
        soon = replace(f, ssh_checked_at=at(6))
        assert action(soon, 7) == do.Wait(at(6 + RULES.ssh_retry))
        assert action(soon, 6 + RULES.ssh_retry) == do.CheckSSH()

    def test_the_sold_gpu_means_running(self):
        assert action(facts(State.VERIFYING, seen=seen(), hardware=())) == do.Move(State.RUNNING)

    def test_another_gpu_fails(self):
        f = facts(State.VERIFYING, seen=seen(), hardware=("a T4",))
        assert failed(f) == "wrong_hardware"

    def test_refusals_fail_early(self):
        f = facts(State.VERIFYING, seen=seen(), ssh_refusals=2)
        assert action(f, 70) == do.CheckSSH()
        assert failed(replace(f, ssh_refusals=3), 70) == "ssh_refused"

    def test_deadline(self):
        f = facts(State.VERIFYING, seen=seen())
        assert action(f, RULES.verify - 1) == do.CheckSSH()
        assert failed(f, RULES.verify) == "ssh_timeout"

    def test_a_changed_host_key_fails(self):
        f = facts(State.VERIFYING, seen=seen(), host_key_changed=True, hardware=())
        assert failed(f) == "host_key_changed"


class TestRunning:
    def test_is_watched(self):
        f = facts(State.RUNNING, seen=seen(), ssh_checked_at=T0, listed=True, listed_at=T0)
        assert action(f, 59) == do.Wait(at(RULES.ssh_watch))
        assert action(f, 60) == do.CheckSSH()

    def test_the_wait_never_passes_the_expiry(self):
        f = facts(State.RUNNING, seen=seen(), ssh_checked_at=at(0), expires_at=at(30))
        assert action(f, 1) == do.Wait(at(30))

    @pytest.mark.parametrize("machine", list(InstanceState))
    def test_no_state_of_the_machine_is_a_reason_to_destroy(self, machine):
        f = facts(State.RUNNING, seen=seen(machine), host_key_changed=True, ssh_refusals=99)
        assert action(f, 61) == do.CheckSSH()


@pytest.mark.parametrize("state", [State.BOOTING, State.VERIFYING, State.RUNNING])
class TestVanishing:
    def absent(self, state, n=0, first=0.0, last=0.0, **kw):
        given = {"absences": n}
        if n:
            given |= {"first_absence_at": at(first), "last_absence_at": at(last)}
        kw = {"listed_at": at(900), "ssh_checked_at": at(899), "state_since": at(600)} | kw
        return facts(state, attempt=attempt(**given), **kw)

    def test_first_asks_by_id(self, state):
        assert action(self.absent(state), 900) == do.ReadInstance()

    def test_asks_again_only_with_a_newer_listing(self, state):
        f = self.absent(state, 1, 880, 880)
        assert not isinstance(action(f, 900), do.ReadInstance | do.Gone)

    def test_three_looks_over_three_minutes_are_lost(self, state):
        assert action(self.absent(state, 3, 600, 780), 900) == do.Gone()

    def test_three_quick_looks_are_not_enough(self, state):
        assert action(self.absent(state, 3, 600, 779), 900) != do.Gone()

    def test_two_looks_are_not_enough(self, state):
        assert action(self.absent(state, 2, 100, 800), 900) != do.Gone()

    def test_an_ssh_answer_since_vetoes(self, state):
        f = self.absent(state, 3, 600, 780, ssh_seen_at=at(601))
        assert action(f, 900) != do.Gone()

    def test_a_frozen_provider_is_not_believed(self, state):
        f = self.absent(state, 3, 600, 780, frozen="many at once")
        assert not isinstance(action(f, 900), do.Gone | do.ReadInstance)

    def test_presence_in_any_listing_is_presence(self, state):
        for kw in ({"seen": seen(InstanceState.UNKNOWN)}, {"listed": True}):
            f = self.absent(state, 3, 600, 780, **kw)
            assert not isinstance(action(f, 900), do.Gone | do.ReadInstance)

    def test_no_complete_listing_proves_nothing(self, state):
        f = self.absent(state, 3, 600, 780, listed_at=None)
        assert not isinstance(action(f, 900), do.Gone | do.ReadInstance)

    def test_a_machine_never_seen_may_still_turn_up(self, state):
        f = replace(self.absent(state), attempt=attempt(ever_seen=False))
        early = replace(f, listed_at=at(RULES.settle - 2), ssh_checked_at=at(RULES.settle - 2))
        assert not isinstance(action(early, RULES.settle - 1), do.ReadInstance)
        assert action(f, 900) == do.ReadInstance()

    def test_lost_is_an_outcome(self, state):
        f = facts(state, attempt=attempt(resolution=Resolution.GONE))
        assert action(f) == do.Move(State.STOPPING, "vanished", outcome=Outcome.LOST)


class TestStopping:
    def stopping(self, **kw) -> Facts:
        return facts(State.STOPPING, attempt=attempt(**kw))

    def accepted(self, **kw) -> Facts:
        return self.stopping(**({"destroy_accepted_at": T0, "destroy_sent_at": T0} | kw))

    def test_ends_when_nothing_is_open(self):
        assert action(facts(State.STOPPING, attempt=None)) == do.Move(State.ENDED)
        for word in (Resolution.GONE, Resolution.NOT_CREATED):
            assert action(self.stopping(resolution=word)) == do.Move(State.ENDED)

    def test_a_request_never_sent_needs_no_proof(self):
        f = self.stopping(sent_at=None, resolution="", instance_id="", outcome="")
        assert isinstance(action(f), do.NotCreated)

    def test_destroys_however_late(self):
        for seconds in (1, 901, 10**6):
            assert action(self.stopping(), seconds) == do.Destroy()

    def test_accepted_is_not_gone(self):
        assert isinstance(action(self.accepted()), do.Wait)
        f = replace(self.accepted(), listed_at=T0)
        assert isinstance(action(f), do.Wait), "a listing from before the destroy"

    def test_still_listed_is_destroyed_again_after_a_minute(self):
        f = replace(self.accepted(), listed_at=at(59), listed=True)
        assert isinstance(action(f, 60), do.Wait)
        f = replace(f, listed_at=at(60))
        assert action(f, 61) == do.Destroy()

    def test_two_pieces_of_evidence_apart(self):
        f = replace(self.accepted(), listed_at=at(5))
        assert action(f, 6) == do.ReadInstance()
        once = self.accepted(absences=1, first_absence_at=at(6), last_absence_at=at(6))
        assert isinstance(action(replace(once, listed_at=at(26)), 27), do.Wait)
        assert action(replace(once, listed_at=at(27)), 28) == do.ReadInstance()
        twice = self.accepted(absences=2, first_absence_at=at(6), last_absence_at=at(28))
        assert action(twice, 29) == do.Gone()

    def test_a_machine_never_seen_needs_the_longer_proof(self):
        given = {"ever_seen": False, "first_absence_at": at(6)}
        f = self.accepted(absences=3, last_absence_at=at(185), **given)
        assert action(f, 200) != do.Gone()
        f = self.accepted(absences=2, last_absence_at=at(190), **given)
        assert action(f, 200) != do.Gone()
        f = self.accepted(absences=3, last_absence_at=at(186), **given)
        assert action(f, 200) == do.Gone()

    def test_a_frozen_provider_does_not_stop_what_people_asked(self):
        assert action(replace(self.stopping(), frozen="many")) == do.Destroy()


def test_ended_is_the_end():
    assert isinstance(action(facts(State.ENDED)), do.Wait)
