"""A marketplace in memory with a clock of its own, for running sessions step by step."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from django.utils import timezone

from providers import catalog, registry
from providers.base import (
    Account,
    Capabilities,
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    Instance,
    InstanceState,
    LaunchSpec,
    Listing,
    OfferListing,
    Provider,
    ProviderError,
    SSHEndpoint,
)
from sessions import reconcile, ssh, sweep
from sessions.calls import Call
from sessions.models import Session
from tests.factories import make_health

ACCOUNT = "1001"
LISTING = timedelta(seconds=3)


class Market(Provider):
    """What the test sets happens: `fail` maps an operation to what is done instead."""

    name, title = "vastai", "Vast.ai"
    capabilities = Capabilities(attach_key=True)

    def __init__(self) -> None:
        self.machines: dict[str, Instance] = {}
        self.calls: list[tuple[str, str]] = []
        self.fail: dict[str, Callable] = {}
        self.next_id = 7000
        self.account_id = ACCOUNT

    def account(self) -> Account:
        return Account(account_id=self.account_id)

    def search_offers(self) -> OfferListing:
        return OfferListing(offers=(), complete=True)

    def add(self, label: str, **fields) -> Instance:
        self.next_id += 1
        values = {
            "provider": self.name,
            "instance_id": str(self.next_id),
            "label": label,
            "state": InstanceState.RUNNING,
            "raw_state": "running",
            "endpoints": (SSHEndpoint(host="127.0.0.1", port=22, user="root"),),
            "price_per_hour": Decimal("0.40"),
        }
        machine = Instance(**(values | fields))
        self.machines[machine.instance_id] = machine
        return machine

    def create(self, spec: LaunchSpec) -> CreateResult:
        self.calls.append(("create", spec.label))
        if "create" in self.fail:
            return self.fail["create"](spec)
        machine = self.add(spec.label)
        return CreateResult(outcome=CreateOutcome.CREATED, instance_id=machine.instance_id)

    def list_instances(self) -> Listing:
        if "list" in self.fail:
            return self.fail["list"]()
        return Listing(instances=tuple(self.machines.values()), account_id=self.account_id)

    def get_instance(self, instance_id: str, details: object = None) -> Instance | None:
        self.calls.append(("read", instance_id))
        if "read" in self.fail:
            return self.fail["read"](instance_id)
        return self.machines.get(instance_id)

    def destroy(self, instance_id: str) -> DestroyResult:
        self.calls.append(("destroy", instance_id))
        if "destroy" in self.fail:
            return self.fail["destroy"](instance_id)
        known = self.machines.pop(instance_id, None)
        return DestroyResult(outcome=DestroyOutcome.ACCEPTED if known else DestroyOutcome.NOT_FOUND)

    def attach_key(self, instance_id: str, public_key: str) -> None:
        self.calls.append(("attach", instance_id))
        if "attach" in self.fail:
            self.fail["attach"](instance_id)

    def count(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.calls)


GOOD = ssh.Check(
    stage="gpu",
    host_key="ssh-ed25519 AAAA",
    gpus=(ssh.FoundGPU(name="NVIDIA GeForce RTX 4090", memory_mb=24564),),
    driver="570.86",
    cuda="12.8",
)


@dataclass
class World:
    """Market, clock and the loop that a slice would run."""

    market: Market = field(default_factory=Market)
    now: datetime = field(default_factory=timezone.now)
    check: ssh.Check = GOOD
    listed_at: datetime | None = None
    quiet: int = 0  # turns in a row in which nothing was called

    def install(self, monkeypatch) -> "World":
        monkeypatch.setattr(registry, "get", lambda name: self.market)
        monkeypatch.setattr(registry, "names", lambda: ["vastai"])
        monkeypatch.setattr(registry, "capabilities", lambda name: self.market.capabilities)
        monkeypatch.setattr(ssh, "check", lambda target: self.check)
        monkeypatch.setattr("sessions.calls.timezone.now", lambda: self.now)
        make_health(account_id=ACCOUNT, listing_due_at=self.now, offers_due_at=self.now)
        return self

    def read(self) -> None:
        """A listing as jobs.py would store it, started now."""
        listing, error = None, ""
        try:
            listing = self.market.list_instances()
        except ProviderError as problem:
            error = str(problem) or "no answer"
        catalog.store_listing("vastai", listing, started_at=self.now, now=self.now, error=error)

    def turn(self, seconds: float = 1) -> None:
        self.now += timedelta(seconds=seconds)
        if not self.listed_at or self.now - self.listed_at >= LISTING:
            self.listed_at = self.now
            self.read()
        self.quiet += 1
        for source in (reconcile, sweep):
            for call in source.claim(50, self.now):
                source.finish(call, source.perform(call), self.now)
                self.quiet = 0

    def until(self, done: Callable[[], bool], turns: int = 600) -> None:
        """A second each turn; longer steps, at most 15 s, while nothing happens."""
        for _ in range(turns):
            if done():
                return
            self.turn(min(15, 1 + self.quiet // 4))
        states = list(Session.objects.values("state", "reason", "due_at", "claimed_until"))
        raise AssertionError(f"not within {turns} turns, now {self.now}: {states}")

    def claim(self) -> list[Call]:
        """The next calls, as a process holds them that is paused or killed right then."""
        for _ in range(200):
            self.now += timedelta(seconds=1)
            if calls := reconcile.claim(50, self.now):
                return calls
        raise AssertionError("nothing is due")

    def until_state(self, session: Session, state: str) -> Session:
        def there() -> bool:
            session.refresh_from_db()
            return session.state == state

        self.until(there)
        return session

    def change(self, instance_id: str, **fields) -> None:
        machine = self.market.machines[instance_id]
        self.market.machines[instance_id] = replace(machine, **fields)
