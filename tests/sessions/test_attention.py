"""Every trouble raises its alert, and the alert goes when the trouble goes; on record as well."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from providers import registry
from providers.base import DestroyOutcome, DestroyResult, Listing, ProviderError
from providers.models import ProviderHealth, Snapshot
from sessions import attention, audit, identity, labels, orphans, sweep, watch
from sessions.models import Attempt, AuditEvent, Deployment, Heartbeat, Session, Sighting
from sessions.states import State
from tests.factories import make_attempt, make_session
from tests.sessions.market_double import ACCOUNT, World
from tests.web.scenes import build, destroyed

pytestmark = pytest.mark.django_db
ACTOR = "user:1"


@pytest.fixture(autouse=True)
def fresh_process():
    watch.last_look.clear()


@pytest.fixture
def world(monkeypatch) -> World:
    identity.ensure()
    world = World().install(monkeypatch)
    world.read()
    alive(world.now)
    return world


def alive(now) -> None:
    Heartbeat.objects.update_or_create(name="worker", defaults={"at": now})


def found(world: World) -> dict[str, attention.Alert]:
    """By the kind of alert; the worker lives."""
    alive(world.now)
    alerts = attention.alerts(attention.scene(world.now), world.now)
    return {alert.key.partition(":")[0]: alert for alert in alerts}


def tones(world: World) -> dict[str, str]:
    return {kind: alert.severity for kind, alert in found(world).items()}


def our_label(code: str = "a" * 16) -> str:
    return labels.make(identity.current(), "vastai", ACCOUNT, code, 1)


def stray(world: World, code: str = "a" * 16) -> Sighting:
    """A machine of ours that no row knows, looked at once."""
    machine = world.market.add(our_label(code))
    world.turn(3)
    return Sighting.objects.get(instance_id=machine.instance_id)


def at(session: Session, **columns) -> None:
    Session.objects.filter(pk=session.pk).update(**columns)


def test_nothing_is_wrong_where_all_goes_its_way(world):
    build("running", world.now)
    assert tones(world) == {}


def test_a_silent_worker(world):
    world.now += timedelta(minutes=2)
    Snapshot.objects.update(started_at=world.now)
    alerts = attention.alerts(attention.scene(world.now), world.now)
    assert [alert.key for alert in alerts] == ["worker"]
    Heartbeat.objects.all().delete()
    assert [alert.key for alert in attention.worker(world.now)] == ["worker"]
    assert tones(world) == {}


def test_a_copied_database_and_a_lost_audit_trail(world):
    installation = Deployment.objects.get().installation_id
    Deployment.objects.update(installation_id="copied")
    assert tones(world) == {"identity": "bad"}
    Deployment.objects.update(installation_id=installation)
    audit.write_file(audit._anchor_path(), '{"sequence": 999, "hash": "lost"}')
    assert tones(world) == {"identity": "bad", "audit": "bad"}
    audit.replace_anchor(world.now)
    assert tones(world) == {}


@pytest.mark.parametrize(
    ("columns", "kind"),
    [({"frozen_reason": "too much at once"}, "frozen"), ({"auth_error": "bad key"}, "key")],
)
def test_a_marketplace_that_is_held_back_or_refuses_the_key(world, columns, kind):
    ProviderHealth.objects.update(**columns)
    assert tones(world) == {kind: "bad"}
    ProviderHealth.objects.update(**dict.fromkeys(columns, ""))
    assert tones(world) == {}


def test_listings_that_are_not_complete(world):
    def broken() -> Listing:
        raise ProviderError("503 for an hour")

    world.market.fail["list"] = broken
    world.now += timedelta(seconds=60)
    world.read()
    assert tones(world) == {"listing": "warn"}
    world.market.fail.clear()
    world.now += timedelta(seconds=3)
    world.read()
    assert tones(world) == {}


def test_another_gpubroker_on_the_account(world):
    machine = world.market.add("gb1-otherother-aaaaaaaaaaaaaaaa-1-abcdefgh")
    world.market.add("gb1 is how my label starts")
    world.turn(3)
    assert tones(world) == {"twin": "warn"}
    del world.market.machines[machine.instance_id]
    world.turn(3)
    assert tones(world) == {}


def test_a_marketplace_without_key_that_still_holds_machines(world, monkeypatch):
    session, attempts = build("running", world.now)
    Sighting.objects.create(
        provider="vastai", instance_id="9", label="x",
        first_seen_at=world.now, last_seen_at=world.now,
    )  # fmt: skip
    monkeypatch.setattr(registry, "names", list)
    alert = found(world)["removed"]
    assert alert.severity == "bad" and alert.text.startswith("2 cannot be watched")
    Sighting.objects.all().delete()
    Attempt.objects.filter(pk=attempts[-1].pk).update(resolution="gone")
    assert "removed" not in tones(world)


def test_a_destroy_that_does_not_succeed_becomes_louder(world):
    session = make_session(State.STOPPING, state_since=world.now - timedelta(seconds=299))
    attempt = make_attempt(session, **destroyed(world.now, destroy_accepted_at=None))
    assert tones(world) == {}
    at(session, state_since=world.now - timedelta(seconds=301))
    assert tones(world) == {"destroy": "warn"}
    at(session, state_since=world.now - timedelta(seconds=901))
    assert tones(world) == {"destroy": "bad"}
    Attempt.objects.filter(pk=attempt.pk).update(resolution="gone")
    at(session, state=State.ENDED, ended_at=world.now, outcome="ok")
    assert tones(world) == {}


def test_a_leftover_that_stays(world):
    late = world.now - timedelta(seconds=1000)
    session = make_session(State.CREATING)
    attempt = make_attempt(session, resolution="leftover", answered_at=late, instance_id="7")
    assert tones(world) == {"destroy": "bad"}
    Attempt.objects.filter(pk=attempt.pk).update(resolution="gone")
    assert tones(world) == {}


def test_rows_that_are_overdue(world):
    session = make_session(State.REQUESTED, due_at=world.now - timedelta(seconds=59))
    assert tones(world) == {}
    at(session, due_at=world.now - timedelta(seconds=61))
    assert tones(world) == {"overdue": "bad"}
    at(session, claimed_until=world.now + timedelta(seconds=5))
    assert tones(world) == {}
    at(session, claimed_until=world.now - timedelta(seconds=5))
    assert tones(world) == {"overdue": "bad"}


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        ("unreachable", {"unreachable": "warn"}),
        ("host_key", {"hostkey": "bad"}),
        ("ends_soon", {"ending": "info"}),
    ],
)
def test_troubles_of_a_running_session(world, scene, expected):
    session, _ = build(scene, world.now)
    assert tones(world) == expected
    later = world.now + timedelta(hours=2)
    at(session, unreachable_since=None, host_key_changed=False, expires_at=later)
    assert tones(world) == {}


def test_a_machine_that_listings_lack(world):
    session, attempts = build("running", world.now)
    rows = Attempt.objects.filter(pk=attempts[-1].pk)
    rows.update(absences=1, first_absence_at=world.now)
    assert tones(world) == {"missing": "warn"}
    rows.update(absences=0)
    assert tones(world) == {}


def test_an_orphan_is_an_alert_until_it_is_gone_or_ignored(world):
    sighting = stray(world)
    assert tones(world) == {"orphan": "bad"}
    orphans.ignore(sighting.pk, ACTOR, "a demo runs on it", world.now)
    assert tones(world) == {}
    Sighting.objects.update(ignored_at=None)
    world.until(lambda: not world.market.machines)
    world.until(lambda: Sighting.objects.get().gone_at)
    assert tones(world) == {}


def test_the_number_of_queries_does_not_grow(world, django_assert_num_queries):
    def ask() -> None:
        attention.alerts(attention.scene(world.now), world.now)

    def rent(number: int) -> None:
        for _ in range(number):
            build("host_key", world.now)
            build("stopping", world.now)
            stray(world, f"{Session.objects.count():a>16}".replace("0", "z").replace("1", "y"))

    rent(1)
    with CaptureQueriesContext(connection) as few:
        ask()
    rent(3)
    with django_assert_num_queries(len(few)):
        ask()
    assert len(few) <= 20


class TestDecisions:
    def test_destroy_now_skips_the_quarantine_but_not_the_second_look(self, world):
        sighting, started = stray(world), world.now
        assert orphans.hurry(sighting.pk, ACTOR, world.now)
        assert not orphans.hurry(sighting.pk, ACTOR, world.now)
        world.until(lambda: world.market.count("destroy"))
        assert 60 <= (world.now - started).total_seconds() < 300
        assert world.market.calls[-2:] == [
            ("read", sighting.instance_id), ("destroy", sighting.instance_id),
        ]  # fmt: skip
        assert Sighting.objects.get().looks >= 2
        assert AuditEvent.objects.filter(action="orphan.hurried").count() == 1
        intent = AuditEvent.objects.get(action="provider.destroy.intent")
        assert intent.reason == "orphan, by hand"

    def test_an_ignored_orphan_is_never_destroyed_until_somebody_says_so(self, world):
        sighting = stray(world)
        assert orphans.hurry(sighting.pk, ACTOR, world.now)
        assert orphans.ignore(sighting.pk, ACTOR, "a demo", world.now)
        assert not orphans.ignore(sighting.pk, "user:2", "another", world.now)
        for _ in range(60):
            world.turn(60)
        assert world.market.machines and not world.market.count("destroy")
        event = AuditEvent.objects.get(action="orphan.ignored")
        assert (event.actor, event.reason) == (ACTOR, "a demo")
        assert orphans.hurry(sighting.pk, ACTOR, world.now)
        world.until(lambda: not world.market.machines)

    def test_what_people_ask_for_goes_on_while_automatic_destroys_are_held_back(self, world):
        sighting, other = stray(world), stray(world, "b" * 16)
        ProviderHealth.objects.update(frozen_reason="too much at once")
        orphans.hurry(sighting.pk, ACTOR, world.now)
        world.until(lambda: sighting.instance_id not in world.market.machines)
        for _ in range(60):
            world.turn(60)
        assert list(world.market.machines) == [other.instance_id]

    def test_nothing_is_destroyed_by_hand_on_another_account(self, world):
        sighting = stray(world)
        orphans.hurry(sighting.pk, ACTOR, world.now)
        world.market.account_id = "2002"
        world.turn(3)
        ago = world.now - timedelta(hours=1)
        Sighting.objects.update(looks=9, first_seen_at=ago, last_seen_at=world.now)
        for _ in range(10):
            world.turn(60)
        assert not world.market.count("read") and not world.market.count("destroy")

    def test_a_release_is_remembered_for_those_that_lack(self, world, monkeypatch):
        monkeypatch.setattr("sessions.reconcile.claim", lambda limit, now: [])
        rows = [build("running", world.now)[1][-1] for _ in range(3)]
        for row in rows:
            machine = world.market.add(row.label)
            Attempt.objects.filter(pk=row.pk).update(instance_id=machine.instance_id)
        world.turn(3)
        kept = dict(world.market.machines)
        world.market.machines.clear()
        world.turn(3)
        shown = ProviderHealth.objects.get().frozen_reason
        assert shown.startswith(sweep.MISSING)
        assert not sweep.release("vastai", "something else", ACTOR, "looked", world.now)
        assert sweep.release("vastai", shown, ACTOR, "looked", world.now)
        assert not sweep.release("vastai", shown, ACTOR, "looked", world.now)
        world.turn(3)
        assert ProviderHealth.objects.get().frozen_reason == ""
        event = AuditEvent.objects.get(action="provider.released")
        assert (event.actor, event.reason) == (ACTOR, "looked")
        assert sorted(event.data["lacking"]) == sorted(kept)
        world.market.machines.update(kept)  # seen again: their next absence is news
        world.turn(3)
        world.market.machines.clear()
        world.turn(3)
        assert ProviderHealth.objects.get().frozen_reason

    def test_only_the_right_key_releases_another_account(self, world):
        world.market.account_id = "2002"
        world.turn(3)
        shown = ProviderHealth.objects.get().frozen_reason
        assert shown and not sweep.release("vastai", shown, ACTOR, "I know", world.now)


class TestOnRecord:
    def events(self) -> list[tuple[str, str]]:
        rows = AuditEvent.objects.filter(action__startswith="alert.")
        return [(row.action, row.data["alert"].partition(":")[0]) for row in rows]

    def test_within_two_minutes_once_and_cleared_once(self, world):
        started = world.now
        world.market.fail["destroy"] = lambda i: DestroyResult(
            outcome=DestroyOutcome.RETRY, message="503"
        )
        sighting = stray(world)
        while not self.events():
            alive(world.now)
            world.turn(3)
            assert (world.now - started).total_seconds() < 120
        for _ in range(100):
            alive(world.now)
            world.turn(30)
        assert self.events() == [("alert.raised", "orphan")]
        world.market.fail.clear()
        while not Sighting.objects.get().gone_at:
            alive(world.now)
            world.turn(30)
        alive(world.now)
        world.turn(31)
        assert self.events() == [("alert.raised", "orphan"), ("alert.cleared", "orphan")]
        raised = AuditEvent.objects.get(action="alert.raised")
        assert sighting.instance_id in raised.reason and raised.provider == "vastai"

    def test_a_session_has_it_in_its_own_trail_and_again_when_it_becomes_louder(self, world):
        session = make_session(State.STOPPING, state_since=world.now - timedelta(seconds=400))
        watch.record(world.now)
        watch.record(world.now + timedelta(seconds=1))
        alive(world.now + timedelta(seconds=600))
        watch.record(world.now + timedelta(seconds=600))
        rows = AuditEvent.objects.filter(session_code=session.code, action="alert.raised")
        assert [row.data["severity"] for row in rows] == ["warn", "bad"]

    def test_also_while_nothing_may_be_destroyed(self, world):
        Deployment.objects.update(installation_id="copied")
        assert sweep.claim(9, world.now) == []
        assert self.events() == [("alert.raised", "identity")]

    def test_not_at_every_pass_and_never_in_the_way_of_the_sweep(self, world, monkeypatch):
        build("host_key", world.now)
        sweep.claim(9, world.now)
        looked: list = []
        monkeypatch.setattr(watch, "scene", lambda now: looked.append(now) or 1 / 0)
        sweep.claim(9, world.now + timedelta(seconds=10))
        assert not looked
        sweep.claim(9, world.now + timedelta(seconds=20))
        assert looked

    def test_another_process_that_was_faster_has_written_it(self, world):
        build("host_key", world.now)
        stale = watch._row(world.now)
        assert watch.record(world.now)
        assert not watch.record(world.now + timedelta(seconds=40), stale)
        assert self.events() == [("alert.raised", "hostkey")]

    def test_the_banner_of_every_page_costs_one_query(self, world, django_assert_num_queries):
        build("host_key", world.now)
        build("unreachable", world.now)
        watch.record(world.now)
        with django_assert_num_queries(1):
            banner = watch.banner(world.now)
        assert banner.count == 2 and banner.red == ("RTX 4090: the SSH host key changed",)
        silent = watch.banner(world.now + timedelta(minutes=3))
        assert silent.count == 3 and "worker" in silent.red[0]
        alive(world.now + timedelta(minutes=3))  # lives, but records nothing
        assert watch.banner(world.now + timedelta(minutes=3)).count == 3
