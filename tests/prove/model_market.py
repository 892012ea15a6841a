"""The marketplace of the model: machines that come late, stay hidden, and go."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from providers.base import CreateOutcome

START = datetime(2026, 1, 1, tzinfo=UTC)
LATEST, LAG, LINGER = 70, 90, 60  # seconds
ANSWERS = {  # fault of a create -> what is answered
    "": CreateOutcome.CREATED,
    "lost": CreateOutcome.UNKNOWN,
    "late": CreateOutcome.UNKNOWN,
    "undone": CreateOutcome.UNKNOWN,
    "gone": CreateOutcome.OFFER_GONE,
    "leftover": CreateOutcome.LEFTOVER,
    "rate": CreateOutcome.RATE,
}
FAULTS = [fault for fault in ANSWERS if fault]
MORE = ["lag", "no_list", "empty_list", "no_read", "no_destroy", "ignored", "lost_destroy"]


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass
class Machine:
    visible_at: datetime
    gone: datetime | None = None
    listed_until: datetime | None = None


class Market:
    """`machines`: by the attempt's number, as by its label."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.now = START
        self.machines: dict[int, Machine] = {}
        self.arrivals: list[tuple[datetime, int]] = []
        self.sent: Counter[int] = Counter()
        self.faults: set[str] = set()

    def strikes(self, fault: str) -> bool:
        return fault in self.faults and self.dice.random() < 0.8

    def later(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds)

    def appear(self, number: int, at: datetime) -> None:
        lag = self.dice.uniform(0, LAG) if self.strikes("lag") else 0
        if number in self.machines:
            raise Broken(f"a second machine of attempt {number}")
        self.machines[number] = Machine(at + timedelta(seconds=lag))

    def visible(self) -> frozenset[int]:
        now = self.now
        return frozenset(
            n
            for n, m in self.machines.items()
            if m.visible_at <= now
            and (m.gone is None or (m.listed_until is not None and m.listed_until > now))
        )

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for at, number in self.arrivals[:]:
            if at <= self.now:
                self.arrivals.remove((at, number))
                self.appear(number, at)

    def make(self, number: int) -> CreateOutcome:
        """The one request of an attempt arrives, or seems to."""
        self.sent[number] += 1
        if self.sent[number] > 1:
            raise Broken(f"attempt {number} was sent twice")
        fault = next((name for name in FAULTS if self.strikes(name)), "")
        if fault in ("", "lost", "leftover"):
            self.appear(number, self.now)
        elif fault == "late":
            self.arrivals.append((self.later(self.dice.uniform(0, LATEST)), number))
        return ANSWERS[fault]

    def remove(self, machine: Machine) -> None:
        """It stays in listings for a while."""
        machine.gone = self.now
        machine.listed_until = self.later(self.dice.uniform(0, LINGER))
