"""The ways to die or to be held up at one point of a session's life (safety.md 6.4)."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import cycle, product
from pathlib import Path

from tests.processes import until
from tests.prove.crash_hook import TIMED_OUT
from tests.prove.nursery import Child
from tests.prove.runs import DATABASES, PROVIDERS, SECONDS, WORKER, Run

KILLED = -signal.SIGKILL
PAUSE = 45  # seconds: three times the time for which a worker holds a session
PLANS = {"life": "", "lost": "lost_502", "fails": "wrong_gpu"}  # plan -> fault of its create
PAIRED = ("life", "lost")
SOON = 200  # a second crash comes within so many points of the recovery
FEW, SHARE = 8, 0.6
SYSCALLS = "sendto,write,fsync,fdatasync,pwrite64"
REPEAT = "python -m tests.prove.crash_points --plan {} --provider {} --database {} --how {}"


@dataclass(frozen=True, kw_only=True)
class Place:
    plan: str
    provider: str
    database: str

    def __str__(self) -> str:
        return f"{self.plan}/{self.provider}/{self.database}"

    def faults(self) -> list[dict]:
        fault = {"when": "launch", "operation": "create", "fault": PLANS[self.plan]}
        return [fault] if PLANS[self.plan] else []


@dataclass(frozen=True, kw_only=True)
class Death:
    """`then`: at which point of the recovery the second one comes; only in a pair."""

    place: Place
    how: str
    point: str
    then: int = 0

    def __str__(self) -> str:
        then = f" then #{self.then}" if self.then else ""
        return f"{self.how:7} {self.place} {self.point}{then}"

    @property
    def again(self) -> str:
        """The command that repeats it."""
        place = self.place
        words = REPEAT.format(place.plan, place.provider, place.database, self.how)
        then = f" --then {self.then}" if self.then else ""
        return f"{words} --at '{self.point}'{then}"


@dataclass(frozen=True)
class Fate:
    """How often it was struck, and the exit codes of those that lived to the end."""

    strikes: int
    codes: list[int]


def killed(run: Run, death: Death, how: str = "kill", code: int = KILLED) -> Fate:
    first = run.live(CRASH_AT=death.point, CRASH_HOW=how)
    return Fate(1, [run.live()]) if first == code else Fate(0, [first])


def killed_again(run: Run, death: Death) -> Fate:
    first = run.live(CRASH_AT=death.point)
    if first != KILLED:
        return Fate(0, [first])
    second = run.live(CRASH_AT=f"#{death.then}")
    return Fate(2, [run.live()]) if second == KILLED else Fate(1, [second])


def all_killed(run: Run, death: Death) -> Fate:
    """Two workers side by side, at one moment, by whichever comes to the point first."""
    where = {"CRASH_AT": death.point, "CRASH_HOW": "all"}
    first = run.begin(**where)
    codes = run.live_both(first, run.begin(group=first.pid, **where))
    if KILLED not in codes:
        return Fate(0, codes)
    return Fate(1, run.live_both(run.begin(), run.begin()))


def paused(run: Run, death: Death) -> Fate:
    """It sleeps longer than its claims live; another worker takes over; it wakes up."""
    sleeper = run.begin(CRASH_AT=death.point, CRASH_HOW="pause")
    until("the pause", lambda: run.mark.exists() or sleeper.ended.done(), SECONDS)
    if not run.mark.exists():
        return Fate(0, [sleeper.wait()])
    other = run.begin()
    time.sleep(PAUSE)
    sleeper.signal(signal.SIGCONT)
    return Fate(1, run.live_both(sleeper, other))


def alarmed(run: Run, death: Death) -> Fate:
    """The queue's own time-out, an exception in the middle of whatever is done."""
    return killed(run, death, "alarm", TIMED_OUT)


def cut(run: Run, death: Death) -> Fate:
    """At the nth call of one kind into the kernel, counted in each thread."""
    call, _, nth = death.point.partition("#")
    code = traced(run, f"inject={call}:signal=SIGKILL:when={nth}")
    if code != KILLED:
        return Fate(0, [code])
    run.mark.write_text(f"{datetime.now(UTC).isoformat()}\n")
    return Fate(1, [run.live()])


WAYS: dict[str, Callable[[Run, Death], Fate]] = {
    "kill": killed,
    "pair": killed_again,
    "all": all_killed,
    "pause": paused,
    "alarm": alarmed,
    "syscall": cut,
}


# -- which


def places(plans: list[str], providers: list[str], databases: list[str]) -> list[Place]:
    """All combinations of those that are named, of all where none is."""
    every = product(plans or PLANS, providers or PROVIDERS, databases or DATABASES)
    return [Place(plan=p, provider=m, database=d) for p, m, d in every]


Points = dict[Place, list[str]]


def singles(points: Points, sample: int, dice: random.Random) -> list[Death]:
    """From each place the same number, or one more; 0 = every point."""
    if not sample:
        return [Death(place=p, how="kill", point=at) for p, found in points.items() for at in found]
    return spread(points, "kill", sample, dice)


def likely(found: list[str]) -> list[str]:
    """Without the last ones of what is done again and again: another life may do it less often."""
    most = Counter(point.rpartition("#")[0] for point in found)

    def often_enough(point: str) -> bool:
        name, _, nth = point.rpartition("#")
        return int(nth) <= max(FEW, SHARE * most[name])

    return [point for point in found if often_enough(point)]


def spread(points: Points, how: str, number: int, dice: random.Random) -> list[Death]:
    """So many, from the places in turn, no point twice."""
    hands = {place: likely(found) for place, found in points.items()}
    rest = {place: dice.sample(found, len(found)) for place, found in hands.items() if found}
    turns = cycle(dice.sample(list(rest), len(rest)))
    number = min(number, sum(map(len, rest.values())))
    deaths: list[Death] = []
    while len(deaths) < number:
        if rest[place := next(turns)]:
            deaths.append(Death(place=place, how=how, point=rest[place].pop()))
    return deaths


def pairs(points: Points, number: int, dice: random.Random) -> list[Death]:
    """The second crash soon in the recovery, where there is life left."""
    main = {place: found for place, found in points.items() if place.plan in PAIRED}

    def second(death: Death) -> int:
        found = points[death.place]
        left = len(found) - found.index(death.point)
        return dice.randint(1, max(1, min(left, SOON)))

    return [replace(death, then=second(death)) for death in spread(main, "pair", number, dice)]


# -- syscalls


def strace() -> str:
    found = shutil.which("strace")
    assert found, "crashes at system calls need strace (Debian: apt-get install strace)"
    return found


def traced(run: Run, rule: str, log: Path | None = None) -> int:
    """A worker under strace -> its exit code."""
    command = [strace(), "-f", "-qq", "-o", str(log or "/dev/null"), "-e", rule]
    calls = [] if log else ["-e", f"trace={SYSCALLS}"]
    with run.log.open("ab") as file:
        process = subprocess.Popen(
            [*command, *calls, sys.executable, "-m", WORKER], env=run.environment,
            cwd=run.directory, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    run.workers.append(Traced(process))
    return process.wait(2 * SECONDS)


class Traced(Child):
    """Ended with the tracer; the traced one goes with it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__()
        self.process = process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def syscalls(run: Run) -> list[str]:
    """`call#n` for each that any thread of an undisturbed life makes."""
    log = run.directory / "calls"
    code = traced(run, f"trace={SYSCALLS}", log)
    assert not code, f"exit code {code} under strace\n{run.tail()}"
    made: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        thread, _, rest = line.partition(" ")
        if "(" in rest and rest.strip().partition("(")[0] in SYSCALLS.split(","):
            made[thread, rest.strip().partition("(")[0]] += 1
    most = {
        call: max((n for (_, name), n in made.items() if name == call), default=0)
        for call in SYSCALLS.split(",")
    }
    return [f"{call}#{n}" for call, times in most.items() for n in range(1, times + 1)]
