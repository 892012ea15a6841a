"""What is true: accounts, machines, who rents them, and what it costs. Knows no dialect."""

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from uuid import uuid4

import asyncssh

from . import stock, tensordock_stock
from .instances import FOREVER, GONE, Board, Instance, Key, Meter, load
from .stock import Machine
from .store import Record, Store

DEPOSIT = 500.0  # USD on every new account
COOLING_SECONDS = 15  # until the offers of a destroyed instance come back
DRIFT_SECONDS = 20
MONTH_HOURS = 720
FIRST_ID = 31_255_000
BILLS_STOPPED = ("tensordock",)
BUILDERS = {"vastai": stock.build, "tensordock": tensordock_stock.build}


@dataclass(frozen=True, kw_only=True)
class Rental:
    """What a create call settles. Rates in USD per hour; an empty boot plan means the usual one."""

    account: str
    label: str
    machine: Machine
    offer_id: str
    slots: list[int]
    disk_gb: float
    gpu_rate: float
    disk_rate: float
    ssh_user: str = "root"
    keys: tuple[str, ...] = ()
    boot: tuple[tuple[float, str], ...] = ()  # (simulated seconds from now, phase)
    wanted: str = "running"
    foreign: bool = False


class World:
    def __init__(
        self, store: Store, *, clock: float, seed: int, accounts: dict[str, str], now: float,
        reserve_port: Callable[[], int], steady: bool = False, host: str = "127.0.0.1",
        most: int | None = None,
    ) -> None:  # fmt: skip
        """`most`: machines of each marketplace."""
        self.store = store
        self.clock = clock
        self.accounts = accounts  # API key -> account
        self.reserve_port = reserve_port
        self.host = host
        meta = store.all("meta").get("world")
        self.meta = meta or {
            "seed": seed,
            "nonce": secrets.token_hex(16),
            "since": now,
            "serial": 0,
        }
        self.steady, self.most = steady, most
        self.switches: Record = {}  # what an operator may turn, see control
        self.random = Random(f"{seed} {now}")
        self.next_drift = now
        self.stocks: dict[str, dict[str, Machine]] = {}
        self.instances: dict[tuple[str, str], Instance] = {}
        self.tenants: dict[tuple[str, str], list[Instance]] = defaultdict(list)
        for record in store.all("instance").values():
            self.index(load(record))
        if meta is None:
            self.save_meta()

    # -- bookkeeping

    def save_meta(self) -> None:
        self.store.put("meta", "world", self.meta)

    def serial(self) -> int:
        """1, 2, 3 ... for ids; never handed out twice."""
        self.meta["serial"] = int(str(self.meta["serial"])) + 1
        self.save_meta()
        return int(str(self.meta["serial"]))

    def next_id(self, provider: str) -> str:
        serial = self.serial()
        return str(FIRST_ID + serial) if provider == "vastai" else str(uuid4())

    def index(self, instance: Instance) -> None:
        self.instances[instance.provider, instance.instance_id] = instance
        self.tenants[instance.provider, instance.machine_id].append(instance)

    def save(self, instance: Instance) -> None:
        self.store.put("instance", f"{instance.provider}:{instance.instance_id}", instance.dump())

    def real(self, seconds: float) -> float:
        """Simulated seconds as real ones."""
        return seconds / self.clock

    def until(self, now: float, seconds: float | None) -> float:
        return FOREVER if seconds is None else now + self.real(seconds)

    # -- machines

    def stock(self, provider: str) -> dict[str, Machine]:
        if provider not in self.stocks:
            seed = int(str(self.meta["seed"])) + sum(provider.encode())
            machines = {m.machine_id: m for m in BUILDERS[provider](seed)[: self.most]}
            for key, record in self.store.all(f"machine {provider}").items():
                machines[key].price = float(str(record["price"]))
                machines[key].listed = bool(record["listed"])
            self.stocks[provider] = machines
        return self.stocks[provider]

    def machine(self, instance: Instance) -> Machine:
        return self.stock(instance.provider)[instance.machine_id]

    def busy(self, provider: str, machine_id: str, now: float) -> set[int]:
        """The machine's GPUs that cannot be rented now."""
        cooling = self.real(COOLING_SECONDS)
        return {
            slot
            for tenant in self.tenants.get((provider, machine_id), ())
            if tenant.holds_gpus() and (tenant.gone_at is None or tenant.gone_at + cooling > now)
            for slot in tenant.slots
        }

    # -- renting

    def rent(self, provider: str, instance_id: str, rental: Rental, now: float) -> Instance:
        machine = rental.machine
        model = machine.model
        dice = Random(f"{self.meta['seed']} {instance_id}")
        meter = Meter(settled_at=now, gpu_rate=rental.gpu_rate, disk_rate=rental.disk_rate)
        instance = Instance(
            provider=provider, instance_id=instance_id, account=rental.account, label=rental.label,
            offer_id=rental.offer_id, machine_id=machine.machine_id, slots=rental.slots,
            gpu_name=model.name, gpu_count=len(rental.slots), disk_gb=rental.disk_gb,
            created_at=now, bills_stopped=provider in BILLS_STOPPED,
            ssh_port=self.reserve_port(), ssh_user=rental.ssh_user, host_key=new_host_key(),
            meter=meter, foreign=rental.foreign, wanted=rental.wanted,
            board=Board(
                name=model.driver_name, memory_mb=model.memory_mb, count=len(rental.slots),
                driver=machine.driver, cuda=machine.cuda, power_w=model.power_w,
            ),
            ssh_delay=self.real(dice.uniform(4, 15)),
        )  # fmt: skip
        for text in rental.keys:
            self.add_key(instance, text, works_at=now)
        if rental.boot:
            instance.plan(*((now + self.real(wait), phase) for wait, phase in rental.boot))
            instance.advance(now)
        elif rental.wanted == "running":
            instance.plan(*self.boot(now, dice))
        else:
            instance.phase = "stopped"
        self.index(instance)
        self.save(instance)
        return instance

    def boot(self, now: float, dice: Random) -> list[tuple[float, str]]:
        created = now + self.real(dice.uniform(1, 4))
        loading = created + self.real(dice.uniform(1, 5))
        return [
            (created, "created"),
            (loading, "loading"),
            (loading + self.real(dice.triangular(17, 80, 35)), "running"),
        ]

    def add_key(self, instance: Instance, text: str, *, works_at: float, account: str = "") -> Key:
        key = Key(key_id=9_000 + self.serial(), text=text, works_at=works_at, account=account)
        instance.keys.append(key)
        return key

    def stop(self, instance: Instance, now: float) -> None:
        instance.wanted, instance.queued = "stopped", False
        instance.plan((now + self.real(3), "stopped"))
        self.save(instance)

    def start(self, instance: Instance, now: float) -> bool:
        """False when somebody else has the GPUs: it waits, and starts (and bills) later."""
        instance.wanted, instance.queued = "running", True
        taken = self.busy(instance.provider, instance.machine_id, now) & set(instance.slots)
        if not taken:
            instance.queued = False
            instance.plan((now, "loading"), (now + self.real(8), "running"))
        self.save(instance)
        return not taken

    def destroy(self, instance: Instance, now: float) -> None:
        instance.enter(GONE, now)
        self.save(instance)

    # -- looking

    def find(self, provider: str, account: str, instance_id: str, now: float) -> Instance | None:
        """What a call that changes something works on, listed or not."""
        instance = self.instances.get((provider, instance_id))
        if instance is None or instance.account != account:
            return None
        self.advance(instance, now)
        return instance if instance.alive else None

    def see(self, provider: str, account: str, instance_id: str, now: float) -> Instance | None:
        """What a read shows."""
        instance = self.instances.get((provider, instance_id))
        if instance is None or instance.account != account:
            return None
        self.advance(instance, now)
        return instance if instance.visible(now) else None

    def owned(self, provider: str, account: str, now: float) -> list[Instance]:
        """What a listing shows."""
        mine = [
            item
            for item in self.instances.values()
            if item.provider == provider and item.account == account
        ]
        for instance in mine:
            self.advance(instance, now)
        return [instance for instance in mine if instance.visible(now)]

    def alive(self) -> list[Instance]:
        return [instance for instance in self.instances.values() if instance.alive]

    def spent(self, provider: str, account: str, now: float) -> float:
        """USD, ever."""
        return sum(
            item.cost(now)
            for item in self.instances.values()
            if (item.provider, item.account) == (provider, account)
        )

    def credit(self, provider: str, account: str, now: float) -> float:
        deposits = self.store.all("deposit")
        deposit = deposits.get(f"{provider}:{account}", {"usd": DEPOSIT})["usd"]
        return float(str(deposit)) - self.spent(provider, account, now)

    def set_credit(self, provider: str, account: str, usd: float, now: float) -> None:
        deposit = usd + self.spent(provider, account, now)
        self.store.put("deposit", f"{provider}:{account}", {"usd": deposit})

    # -- time passes

    def advance(self, instance: Instance, now: float) -> None:
        if instance.advance(now):
            self.save(instance)

    def tick(self, now: float) -> None:
        for instance in self.alive():
            self.advance(instance, now)
            if instance.alive and instance.queued and instance.wanted == "running":
                self.start_when_free(instance, now)
        if not self.steady and now >= self.next_drift:
            self.next_drift = now + self.real(DRIFT_SECONDS)
            for provider, machines in self.stocks.items():
                self.save_drift(provider, stock.drift(list(machines.values()), self.random))

    def start_when_free(self, instance: Instance, now: float) -> None:
        if not self.busy(instance.provider, instance.machine_id, now) & set(instance.slots):
            self.start(instance, now)

    def save_drift(self, provider: str, machines: Iterable[Machine]) -> None:
        for machine in machines:
            self.store.put(f"machine {provider}", machine.machine_id, machine.drift())

    def stop_the_broke(self, now: float) -> None:
        for provider, account in sorted({(item.provider, item.account) for item in self.alive()}):
            if self.credit(provider, account, now) <= 0:
                for instance in self.alive():
                    whose = instance.provider, instance.account
                    if whose == (provider, account) and instance.wanted == "running":
                        self.cut_off(instance, now)

    def cut_off(self, instance: Instance, now: float) -> None:
        self.stop(instance, now)
        if instance.bills_stopped:  # its GPU is taken away, or it would go on costing
            instance.plan((now, "detached"))
            self.save(instance)


def new_host_key() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
