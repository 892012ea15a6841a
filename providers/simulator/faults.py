"""What can go wrong on purpose. Each fault is a name, a sentence and a few lines.

A fault is posted to the control port and picked by the calls it matches: provider, operation,
offer_id and label ("abc*" matches a beginning); from the nth matching call on, at most `times`
times (1 unless rate or seconds is given, 0 = without end), each with probability `rate`
(seeded). `seconds` are simulated seconds (the clock factor divides them): for faults of the
answer how long the fault is posted, for faults of an instance how long it is so (absent = for
ever). operation "*" matches every call; operation "instance" or "ssh" changes the living
instances with that label or instance_id at once and waits for no call.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from random import Random

from .instances import FOREVER, GONE, Instance
from .store import Record, Store
from .world import World, new_host_key

Effect = Callable[[World, Instance, float | None, float], None]

BEFORE = {
    "http_500": "500 with JSON, nothing done",
    "http_502": "502 with an HTML page, nothing done",
    "http_503": "503 without a body, nothing done",
    "http_504": "504 with an HTML page, nothing done",
    "drop": "the connection is cut, nothing done",
    "hang": "no answer until the client gives up, nothing done",
    "not_json": "200 with an HTML page, nothing done",
    "empty_body": "200 without a body, nothing done",
    "huge_body": "200 with 20 MB of JSON, nothing done",
    "redirect": "307 to another host, nothing done",
}
AFTER = {
    "lost_500": "done, then 500 with JSON",
    "lost_502": "done, then 502 with an HTML page",
    "lost_504": "done, then 504 with an HTML page",
    "lost_drop": "done, then the connection is cut without an answer",
    "lost_hang": "done, then no answer until the client gives up",
    "lost_not_json": "done, then 200 with an HTML page",
    "cut_body": "done, then the answer stops in the middle",
    "slow": "done, and answered after `seconds`",
    "late": "done and answered after `seconds`, though the client may be gone by then",
    "trickle": "done, then the answer comes a byte a second",
}
INSIDE = {
    "orphan": "create says success:false and yet names an instance, which exists, stopped",
    "second_slice": "create of a taken offer rents another free part of that machine",
    "destroy_ignored": "destroy is answered ok and the instance lives on (for `seconds`)",
    "still_listed": "destroyed, and for `seconds` still in listings and reads",
    "other_account": "the key belongs to another account",
    "missing_page": "a later page of a listing fails with 500",
}


def list_lag(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.hidden_until = world.until(now, seconds)


def boot_never_ends(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    late = [(world.until(now, seconds), phase) for _, phase in instance.agenda[-1:]]
    instance.plan(*instance.agenda[:-1], *late)


def exits_at_once(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    at = instance.agenda[-1][0] if instance.agenda else now
    instance.plan(*instance.agenda, (at + world.real(1), "exited"))


def runtime_failed(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.message = "Error response from daemon: failed: OCI runtime create failed: runc"
    instance.plan((now + world.real(2), "created"))


def image_missing(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.message = "Error response from daemon: manifest unknown: manifest unknown"
    instance.plan((now + world.real(2), "loading"))


def ssh_refused(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.ssh_refused_until = world.until(now, seconds)


def ssh_mute(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.ssh_mute_until = world.until(now, seconds)


def auth_refused(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.auth_refused_until = world.until(now, seconds)


def wrong_gpu(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.board.name, instance.board.memory_mb = "NVIDIA GeForce GTX 1660 SUPER", 6144


def missing_gpu(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.board.count -= 1


def wrong_cuda(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.board.driver, instance.board.cuda = "470.256.02", "11.4"


def no_driver(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.details["no_driver_until"] = world.until(now, seconds)


def host_key_changed(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.host_key = new_host_key()


def vanish(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.plan(*instance.agenda, (now + world.real(seconds or 0), GONE))


def stopped(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    """Outbid: stopped by the marketplace, resumes (and bills) by itself after `seconds`."""
    back = world.until(now, seconds)
    instance.plan((now, "stopped"), (back, "loading"), (back + world.real(5), "running"))


def offline(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    away = (now, "unknown"), (now + world.real(5), "offline")
    instance.plan(*away, (world.until(now + world.real(5), seconds), "running"))


def exited(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.plan((now, "exited"))


def price_raised(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.reprice(round(instance.gpu_rate * 1.5, 6), now)


def immortal(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.immortal_until = world.until(now, seconds)


def reclaimed(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.details["reclaimed"] = True
    at = instance.agenda[-1][0] if instance.agenda else now
    instance.plan(*instance.agenda, (at + world.real(1), "detached"))


def fails(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.plan((now + world.real(seconds or 2), "error"))


def address_late(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    at = world.until(now, seconds)
    instance.details |= {"address_at": at, "forwards_at": at}


def forwards_late(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.details["forwards_at"] = world.until(now, seconds)


def forwards_dropped(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    if not instance.details.get("dedicated"):
        instance.details["no_forwards"] = True
        instance.ssh_refused_until = FOREVER


def lingers(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.shown_until = world.until(now, seconds)


def root_only(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.accounts = ["root"]


def user_only(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.accounts = ["user"]


def commands_ignored(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.details["commands_ignored"] = True


def commands_late(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.details["commands_late"] = FOREVER if seconds is None else seconds


def dpkg_locked(world: World, instance: Instance, seconds: float | None, now: float) -> None:
    instance.details["dpkg_locked"] = world.until(now, seconds)


EFFECTS: dict[str, tuple[Effect, str]] = {
    "list_lag": (list_lag, "not in listings and reads for `seconds`"),
    "boot_never_ends": (boot_never_ends, "never reaches running (before `seconds`)"),
    "exits_at_once": (exits_at_once, "exits a second after it ran"),
    "runtime_failed": (runtime_failed, "created, then OCI runtime create failed"),
    "image_missing": (image_missing, "loading for ever, manifest unknown"),
    "ssh_refused": (ssh_refused, "connections to SSH are refused"),
    "ssh_mute": (ssh_mute, "SSH accepts the connection and says nothing"),
    "auth_refused": (auth_refused, "SSH accepts no key"),
    "wrong_gpu": (wrong_gpu, "nvidia-smi shows another model"),
    "missing_gpu": (missing_gpu, "nvidia-smi shows one GPU less (none: No devices were found)"),
    "wrong_cuda": (wrong_cuda, "an old driver with CUDA 11.4"),
    "no_driver": (no_driver, "nvidia-smi is not there (before `seconds`)"),
    "host_key_changed": (host_key_changed, "SSH shows another host key from now on"),
    "vanish": (vanish, "gone by itself (after `seconds`)"),
    "outbid": (stopped, "stopped by the marketplace, resumes after `seconds`"),
    "offline": (offline, "unknown, then offline (not billed), back after `seconds`"),
    "exited": (exited, "the container ends"),
    "price_raised": (price_raised, "the GPU costs half as much again"),
    "lingers": (lingers, "in listings and reads until `seconds` are over, destroyed or not"),
    "reclaimed": (reclaimed, "its GPUs are taken away: StoppedDisassociated, no start any more"),
    "fails": (fails, "ends in an error state (after `seconds`)"),
    "address_late": (address_late, "no address (before `seconds`)"),
    "forwards_late": (forwards_late, "no forwarded ports (before `seconds`)"),
    "forwards_dropped": (forwards_dropped, "no forwarded port at all, unless its IP is its own"),
    "root_only": (root_only, "SSH lets in nobody but root"),
    "user_only": (user_only, "SSH lets in nobody but user"),
    "commands_ignored": (commands_ignored, "cloud-init is not carried out"),
    "commands_late": (commands_late, "cloud-init is done only `seconds` later than usual"),
    "dpkg_locked": (dpkg_locked, "something holds the lock of dpkg (for `seconds`)"),
    "immortal": (immortal, "every destroy is acknowledged and does nothing"),
}
CATALOGUE = BEFORE | AFTER | INSIDE | {name: text for name, (_, text) in EFFECTS.items()}
TIMED = ("slow", "late")
NUMBERS = ("nth", "times", "rate", "seconds", "seed")
AT_ONCE = ("instance", "ssh")


@dataclass(kw_only=True)
class Fault:
    id: int
    fault: str
    operation: str
    posted_at: float
    provider: str = "*"
    nth: int = 1
    times: int | None = None
    rate: float | None = None
    seconds: float | None = None
    seed: int = 0
    offer_id: str = ""
    label: str = ""
    instance_id: str = ""
    seen: int = 0
    hits: int = 0
    random: Random = field(default_factory=Random, repr=False)

    @property
    def windowed(self) -> bool:
        """Whether `seconds` says how long it is posted."""
        return self.seconds is not None and self.fault not in (*EFFECTS, *INSIDE, *TIMED)

    @property
    def limit(self) -> float:
        if self.times is None:
            return FOREVER if self.rate is not None or self.windowed else 1
        return self.times or FOREVER

    def over(self, now: float, clock: float) -> bool:
        late = self.windowed and now > self.posted_at + (self.seconds or 0) / clock
        return late or self.hits >= self.limit

    def matches(self, call: "Matchable") -> bool:
        return (
            self.provider in ("*", call.provider)
            and self.operation in ("*", call.operation)
            and label_matches(self.offer_id, call.offer_id)
            and self.instance_id in ("", call.instance_id)
            and label_matches(self.label, call.label)
            and (self.fault != "missing_page" or call.later_page)
        )

    def strikes(self) -> bool:
        self.seen += 1
        struck = self.seen >= self.nth and (self.rate is None or self.random.random() < self.rate)
        self.hits += struck
        return struck

    def dump(self) -> Record:
        return {item.name: getattr(self, item.name) for item in fields(self)[:-1]}


@dataclass(kw_only=True)
class Matchable:
    """What a fault looks at in a call."""

    provider: str
    operation: str
    offer_id: str = ""
    instance_id: str = ""
    label: str = ""
    later_page: bool = False


def label_matches(wanted: str, label: str) -> bool:
    if wanted.endswith("*"):
        return label.startswith(wanted[:-1])
    return wanted in ("", label)


class FaultBook:
    """The faults that are posted. Kept on disk like everything else."""

    def __init__(self, store: Store, clock: float, names: dict[str, str]) -> None:
        self.store = store
        self.clock = clock
        self.catalogue = CATALOGUE | names
        self.faults: list[Fault] = []
        for record in store.all("fault").values():
            if not record.get("lifted"):
                self.faults.append(fault_of(record))

    def post(self, body: Record, number: int, now: float) -> Fault:
        """Raises ValueError with a sentence for people."""
        known = {item.name for item in fields(Fault)} - {
            "id",
            "posted_at",
            "seen",
            "hits",
            "random",
        }
        if unknown := set(body) - known:
            raise ValueError(f"unknown fields {sorted(unknown)}; known: {sorted(known)}")
        if body.get("fault") not in self.catalogue or "operation" not in body:
            raise ValueError(f"give operation and fault, one of {sorted(self.catalogue)}")
        if wrong := [name for name in NUMBERS if not isinstance(body.get(name, 0), int | float)]:
            raise ValueError(f"{wrong} must be numbers")
        fault = fault_of({**body, "id": number, "posted_at": now})
        if fault.operation in AT_ONCE:
            if fault.fault not in EFFECTS:
                raise ValueError(f"an instance can have {sorted(EFFECTS)}")
            return fault
        self.faults.append(fault)
        self.save(fault)
        return fault

    def save(self, fault: Fault, *, lifted: bool = False) -> None:
        self.store.put("fault", str(fault.id), fault.dump() | {"lifted": lifted})

    def lift(self, number: int | None = None) -> int:
        """All of them without a number; returns how many."""
        lifted = [fault for fault in self.faults if number in (None, fault.id)]
        self.faults = [fault for fault in self.faults if fault not in lifted]
        for fault in lifted:
            self.save(fault, lifted=True)
        return len(lifted)

    def take(self, call: Matchable, now: float) -> Fault | None:
        """The first fault that strikes this call."""
        for fault in self.faults:
            if fault.over(now, self.clock) or not fault.matches(call):
                continue
            struck = fault.strikes()
            self.save(fault)
            if struck:
                return fault
        return None


def fault_of(record: Record) -> Fault:
    names = {item.name for item in fields(Fault)}
    fault = Fault(**{key: value for key, value in record.items() if key in names})
    fault.random = Random(fault.seed)
    return fault


def apply(world: World, fault: Fault, instance: Instance, now: float) -> None:
    """Change one living instance."""
    EFFECTS[fault.fault][0](world, instance, fault.seconds, now)
    world.save(instance)


def apply_at_once(world: World, fault: Fault, now: float) -> int:
    """To every living instance it names; returns how many."""
    struck = [
        instance
        for instance in world.alive()
        if fault.provider in ("*", instance.provider)
        and fault.instance_id in ("", instance.instance_id)
        and label_matches(fault.label, instance.label)
    ]
    for instance in struck:
        apply(world, fault, instance, now)
    return len(struck)


def describe(fault: Fault) -> Record:
    return {key: value for key, value in fault.dump().items() if value not in ("", None)}
