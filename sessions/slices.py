"""Slices: long-lived django-q2 tasks that find due work in rows and do it in small steps.

A slot has at most one live slice; whoever raises its generation by compare-and-set enqueues the
next one. A slice hands over before it drains, so no slow call ever delays other sessions.
Threads carry out the network part only: they cannot even open a database connection.
"""

import logging
import mmap
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections, transaction
from django.utils import timezone
from django_q.tasks import async_task

from .models import Slot

logger = logging.getLogger(__name__)
T = TypeVar("T")

LENGTH = 60  # seconds of claiming; then the next generation starts
DRAIN = 80  # seconds to wait for calls under way: longer than any call's total deadline
TASK_TIMEOUT = LENGTH + DRAIN + 10  # a slot has at most three generations alive (settings.py)
THREADS = 32
RESERVED = 3  # threads that the sources before leave to each source after them
PAUSE = 0.15  # seconds between looks for due rows
BEAT = 1  # seconds between signs of life
DEAD = timedelta(seconds=6)  # without a sign of life, or a start, a slot is given away
STOPPING_DRAIN = 3

stopping = mmap.mmap(-1, 1)  # one byte shared with forked workers; a lock could outlive its holder


class Source(Protocol):
    """A module with due rows. `perform` runs in a thread: network only."""

    def claim(self, limit: int, now: datetime) -> Sequence[object]: ...
    def perform(self, call: object) -> object: ...
    def finish(self, call: object, answer: object, now: datetime) -> None: ...


class DatabaseForbidden(RuntimeError):
    """A network thread reached for the database; only the main thread may."""


def ensure(now: datetime | None = None) -> list[int]:
    """Give every dead slot its next generation. Anyone may call this, as often as they like."""
    now = now or timezone.now()
    for number in range(settings.SLOTS):
        Slot.objects.get_or_create(number=number)
    slots = Slot.objects.filter(number__lt=settings.SLOTS)
    dead = [slot for slot in slots if not slot.beat_at or slot.beat_at < now - DEAD]
    return [slot.number for slot in dead if enqueue_next(slot.number, slot.generation, now)]


def enqueue_next(number: int, generation: int, now: datetime) -> bool:
    """Generation + 1 and its task, together, if nobody was faster."""
    with transaction.atomic():
        mine = Slot.objects.filter(number=number, generation=generation)
        if not mine.update(generation=generation + 1, beat_at=now):
            return False
        async_task(
            "sessions.tasks.run_slice",
            number,
            generation + 1,
            q_options={"timeout": TASK_TIMEOUT, "save": False},
        )
    return True


def run(number: int, generation: int, sources: Sequence[Source], length: float = LENGTH) -> None:
    """One generation of a slot: claim and finish, hand over, drain. Never raises."""
    pool = ThreadPoolExecutor(THREADS, f"slice-{number}", initializer=forbid_database)
    work = Work(pool, sources)
    try:
        alive = work.guarded(lambda: beat(number, generation), default=True)
        end = time.monotonic() + length
        while alive and time.monotonic() < end and not stopping[0]:
            work.turns_until(min(end, time.monotonic() + BEAT))
            alive = work.guarded(lambda: beat(number, generation), default=True)
        if alive and stopping[0]:
            work.guarded(lambda: release(number, generation), default=None)
        elif alive:
            work.guarded(lambda: enqueue_next(number, generation, timezone.now()), default=False)
        work.drain(DRAIN)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def beat(number: int, generation: int) -> bool:
    """False = somebody took the slot over."""
    mine = Slot.objects.filter(number=number, generation=generation)
    return bool(mine.update(beat_at=timezone.now()))


def release(number: int, generation: int) -> None:
    """At an orderly stop: the next start need not wait for this slot to look dead."""
    Slot.objects.filter(number=number, generation=generation).update(beat_at=None)


def forbid_database() -> None:
    """In a pool's thread. Django's connections are thread-local, so only this one is barred."""

    def refuse() -> None:
        raise DatabaseForbidden("network threads may not touch the database")

    for connection in connections.all():
        connection.ensure_connection = refuse


@dataclass(frozen=True, kw_only=True)
class Flight:
    source: Source
    call: object


class Work:
    """The calls under way, and the loop that starts and finishes them."""

    def __init__(self, pool: ThreadPoolExecutor, sources: Sequence[Source]) -> None:
        self.pool = pool
        self.sources = sources
        self.flights: dict[Future, Flight] = {}

    def turns_until(self, end: float) -> None:
        """Look for due rows each PAUSE, and finish whatever comes back at once."""
        look_at = 0.0
        while (now := time.monotonic()) < end and not stopping[0]:
            if now >= look_at:
                self.claim()
                look_at = time.monotonic() + PAUSE
            self.finish_some(max(0.0, look_at - time.monotonic()))

    def drain(self, seconds: float) -> None:
        """Finish what is under way. What takes longer is found again by its expired claim."""
        end = time.monotonic() + seconds
        while self.flights and time.monotonic() < end:
            if stopping[0]:
                end = min(end, time.monotonic() + STOPPING_DRAIN)
            self.finish_some(PAUSE)
        if self.flights:
            logger.warning("%d calls were still under way when the slice ended", len(self.flights))

    def claim(self) -> None:
        for index, source in enumerate(self.sources):
            later = RESERVED * (len(self.sources) - index - 1)
            limit = THREADS - len(self.flights) - later
            if limit > 0:
                self.claim_from(source, limit)

    def claim_from(self, source: Source, limit: int) -> None:
        for call in self.guarded(lambda: source.claim(limit, timezone.now()), default=()):
            future = self.pool.submit(source.perform, call)
            self.flights[future] = Flight(source=source, call=call)

    def finish_some(self, timeout: float) -> None:
        """Wait for an answer; one that met a locked database stays for the next turn."""
        if not self.flights:
            time.sleep(timeout)
            return
        done, _ = wait(self.flights, timeout=timeout, return_when=FIRST_COMPLETED)
        kept = [future for future in done if not self.finished(future)]
        if kept:
            time.sleep(PAUSE)

    def finished(self, future: Future) -> bool:
        """Write one answer down. False = the database could not take it now; it is kept."""
        flight = self.flights[future]
        try:
            flight.source.finish(flight.call, future.result(), timezone.now())
        except DatabaseError as error:
            trouble(error)
            return False
        except Exception:  # one call's bug: its claim expires, the others go on
            logger.exception("a call of %s could not be finished", name_of(flight.source))
        del self.flights[future]
        return True

    def guarded(self, act: Callable[[], T], default: T) -> T:
        """A failing source is logged and costs only its own turn."""
        try:
            return act()
        except DatabaseError as error:
            trouble(error)
        except Exception:
            logger.exception("a turn of the slice failed")
        return default


def trouble(error: DatabaseError) -> None:
    """A locked or restarted database: fresh connections, and the next turn tries again."""
    logger.warning("the database refused a step, it will be repeated: %s", error)
    close_old_connections()


def name_of(source: Source) -> str:
    return getattr(source, "__name__", type(source).__name__)
