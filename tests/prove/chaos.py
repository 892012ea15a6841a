"""Several processes over one database, one marketplace and one clock, interleaved by dice.

A process claims, performs and finishes in steps of its own; between any two it may be paused,
killed, or told the same answer twice. Other processes also run between two statements of one
that is not inside a transaction, as they would on another core.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.utils import timezone

from providers import catalog, registry
from providers.base import ProviderError
from providers.models import ProviderHealth
from sessions import asks, audit, identity, reconcile, ssh, sweep
from sessions.asks import Order
from sessions.models import Attempt, AuditEvent, Session, Sighting
from sessions.states import NEXT, Resolution, State
from tests.factories import make_health, make_offer, make_user
from tests.prove.wild_market import FAULTS, OTHER_ACCOUNT, WildMarket
from tests.sessions.market_double import ACCOUNT, GOOD

PAUSES = (0.2, 1, 3, 3, 7, 20)  # seconds
LONG_PAUSES = (60, 200)
MINUTES_TO_HEAL = 40
OPEN_RESOLUTIONS = ("", Resolution.CREATED, Resolution.ADOPTED, Resolution.LEFTOVER)


@dataclass
class Held:
    """A call that a process has claimed and not finished yet."""

    source: ModuleType
    call: Any
    answer: Any = None
    performed: bool = False


@dataclass
class Process:
    held: list[Held] = field(default_factory=list)
    said: list[Held] = field(default_factory=list)  # finished, and may be finished once more


@dataclass
class Chaos:
    """The clock, the processes and the marketplace; `step` is one turn of the dice."""

    dice: Random
    processes: int = 3
    preempting: float = 0.03  # probability before each statement outside a transaction

    def __post_init__(self) -> None:
        self.now: datetime = timezone.now()
        self.market = WildMarket(self.dice, lambda: self.now)
        self.check = GOOD
        self.workers = [Process() for _ in range(self.processes)]
        self.readings: list[tuple[datetime, Any, str]] = []  # listings read and not yet stored
        self.counts: Counter[str] = Counter()
        self.sessions: list[Session] = []
        self.nested = 0

    # -- set-up

    @contextmanager
    def installed(self, patch: Any) -> Iterator["Chaos"]:
        """Everything that happens is undone at the end."""
        patch.setattr(registry, "get", lambda name: self.market)
        patch.setattr(registry, "names", lambda: ["vastai"])
        patch.setattr(registry, "capabilities", lambda name: self.market.capabilities)
        patch.setattr(ssh, "check", lambda target: self.check)
        patch.setattr("sessions.calls.timezone.now", lambda: self.now)
        patch.setattr("sessions.asks.uuid4", lambda: UUID(int=self.dice.getrandbits(128)))
        state = random.getstate()
        random.seed(self.dice.random())  # back-offs with jitter
        try:
            with transaction.atomic():
                self.begin()
                yield self
                transaction.set_rollback(True)
        finally:
            random.setstate(state)

    def begin(self) -> None:
        identity.ensure()
        self.owner = make_user()
        make_health(account_id=ACCOUNT, listing_due_at=self.now, offers_due_at=self.now)
        for _ in range(8):
            make_offer()
        self.depth = len(connection.savepoint_ids)

    def close(self) -> None:
        for worker in self.workers:
            worker.held.clear()

    # -- what processes do

    def claim(self, worker: Process) -> None:
        for source in (reconcile, sweep):
            with self.preemptible():
                calls = source.claim(5, self.now)
            worker.held += [Held(source, call) for call in calls]

    def perform(self, worker: Process) -> None:
        waiting = [held for held in worker.held if not held.performed]
        if waiting:
            held = self.dice.choice(waiting)
            held.answer, held.performed = held.source.perform(held.call), True

    def finish(self, worker: Process) -> None:
        ready = [held for held in worker.held if held.performed]
        if ready:
            held = self.dice.choice(ready)
            worker.held.remove(held)
            with self.preemptible():
                held.source.finish(held.call, held.answer, self.now)
            worker.said = [*worker.said[-3:], held]

    def finish_again(self, worker: Process) -> None:
        """As after a commit whose confirmation was lost."""
        if worker.said:
            held = worker.said.pop()
            held.source.finish(held.call, held.answer, self.now)
            self.counts["doubled finishes"] += 1

    def kill(self, worker: Process) -> None:
        self.counts["kills with calls in hand"] += bool(worker.held)
        worker.held.clear()
        worker.said.clear()

    def read(self) -> None:
        """A listing leaves and comes back at once; it is stored later."""
        listing, error = None, ""
        try:
            listing = self.market.list_instances()
        except ProviderError as problem:
            error = str(problem) or "no answer"
        self.readings.append((self.now, listing, error))

    def store(self) -> None:
        if self.readings:
            started_at, listing, error = self.readings.pop(self.dice.randrange(len(self.readings)))
            catalog.store_listing(
                "vastai", listing, started_at=started_at, now=self.now, error=error
            )

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.market.arrive()

    # -- what people do

    def launch(self, **terms: Any) -> Session | None:
        offer = make_offer()
        values = {
            "idempotency_key": str(uuid4()),
            "provider": "vastai",
            "offer_id": offer.offer_id,
            "image": "nvidia/cuda:12.4.1-devel-ubuntu22.04",
            "disk_gb": 20,
            "hours": 4,
            "max_price_per_hour": 1,
            "public_keys": ["ssh-ed25519 AAAAperson"],
        }
        try:
            session = asks.launch(self.owner, Order(**(values | terms)), now=self.now)
        except asks.LaunchRefused:
            return None
        self.sessions.append(session)
        return session

    def stop(self, session: Session) -> None:
        self.counts["stops"] += asks.stop(session, self.owner, now=self.now)

    def extend(self, session: Session) -> None:
        asks.extend(session, self.owner, 1, now=self.now)

    # -- interleaving

    @contextmanager
    def preemptible(self) -> Iterator[None]:
        with connection.execute_wrapper(self._between):
            yield

    def _between(self, execute: Callable, sql: str, params: Any, many: bool, context: dict) -> Any:
        outside = len(connection.savepoint_ids) == self.depth and not self.nested
        if outside and self.dice.random() < self.preempting:
            self.nested += 1
            self.counts["preemptions"] += 1
            try:
                self.work()
            finally:
                self.nested -= 1
        return execute(sql, params, many, context)

    def work(self) -> None:
        """One step of one process."""
        worker = self.dice.choice(self.workers)
        [act] = self.dice.choices(
            (self.claim, self.perform, self.finish, self.finish_again, self.kill),
            (30, 30, 30, 4, 1),
        )
        act(worker)

    def step(self) -> None:
        roll = self.dice.random()
        if roll < 0.60:
            self.work()
        elif roll < 0.80:
            self.tick(self.dice.choice(PAUSES))
        elif roll < 0.97:
            self.read() if self.dice.random() < 0.5 else self.store()
        elif roll < 0.98:
            self.tick(self.dice.choice(LONG_PAUSES))
        elif roll < 0.99:
            self.fault(self.dice.choice(FAULTS))
        else:
            self.person()

    def fault(self, name: str) -> None:
        """On when it was off, and off when it was on."""
        self.market.active ^= {name}
        other = "other_account" in self.market.active
        self.market.account_id = OTHER_ACCOUNT if other else ACCOUNT

    def person(self) -> None:
        session = self.dice.choice(self.sessions)
        self.dice.choice((self.stop, self.stop, self.extend))(session)

    # -- the end

    def heal(self) -> None:
        """Faults are over and everybody who was paused comes back with what they hold."""
        self.market.active.clear()
        self.market.account_id = ACCOUNT
        for worker in self.workers:
            for held in worker.held:
                if held.performed:
                    held.source.finish(held.call, held.answer, self.now)
            worker.held.clear()
        while self.readings:
            self.store()

    def turn(self) -> None:
        """All that is due, by one process alone."""
        self.tick(self.pause())
        self.read()
        self.store()
        for source in (reconcile, sweep):
            for call in source.claim(50, self.now):
                source.finish(call, source.perform(call), self.now)

    def pause(self) -> float:
        """Until something is due: 1 to 20 seconds."""
        rows = Session.objects.open().values_list("due_at", "claimed_until")
        times = [max(due, until or due) for due, until in rows]
        times += [due for due in Sighting.objects.values_list("next_destroy_at", flat=True) if due]
        later = [(at - self.now).total_seconds() for at in times if at > self.now]
        return min(20, max(1, min(later, default=20) + 0.01))

    def settle(self, done: Callable[[], bool], minutes: float = MINUTES_TO_HEAL) -> bool:
        end = self.now + timedelta(minutes=minutes)
        while self.now < end:
            if done():
                return True
            self.turn()
        return done()

    def come_to_rest(self) -> list[str]:
        """Heal, let everything reach what was wanted, stop all of it, and look."""
        self.heal()
        before = self.judge()
        settled = (State.RUNNING, State.ENDED)
        if not self.settle(lambda: not Session.objects.exclude(state__in=settled).exists()):
            before.append(
                f"not settled: {list(map(str, Session.objects.exclude(state__in=settled)))}"
            )
        for session in Session.objects.open():
            self.stop(session)
        ProviderHealth.objects.update(frozen_reason="")  # an operator has looked
        if not self.settle(lambda: not Session.objects.open().exists() and not self.leftovers()):
            before.append(f"not over: {list(map(str, Session.objects.open()))} {self.leftovers()}")
        return before + self.judge()

    def leftovers(self) -> list[str]:
        return [e.label for e in self.market.ledger.values() if not e.foreign and e.gone is None]

    # -- judgement

    def judge(self) -> list[str]:
        """What must hold at any moment."""
        verdict = audit.verify()
        return [
            *self.market.problems,
            *([] if verdict.ok else [verdict.problem]),
            *self.machines_explained(),
            *self.sent_once(),
            *self.attempts_in_turn(),
            *self.states_told(),
            *self.proofs_kept(),
        ]

    def machines_explained(self) -> Iterator[str]:
        attempts = {attempt.label: attempt for attempt in Attempt.objects.all()}
        made: Counter[str] = Counter()
        for instance_id, entry in self.market.ledger.items():
            if entry.foreign:
                if entry.gone:
                    yield f"foreign {instance_id} is gone"
                continue
            if entry.twin:
                continue
            made[entry.label] += 1
            attempt = attempts.get(entry.label)
            if attempt is None:
                yield f"{instance_id} was made for no attempt"
            elif entry.gone is None and attempt.is_closed:
                yield f"{instance_id} lives, its attempt is {attempt.resolution}"
            elif attempt.gone_at and entry.gone > attempt.gone_at:
                yield f"{instance_id} was called gone too early"
        yield from (f"{n} machines with {label}" for label, n in made.items() if n > 1)

    def sent_once(self) -> Iterator[str]:
        actions = ("provider.create.intent", "provider.destroy.intent")
        events = AuditEvent.objects.filter(action__in=actions).values_list("action", "label")
        intents = Counter(events)
        for label, count in self.market.sent.items():
            if count > 1 or intents["provider.create.intent", label] != 1:
                yield f"{count} creates of {label}"
        for label, count in self.market.destroys.items():
            if count > intents["provider.destroy.intent", label]:
                yield f"{count} destroys of {label} without as many intents"

    def attempts_in_turn(self) -> Iterator[str]:
        for session in Session.objects.all():
            attempts = list(session.attempts.order_by("number"))
            if session.state == State.ENDED and any(not a.is_closed for a in attempts):
                yield f"{session} with an open attempt"
            for before, after in zip(attempts, attempts[1:], strict=False):
                if not before.is_closed or before.resolved_at > after.created_at:
                    yield f"{after.label} before the end of {before.label}"

    def states_told(self) -> Iterator[str]:
        events = AuditEvent.objects.filter(action="session.state").order_by("sequence")
        told: dict[str, str] = {}
        for event in events:
            state = told.get(event.session_code, State.REQUESTED)
            if event.data["from"] != state or event.data["to"] not in NEXT[State(state)]:
                yield f"{event.session_code} {event.data} while {state}"
            told[event.session_code] = event.data["to"]
        for session in Session.objects.all():
            if told.get(session.code, State.REQUESTED) != session.state:
                yield f"{session}, the audit says {told.get(session.code)}"

    def proofs_kept(self) -> Iterator[str]:
        """Gone only by as many reads as the rules ask for, each of them made."""
        reads = AuditEvent.objects.filter(action="instance.read")
        absent = Counter(e.label for e in reads if e.data["evidence"] == "absent")
        for attempt in Attempt.objects.filter(resolution=Resolution.GONE):
            told = absent[attempt.label]
            if attempt.absences < 2 or told < attempt.absences:
                yield f"{attempt.label} gone by {attempt.absences} absences, {told} reads"
            span = attempt.last_absence_at - attempt.first_absence_at
            if span < timedelta(seconds=20):
                yield f"{attempt.label} gone by reads within {span}"
