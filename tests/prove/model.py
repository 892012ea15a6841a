"""decide() under 10^5 interleavings: its real code over a model of rows, processes and market.

    python -m tests.prove.model [SCHEDULES] [SEED]

The model applies actions as steps.py and answers.py do (compare-and-set on the fence, a permit
before the one request, evidence counted per read), but in memory, so that thousands of schedules
pass in a second. The slower test_interleavings.py runs the same game over the real rows.
"""

import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from providers.base import CreateOutcome, InstanceState
from sessions import lifecycle as do
from sessions.facts import AttemptFacts, Facts, Seen
from sessions.rules import RULES
from sessions.states import NEXT, Resolution, State
from tests.prove.figures import record
from tests.prove.model_market import FAULTS, MORE, START, Broken, Machine, Market

PRICE = Decimal("0.4")
CLAIM, PERMIT = 150, 10  # seconds
NOTHING = {"absences": 0, "first_absence_at": None, "last_absence_at": None}
LIFE = timedelta(hours=2)
STEPS_OF_CHAOS, STEPS_TO_REST = 60, 500
KNOWN = {
    CreateOutcome.CREATED: Resolution.CREATED,
    CreateOutcome.LEFTOVER: Resolution.LEFTOVER,
    CreateOutcome.UNKNOWN: "",
}


@dataclass
class Row:
    """The session and its attempts as the database holds them."""

    state: State = State.REQUESTED
    since: datetime = START
    fence: int = 0
    claimed_until: datetime = START
    due_at: datetime = START
    attempts: list[AttemptFacts] = field(default_factory=list)
    ready: bool = False  # the GPU was found


@dataclass
class Hand:
    """What a process has in hand: an action decided upon, or a call with its answer."""

    fence: int
    state: State
    number: int
    action: do.Action | None = None
    call: str = ""
    sent_at: datetime = START
    answer: object = None
    performed: bool = False


class Game(Market):
    """The rows and the processes; the market is where they call."""

    def __init__(self, seed: int, processes: int) -> None:
        super().__init__(seed)
        self.row = Row()
        self.hands: list[Hand | None] = [None] * processes
        self.newest: tuple[datetime, frozenset[int]] | None = None
        self.reading: tuple[datetime, frozenset[int]] | None = None

    def read(self) -> None:
        if not self.strikes("no_list"):
            # a lie about a lost create cannot be seen through: the sweep is there for that
            known = bool(self.row.attempts) and self.row.attempts[-1].instance_id != ""
            lies = known and self.strikes("empty_list")
            shown = frozenset() if lies else self.visible()
            self.reading = (self.now, shown)

    def store(self) -> None:
        if self.reading and (self.newest is None or self.reading[0] > self.newest[0]):
            self.newest = self.reading
        self.reading = None

    # one process

    def work(self, index: int) -> None:
        hand = self.hands[index]
        if hand is None:
            self.claim(index)
        elif hand.action is not None:
            self.apply(index, hand, hand.action)
        elif not hand.performed:
            hand.answer, hand.performed = self.perform(hand), True
        else:
            self.finish(hand)
            if self.dice.random() < 0.1:
                self.finish(hand)  # a commit whose confirmation was lost
            self.hands[index] = None

    def claim(self, index: int) -> None:
        row = self.row
        if row.state == State.ENDED or row.due_at > self.now or row.claimed_until > self.now:
            return
        row.fence += 1
        row.claimed_until = self.later(CLAIM)
        self.decide(index, row.fence)

    def decide(self, index: int, fence: int) -> None:
        number = len(self.row.attempts)
        hand = Hand(fence, self.row.state, number, do.decide(self.facts(), RULES, self.now))
        self.hands[index] = hand

    def facts(self) -> Facts:
        row, attempt = self.row, self.row.attempts[-1] if self.row.attempts else None
        at, shown = self.newest or (None, frozenset())
        listed = attempt is not None and attempt.number in shown
        news = {}
        if attempt and listed and not attempt.closed:
            if attempt.instance_id and not attempt.ever_seen:
                news["ever_seen"] = True
            if attempt.absences:
                news |= NOTHING
        state = InstanceState.RUNNING
        return Facts(
            state=row.state,
            state_since=row.since,
            created_at=START,
            expires_at=START + LIFE,
            max_price_per_hour=PRICE,
            attempt=attempt,
            offers_tried=sum(a.closed and a.outcome != CreateOutcome.RATE for a in row.attempts),
            seen=Seen(instance_id="7", state=state, has_endpoint=True) if listed else None,
            listed_at=at,
            listed=listed,
            news=news,
            hardware=() if row.ready else None,
        )

    def apply(self, index: int, hand: Hand, action: do.Action) -> None:
        row = self.row
        self.hands[index] = None
        if hand.fence != row.fence or hand.state != row.state:
            return None  # somebody else was faster
        match action:
            case do.Wait():
                row.due_at = action.until
                return self.let_go(hand.fence)
            case do.TryOffer():
                self.open_attempt()
            case do.Move():
                self.move(action)
            case do.Create():
                return self.permit(index, hand)
            case do.Destroy():
                self.change(hand, destroy_sent_at=self.now)
                return self.call(index, hand, "destroy")
            case do.ReadInstance():
                return self.call(index, hand, "read")
            case do.CheckSSH():
                return self.call(index, hand, "ssh")
            case do.Look():
                looks = row.attempts[-1].looks + 1
                self.change(hand, looks=looks, last_look_at=action.listed_at)
            case do.Adopt():
                self.change(hand, resolution=Resolution.ADOPTED, instance_id="7")
            case do.NotCreated():
                self.change(hand, resolution=Resolution.NOT_CREATED)
            case do.Observe():
                self.change(hand, **action.columns)
            case do.Gone():
                self.gone(hand)
        return self.decide(index, hand.fence)

    def open_attempt(self) -> None:
        if self.row.attempts and not self.row.attempts[-1].closed:
            raise Broken("two open attempts")
        number = len(self.row.attempts) + 1
        made = AttemptFacts(number=number, created_at=self.now, price_per_hour=PRICE)
        self.row.attempts.append(made)
        if self.row.state == State.REQUESTED:
            self.enter(State.CREATING)

    def move(self, action: do.Move) -> None:
        self.enter(action.to)
        if action.to == State.ENDED:
            alive = [n for n, m in self.machines.items() if m.gone is None]
            if alive or self.arrivals or any(not a.closed for a in self.row.attempts):
                raise Broken(f"ended while {alive} live and {self.arrivals} are on their way")

    def enter(self, state: State) -> None:
        if state not in NEXT[self.row.state]:
            raise Broken(f"{self.row.state} -> {state}")
        self.row.state, self.row.since, self.row.due_at = state, self.now, self.now

    def permit(self, index: int, hand: Hand) -> None:
        if self.row.attempts[-1].sent_at is not None:
            raise Broken("a permit was given twice")
        self.change(hand, sent_at=self.now)
        self.call(index, hand, "create")

    def gone(self, hand: Hand) -> None:
        machine = self.machines.get(hand.number)
        if machine and machine.gone is None:
            raise Broken(f"attempt {hand.number} was called gone and lives")
        self.change(hand, resolution=Resolution.GONE)

    def change(self, hand: Hand, **columns: object) -> None:
        place = hand.number - 1
        self.row.attempts[place] = replace(self.row.attempts[place], **columns)

    def call(self, index: int, hand: Hand, name: str) -> None:
        number = len(self.row.attempts)
        self.hands[index] = Hand(hand.fence, self.row.state, number, None, name, self.now)

    def let_go(self, fence: int) -> None:
        if self.row.fence == fence:
            self.row.fence += 1
            self.row.claimed_until = START

    # calls

    def perform(self, hand: Hand) -> object:
        machine = self.machines.get(hand.number)
        if hand.call == "create":
            return self.create(hand)
        if hand.call == "read":
            return "error" if self.strikes("no_read") else hand.number in self.visible()
        if hand.call == "destroy":
            return self.destroy(hand, machine)
        return machine is not None and machine.gone is None

    def create(self, hand: Hand) -> CreateOutcome:
        if self.now > hand.sent_at + timedelta(seconds=PERMIT):
            return CreateOutcome.NOT_SENT
        return self.make(hand.number)

    def destroy(self, hand: Hand, machine: Machine | None) -> bool:
        """True = accepted or not found."""
        attempt = self.row.attempts[hand.number - 1]
        ending = self.row.state in (State.STOPPING, State.ENDED)
        if not ending and attempt.resolution != Resolution.LEFTOVER:
            raise Broken(f"destroy while {self.row.state}")
        if self.strikes("no_destroy"):
            return False
        if machine and machine.gone is None and not self.strikes("ignored"):
            self.remove(machine)
        return not self.strikes("lost_destroy")

    def finish(self, hand: Hand) -> None:
        overtaken = hand.fence != self.row.fence
        if not (overtaken and hand.call in ("read", "ssh")):
            getattr(self, f"finish_{hand.call}")(hand, self.row.attempts[hand.number - 1])
        if not overtaken:
            self.row.due_at = self.now
            if hand.call == "ssh":
                self.row.due_at = self.later(RULES.ssh_retry)
        self.let_go(hand.fence)

    def finish_create(self, hand: Hand, attempt: AttemptFacts) -> None:
        if attempt.outcome:
            return
        words = {"outcome": hand.answer, "answered_at": self.now}
        if not attempt.resolution:
            resolution = KNOWN.get(hand.answer, Resolution.NOT_CREATED)
            words["resolution"] = resolution
            words["instance_id"] = "7" if resolution in ("created", "leftover") else ""
        self.change(hand, **words)

    def finish_destroy(self, hand: Hand, attempt: AttemptFacts) -> None:
        if hand.answer:
            self.change(hand, destroy_accepted_at=self.now, **NOTHING)

    def finish_read(self, hand: Hand, attempt: AttemptFacts) -> None:
        if hand.answer == "error" or attempt.closed:
            return
        if hand.answer:
            self.change(hand, ever_seen=True, **NOTHING)
            return
        self.change(
            hand,
            absences=attempt.absences + 1,
            first_absence_at=attempt.first_absence_at or self.now,
            last_absence_at=self.now,
        )

    def finish_ssh(self, hand: Hand, attempt: AttemptFacts) -> None:
        self.row.ready |= bool(hand.answer)

    # the whole

    def stop(self) -> None:
        if self.row.state not in (State.STOPPING, State.ENDED):
            self.enter(State.STOPPING)

    def step(self) -> None:
        roll = self.dice.random()
        if roll < 0.66:
            self.work(self.dice.randrange(len(self.hands)))
        elif roll < 0.82:
            self.tick(self.dice.choice((0.3, 1, 3, 8, 25)))
        elif roll < 0.95:
            self.store() if self.reading else self.read()
        elif roll < 0.97:
            self.faults ^= {self.dice.choice(FAULTS + MORE)}
        elif roll < 0.98:
            self.tick(self.dice.choice((80, 160, 400)))
        elif roll < 0.99:
            self.hands[self.dice.randrange(len(self.hands))] = None  # killed
        else:
            self.stop()

    def play(self) -> None:
        for _ in range(self.dice.randrange(3)):
            self.faults.add(self.dice.choice(FAULTS + MORE))
        for _ in range(STEPS_OF_CHAOS):
            self.step()
        self.faults.clear()
        stop_at = self.dice.choice((0, 0, 0, 30))
        for turn in range(STEPS_TO_REST):
            if self.row.state == State.ENDED:
                return
            if turn == stop_at:
                self.stop()
            self.rest()
        raise Broken(f"not at rest: {self.row}")

    def rest(self) -> None:
        """Everything that is due, and time up to what is due next."""
        due = max(self.row.due_at, self.row.claimed_until) - self.now
        self.tick(min(600, max(1.0, due.total_seconds() + 0.1)))
        self.read()
        self.store()
        for index in range(len(self.hands)):
            for _ in range(4):
                self.work(index)


def explore(schedules: int, seed: int) -> dict[str, object]:
    began, counts = time.monotonic(), Counter()
    for number in range(seed, seed + schedules):
        game = Game(number, processes=2 + number % 3)
        try:
            game.play()
        except Broken as broken:
            again = f"python -m tests.prove.model 1 {number}"
            raise SystemExit(f"{broken}\nagain: {again}") from broken
        counts["creates"] += sum(game.sent.values())
        counts["sessions that ran"] += game.row.ready
        counts["second attempts"] += len(game.row.attempts) > 1
    seconds = time.monotonic() - began
    return {
        "schedules": schedules,
        "first_seed": seed,
        "per_second": round(schedules / seconds),
        **counts,
    }


def main() -> None:
    schedules = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else Random().randrange(10**9)
    figures = explore(schedules, seed)
    record("model", **figures)
    print("interleavings of decide():", figures)


if __name__ == "__main__":
    main()
