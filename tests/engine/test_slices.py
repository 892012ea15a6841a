"""Slices with sources made for the purpose: what they claim, finish, survive and hand over."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_q.models import OrmQ

from sessions import slices
from sessions.models import Slot

pytestmark = pytest.mark.django_db


class Calls:
    """A source that gives out its calls once and remembers what came back, and in which thread."""

    def __init__(self, calls: Sequence[object], perform: Callable[[object], object]) -> None:
        self.waiting = list(calls)
        self.perform = perform
        self.answers: dict[object, object] = {}
        self.limits: list[int] = []
        self.threads: set[threading.Thread] = set()

    def claim(self, limit: int, now: datetime) -> list[object]:
        self.limits.append(limit)
        given, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return given

    def finish(self, call: object, answer: object, now: datetime) -> None:
        self.threads.add(threading.current_thread())
        self.answers[call] = answer


class BrokenClaim(Calls):
    def claim(self, limit: int, now: datetime) -> list[object]:
        raise ValueError("a bug in one source")


class LockedOnce(Calls):
    """The database is locked at the first finish of each call."""

    def __init__(self, calls: Sequence[object], perform: Callable[[object], object]) -> None:
        super().__init__(calls, perform)
        self.refused: set[object] = set()

    def finish(self, call: object, answer: object, now: datetime) -> None:
        if call not in self.refused:
            self.refused.add(call)
            raise OperationalError("database is locked")
        super().finish(call, answer, now)


def double(number: int) -> int:
    return number * 2


def run(*sources: Calls, length: float = 0.3) -> None:
    Slot.objects.update_or_create(number=0, defaults={"generation": 7})
    slices.run(0, 7, sources, length)


def generation() -> int:
    return Slot.objects.get(number=0).generation


@pytest.fixture
def stopping() -> Iterator[None]:
    slices.stopping[0] = 1
    yield
    slices.stopping[0] = 0


def test_calls_are_performed_in_threads_and_finished_in_the_main_one() -> None:
    source = Calls(range(25), lambda number: (number * 2, threading.current_thread()))
    run(source)
    assert {call: answer[0] for call, answer in source.answers.items()} == {
        number: number * 2 for number in range(25)
    }
    assert source.threads == {threading.main_thread()}
    assert threading.main_thread() not in {answer[1] for answer in source.answers.values()}


def test_a_full_source_leaves_threads_to_the_others() -> None:
    release = threading.Event()
    greedy = Calls(range(100), lambda call: release.wait(20))
    modest = Calls(["listing"], lambda call: release.set())
    run(greedy, modest)
    assert "listing" in modest.answers
    assert max(greedy.limits) == slices.THREADS - slices.RESERVED


def test_one_broken_source_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    source = Calls([1, 2], double)
    run(BrokenClaim([], double), source)
    assert source.answers == {1: 2, 2: 4}
    assert "a bug in one source" in caplog.text


def test_a_raising_call_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    source = Calls([1, 0], lambda number: 10 // number)
    run(source)
    assert source.answers == {1: 10}
    assert "ZeroDivisionError" in caplog.text


def test_an_answer_that_met_a_locked_database_is_written_later() -> None:
    source = LockedOnce([1, 2, 3], double)
    run(source)
    assert source.answers == {1: 2, 2: 4, 3: 6}


def test_network_threads_cannot_reach_the_database(caplog: pytest.LogCaptureFixture) -> None:
    source = Calls([1], lambda call: Slot.objects.count())
    run(source)
    assert source.answers == {}
    assert "DatabaseForbidden" in caplog.text


def test_the_slot_is_handed_over_before_slow_calls_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handed_over = threading.Event()
    enqueue_next = slices.enqueue_next

    def noted(number: int, generation: int, now: datetime) -> bool:
        handed_over.set()
        return enqueue_next(number, generation, now)

    monkeypatch.setattr(slices, "enqueue_next", noted)
    source = Calls(["slow"], lambda call: handed_over.wait(20))
    run(source)
    assert source.answers == {"slow": True}
    assert generation() == 8
    assert OrmQ.objects.get().task["args"] == (0, 8)


def test_who_was_overtaken_finishes_its_calls_and_hands_nothing_over() -> None:
    class Overtaken(Calls):
        def claim(self, limit: int, now: datetime) -> list[object]:
            Slot.objects.filter(number=0).update(generation=8)
            return super().claim(limit, now)

    source = Overtaken([1], double)
    run(source, length=5)
    assert source.answers == {1: 2}
    assert generation() == 8
    assert not OrmQ.objects.exists()


def test_an_orderly_stop_leaves_the_slot_to_the_next_start(stopping: None) -> None:
    source = Calls([1], double)
    run(source, length=60)
    assert source.answers == {}
    assert not OrmQ.objects.exists()
    assert slices.ensure() == [0, 1]


def test_a_dead_slot_gets_one_next_generation_whoever_asks() -> None:
    now = timezone.now()
    assert slices.ensure(now) == [0, 1]
    assert slices.ensure(now) == []
    slices.beat(1, 1)
    later = timezone.now() + slices.DEAD + timedelta(seconds=1)
    slot = Slot.objects.get(number=1)
    Slot.objects.filter(number=1).update(beat_at=later)
    assert slices.ensure(later) == [0]
    assert not slices.enqueue_next(1, slot.generation - 1, later)
    tasks = [row.task for row in OrmQ.objects.order_by("pk")]
    assert [task["args"] for task in tasks] == [(0, 1), (1, 1), (0, 2)]
    assert {task["timeout"] for task in tasks} == {slices.TASK_TIMEOUT}
