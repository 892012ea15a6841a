"""The guard of the cluster: canaries on a clock of our own, and children that will not stop."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_q.models import OrmQ

from gpubroker import canary
from gpubroker.canary import Canaries
from gpubroker.supervise import FIRST_PAUSE, Child, stop_all
from gpubroker.worker import BEAT, Worker
from providers.models import ProviderHealth
from sessions import audit, tasks
from sessions.models import Heartbeat

from .machine import alive, descendants, until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").close()
time.sleep(600)
"""


def watch(canaries: Canaries, seconds: range, acknowledge: bool) -> list[int]:
    """The seconds at which the cluster was called wedged."""
    wedged = []
    for second in seconds:
        if not canaries.look(NOW + second * SECOND):
            wedged.append(second)
        if acknowledge:
            OrmQ.objects.all().delete()
    return wedged


@pytest.mark.django_db
def test_a_cluster_that_returns_its_canaries_is_left_alone() -> None:
    assert watch(Canaries(), range(600), acknowledge=True) == []


@pytest.mark.django_db
def test_a_wedge_is_seen_within_a_minute_whenever_it_begins() -> None:
    limit = canary.EVERY + canary.PATIENCE + 2 * SECOND
    assert limit <= timedelta(seconds=60)
    for begin in range(int(canary.EVERY.total_seconds()) + 1):
        canaries = Canaries()
        assert watch(canaries, range(begin), acknowledge=True) == []
        wedged = watch(canaries, range(begin, begin + 120), acknowledge=False)
        assert wedged[0] * SECOND <= begin * SECOND + limit
        assert OrmQ.objects.count() <= canary.MOST
        OrmQ.objects.all().delete()


class FakeCluster:
    """Started once asked, and replaced when told so."""

    def __init__(self) -> None:
        self.running = False
        self.replaced = 0

    def ensure(self) -> bool:
        started, self.running = not self.running, True
        return started

    def replace(self, why: str) -> None:
        self.running = False
        self.replaced += 1


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker whose slots are nobody's business and whose clock is self.now."""
    monkeypatch.setattr("gpubroker.worker.slices.ensure", lambda now: [])
    worker = Worker(stop=False, cluster=FakeCluster())  # type: ignore[arg-type]
    worker.now = NOW  # type: ignore[attr-defined]
    monkeypatch.setattr("gpubroker.worker.timezone.now", lambda: worker.now)
    yield worker


def turns(worker: Worker, seconds: int) -> None:
    for _ in range(seconds):
        worker.now += SECOND  # type: ignore[attr-defined]
        worker.turn()


@pytest.mark.django_db
def test_a_wedged_cluster_is_replaced_and_the_new_one_judged_by_its_own_canaries(
    guard: Worker,
) -> None:
    turns(guard, 40)
    assert (guard.cluster.replaced, guard.starts) == (1, 2)
    turns(guard, 30)
    assert guard.cluster.replaced == 1
    OrmQ.objects.all().delete()
    turns(guard, 10)
    assert guard.cluster.replaced == 1
    assert Heartbeat.objects.get(name="worker").data["starts"] == 2


@pytest.mark.django_db
def test_nothing_is_concluded_from_a_time_without_database(
    guard: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns(guard, 20)
    with monkeypatch.context() as away:

        def refuse(self: Canaries, now: datetime) -> bool:
            raise OperationalError("the database is away")

        away.setattr(Canaries, "look", refuse)
        turns(guard, 100)
    turns(guard, 20)
    assert guard.cluster.replaced == 0


@pytest.mark.django_db
def test_a_restart_lists_at_once_but_never_against_a_back_off(settings) -> None:
    """It may have come with the key of another account."""
    settings.PROVIDERS = {"vastai": {"api_key": "x", "base_url": "http://127.0.0.1:9"}}
    tasks.prepare()
    later, health = timezone.now() + timedelta(minutes=1), ProviderHealth.objects.all()
    health.update(listing_due_at=later)
    tasks.prepare()
    assert health.get().listing_due_at < later
    health.update(listing_due_at=later, listing_failures=1)
    tasks.prepare()
    assert health.get().listing_due_at == later


@pytest.mark.django_db
def test_each_heartbeat_remembers_the_newest_event_of_the_audit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(stop=False, cluster=FakeCluster())  # type: ignore[arg-type]
    for number in (1, 2):
        audit.append("session.state", actor="worker")
        worker.beat(NOW + number * BEAT)
        assert audit.read_anchor().sequence == number

    def full(now: datetime) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(audit, "write_anchor", full)
    worker.beat(NOW + 3 * BEAT)
    assert Heartbeat.objects.get(name="worker").at == NOW + 3 * BEAT


def test_a_child_that_ignores_sigterm_goes_with_all_it_started(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = Child("stubborn", [sys.executable, "-c", STUBBORN, str(ready)])
    child.ensure()
    until(ready.exists, "the child has started")
    tree = [child.pid, *descendants(child.pid)]
    assert len(tree) == 2
    stop_all([child], grace=0.3)
    until(lambda: not any(map(alive, tree)), "both are gone")


def test_a_child_that_keeps_dying_is_started_with_growing_pauses() -> None:
    child = Child("dying", [sys.executable, "-c", "raise SystemExit(3)"])
    for deaths in range(3):
        until(child.ensure, "it is started")
        until(lambda: child.process.poll() is not None, "it has died")
        before = time.monotonic()
        assert not child.ensure()
        least, most = child.next_start_at - time.monotonic(), child.next_start_at - before
        assert least <= FIRST_PAUSE * 2**deaths <= most
