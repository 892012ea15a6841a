"""A marketplace in memory that lies, forgets and is late, and an own ledger of what is true."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from providers.base import (
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    Instance,
    InstanceState,
    LaunchSpec,
    Listing,
    NotSent,
    ProviderError,
)
from sessions.models import Attempt
from sessions.states import Resolution, State
from tests.sessions.market_double import Market

OTHER_ACCOUNT = "2002"
LATEST = 70  # seconds that a create may be on its way; the product must allow for 75
LAG, LINGER = 90, 60  # seconds
CREATE = {  # fault -> the answer, when it says something definite
    "create_lost": CreateOutcome.UNKNOWN,
    "create_late": CreateOutcome.UNKNOWN,
    "create_undone": CreateOutcome.UNKNOWN,
    "create_gone": CreateOutcome.OFFER_GONE,
    "create_rate": CreateOutcome.RATE,
    "create_not_sent": CreateOutcome.NOT_SENT,
    "create_leftover": CreateOutcome.LEFTOVER,
}
LISTING = ("list_error", "list_empty", "list_half")
READING = ("read_error",)
DESTROY = ("destroy_error", "destroy_lost", "destroy_ignored", "destroy_lingers")
FAULTS = (*CREATE, *LISTING, *READING, *DESTROY, "list_lag", "other_account")
FOREIGN = ("", "training-7", "gb1-", "gb1-0123456789-aaaabbbbccccdddd-1-aaaaaaaa")


@dataclass
class Entry:
    label: str
    foreign: bool
    born: datetime
    gone: datetime | None = None
    twin: bool = False  # made by nobody's request, with a label of ours


class WildMarket(Market):
    def __init__(self, dice: Random, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.dice, self.clock = dice, clock
        self.active: set[str] = set()
        self.ledger: dict[str, Entry] = {}
        self.hidden: dict[str, datetime] = {}
        self.ghosts: dict[str, tuple[datetime, Instance]] = {}
        self.arrivals: list[tuple[datetime, str]] = []
        self.sent: Counter[str] = Counter()
        self.destroys: Counter[str] = Counter()  # by label
        self.problems: list[str] = []
        for label in FOREIGN:
            self.foreign(label)

    # what the world does

    def foreign(self, label: str) -> str:
        machine = self.add(label)
        self.ledger[machine.instance_id].foreign = True
        return machine.instance_id

    def twin(self, label: str) -> None:
        self.ledger[self.add(label).instance_id].twin = True

    def add(self, label: str, **fields: object) -> Instance:
        machine = super().add(label, **fields)
        self.ledger[machine.instance_id] = Entry(label, False, self.clock())
        if self.strikes("list_lag"):
            self.hidden[machine.instance_id] = self.in_seconds(1, LAG)
        return machine

    def arrive(self) -> None:
        """What was on its way and is due."""
        due = [(at, label) for at, label in self.arrivals if at <= self.clock()]
        self.arrivals = [(at, label) for at, label in self.arrivals if at > self.clock()]
        for at, label in due:  # however far the clock has jumped meanwhile
            machine = self.add(label)
            if machine.instance_id in self.hidden:
                self.hidden[machine.instance_id] -= self.clock() - at

    def vanish(self, instance_id: str) -> None:
        self.machines.pop(instance_id, None)
        self.ledger[instance_id].gone = self.clock()

    def strikes(self, fault: str) -> bool:
        return fault in self.active and self.dice.random() < 0.8

    def in_seconds(self, low: float, high: float) -> datetime:
        return self.clock() + timedelta(seconds=self.dice.uniform(low, high))

    # what it answers

    def create(self, spec: LaunchSpec) -> CreateResult:
        self.calls.append(("create", spec.label))
        self.sent[spec.label] += 1
        if self.account_id == OTHER_ACCOUNT:
            return CreateResult(outcome=CreateOutcome.OFFER_GONE, message="another stock")
        fault = next((name for name in sorted(CREATE) if self.strikes(name)), "")
        made = ""
        if fault in ("", "create_lost"):
            made = self.add(spec.label).instance_id
        elif fault == "create_leftover":
            made = self.add(spec.label, state=InstanceState.STOPPED).instance_id
        elif fault == "create_late":
            self.arrivals.append((self.in_seconds(1, LATEST), spec.label))
        outcome = CREATE.get(fault, CreateOutcome.CREATED)
        told = made if outcome in (CreateOutcome.CREATED, CreateOutcome.LEFTOVER) else ""
        return CreateResult(outcome=outcome, instance_id=told, message=fault)

    def shown(self) -> dict[str, Instance]:
        now = self.clock()
        ghosts = {i: machine for i, (until, machine) in self.ghosts.items() if until > now}
        seen = {i: m for i, m in self.machines.items() if self.hidden.get(i, now) <= now}
        return ghosts | seen

    def list_instances(self) -> Listing:
        if self.strikes("list_error"):
            raise NotSent("connection refused")
        if self.account_id == OTHER_ACCOUNT:
            return Listing(instances=(), account_id=OTHER_ACCOUNT)
        shown = list(self.shown().values())
        # a lie about a lost create cannot be seen through: it ends as an orphan of the sweep
        lost = Attempt.objects.filter(instance_id="", resolution="", sent_at__isnull=False)
        if lost.exists():
            return Listing(instances=tuple(shown), account_id=self.account_id)
        if self.strikes("list_empty"):
            shown = []
        if self.strikes("list_half"):
            shown = [machine for machine in shown if self.dice.random() < 0.5]
        return Listing(instances=tuple(shown), account_id=self.account_id)

    def get_instance(self, instance_id: str, details: object = None) -> Instance | None:
        self.calls.append(("read", instance_id))
        if self.strikes("read_error"):
            raise ProviderError("503")
        return None if self.account_id == OTHER_ACCOUNT else self.shown().get(instance_id)

    def destroy(self, instance_id: str) -> DestroyResult:
        self.calls.append(("destroy", instance_id))
        self.judge_destroy(instance_id)
        if self.strikes("destroy_error"):
            return DestroyResult(outcome=DestroyOutcome.RETRY, message="500")
        if self.account_id == OTHER_ACCOUNT or instance_id not in self.machines:
            return DestroyResult(outcome=DestroyOutcome.NOT_FOUND)
        if self.strikes("destroy_ignored"):
            return DestroyResult(outcome=DestroyOutcome.ACCEPTED)
        if self.strikes("destroy_lingers"):
            self.ghosts[instance_id] = (self.in_seconds(1, LINGER), self.machines[instance_id])
        self.vanish(instance_id)
        lost = self.strikes("destroy_lost")
        return DestroyResult(outcome=DestroyOutcome.RETRY if lost else DestroyOutcome.ACCEPTED)

    def judge_destroy(self, instance_id: str) -> None:
        """Only what is ours and nobody wants any more (I1, I15)."""
        entry = self.ledger.get(instance_id)
        if entry is None or entry.foreign:
            self.problems.append(f"destroy of {instance_id}, which is not ours")
            return
        self.destroys[entry.label] += 1
        attempt = Attempt.objects.filter(label=entry.label).select_related("session").first()
        if attempt is None or attempt.instance_id not in ("", instance_id) or attempt.is_closed:
            return
        ending = attempt.session.state in (State.STOPPING, State.ENDED)
        if not ending and attempt.resolution != Resolution.LEFTOVER:
            self.problems.append(f"destroy of {entry.label}, which {attempt.session} still wants")
