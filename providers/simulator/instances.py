"""One rented machine: its life as a timed agenda, its meter, and what is wrong with it.

All instants are epoch seconds. An instance advances when somebody looks at it; every change
happens at the instant that was planned for it, so the bill never depends on when we looked.
"""

import json
from dataclasses import asdict, dataclass, field, fields, replace

from .store import Record

FOREVER = 4_000_000_000.0  # an instant no test reaches
GONE = "gone"


@dataclass(kw_only=True)
class Meter:
    """Billed seconds. The GPU counts while it runs, the disk while the instance exists."""

    settled_at: float
    gpu_rate: float  # USD per hour
    disk_rate: float
    usd: float = 0.0
    gpu_seconds: float = 0.0
    disk_seconds: float = 0.0
    billed_seconds: float = 0.0  # with any money running
    gpu_on: bool = False
    disk_on: bool = True

    def settle(self, now: float) -> None:
        elapsed = max(0.0, now - self.settled_at)
        self.gpu_seconds += elapsed * self.gpu_on
        self.disk_seconds += elapsed * self.disk_on
        self.billed_seconds += elapsed * (self.gpu_on or self.disk_on)
        rate = self.gpu_rate * self.gpu_on + self.disk_rate * self.disk_on
        self.usd += elapsed * rate / 3600
        self.settled_at = max(now, self.settled_at)

    def switch(self, now: float, *, gpu: bool, disk: bool) -> None:
        self.settle(now)
        self.gpu_on, self.disk_on = gpu, disk


@dataclass(kw_only=True)
class Key:
    key_id: int
    text: str
    works_at: float
    account: str = ""  # of the machine; empty = every one


@dataclass(kw_only=True)
class Board:
    """What nvidia-smi finds inside, which need not be what was sold."""

    name: str
    memory_mb: int
    count: int
    driver: str
    cuda: str
    power_w: int = 300


@dataclass(kw_only=True)
class Instance:
    provider: str
    instance_id: str
    account: str
    label: str
    offer_id: str
    machine_id: str
    slots: list[int]  # indices of the machine's GPUs
    gpu_name: str
    gpu_count: int
    board: Board
    disk_gb: float
    created_at: float
    ssh_port: int
    host_key: str  # private, OpenSSH form
    meter: Meter
    ssh_user: str = "root"
    foreign: bool = False
    bills_stopped: bool = False  # the GPU stays reserved, and costs, until it is taken away
    accounts: list[str] = field(default_factory=list)  # empty = ssh_user and root
    phase: str = ""  # "", created, loading, running, stopped, exited, unknown, offline, detached
    wanted: str = "running"
    queued: bool = False  # wants its GPUs back, which somebody else has
    message: str = ""
    agenda: list[tuple[float, str]] = field(default_factory=list)
    gone_at: float | None = None
    hidden_until: float = 0.0  # not in listings and reads before
    shown_until: float = 0.0  # still in listings after its end
    immortal_until: float = 0.0  # a destroy is acknowledged and does nothing
    ssh_delay: float = 0.0
    ssh_from: float = FOREVER
    ssh_refused_until: float = 0.0
    ssh_mute_until: float = 0.0
    auth_refused_until: float = 0.0
    keys: list[Key] = field(default_factory=list)
    gpu_load: int | None = 0  # per cent, of each GPU; None = the driver does not tell
    gpu_memory_mb: int = 1  # in use on each GPU
    details: dict[str, object] = field(default_factory=dict)  # what only the dialect needs

    @property
    def alive(self) -> bool:
        return self.gone_at is None

    @property
    def gpu_rate(self) -> float:
        """USD per hour, while it runs."""
        return self.meter.gpu_rate

    @property
    def disk_rate(self) -> float:
        """USD per hour."""
        return self.meter.disk_rate

    @property
    def price_per_hour(self) -> float:
        return self.gpu_rate + self.disk_rate

    def reprice(self, gpu_rate: float, now: float) -> None:
        self.meter.settle(now)
        self.meter.gpu_rate = gpu_rate

    def visible(self, now: float) -> bool:
        return self.hidden_until <= now and (self.alive or now < self.shown_until)

    def holds_gpus(self) -> bool:
        """Or held them when it ended."""
        if self.bills_stopped:
            return self.phase != "detached"
        return self.wanted == "running" and not self.queued

    def plan(self, *steps: tuple[float, str]) -> None:
        self.agenda = sorted(steps)

    def advance(self, now: float) -> bool:
        """Do what was planned up to now; True when anything changed."""
        changed = False
        while self.agenda and self.agenda[0][0] <= now and self.alive:
            at, phase = self.agenda.pop(0)
            self.enter(phase, at)
            changed = True
        return changed

    def enter(self, phase: str, at: float) -> None:
        reserved = self.bills_stopped and phase not in (GONE, "offline", "detached")
        gpu = phase == "running" or reserved
        self.meter.switch(at, gpu=gpu, disk=phase not in (GONE, "offline"))
        self.ssh_from = at + self.ssh_delay if phase == "running" else FOREVER
        if phase == GONE:  # the last phase stays: a late listing still shows it
            self.gone_at, self.agenda = at, []
        else:
            self.phase = phase

    def ssh_mode(self, now: float) -> str:
        """closed, open, or mute (connected and then silence)."""
        if (
            not self.alive
            or self.phase != "running"
            or now < self.ssh_from
            or now < self.ssh_refused_until
        ):
            return "closed"
        return "mute" if now < self.ssh_mute_until else "open"

    def key_lines(self, now: float, account: str = "") -> list[str]:
        """The public keys that are accepted now: for one account of the machine, or at all."""
        allowed = self.accounts or [self.ssh_user, "root"]
        if now < self.auth_refused_until or (account and account not in allowed):
            return []
        return [
            key.text
            for key in self.keys
            if key.works_at <= now and (not account or key.account in ("", account))
        ]

    def bill(self, now: float) -> Meter:
        """The meter as it stands now."""
        meter = replace(self.meter)
        if self.alive:
            meter.settle(now)
        return meter

    def cost(self, now: float) -> float:
        """USD so far."""
        return self.bill(now).usd if self.alive else self.meter.usd

    def dump(self) -> Record:
        return json.loads(json.dumps(asdict(self)))


def load(record: Record) -> Instance:
    values = {item.name: record[item.name] for item in fields(Instance) if item.name in record}
    values["meter"] = Meter(**values["meter"])
    values["board"] = Board(**values["board"])
    values["keys"] = [Key(**key) for key in values["keys"]]
    values["agenda"] = [(at, phase) for at, phase in values["agenda"]]
    return Instance(**values)
