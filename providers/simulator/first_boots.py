"""Runs cloud-init of every TensorDock machine once, when it is up for the first time."""

import asyncio
import sys
from collections.abc import Callable
from functools import partial

from .cloud_init import Boot, Machines
from .instances import FOREVER, Instance
from .onstart import UNFINISHED
from .world import World

AT_A_TIME = 2


class FirstBoots:
    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.running: dict[str, asyncio.Task[None]] = {}
        self.kept: set[str] | None = None  # whose roots were left at the last cleaning
        self.places = asyncio.Semaphore(AT_A_TIME)

    def sync(self, world: World, now: float) -> None:
        """Call it whenever time has passed."""
        alive = {item.instance_id: item for item in world.alive() if "cloud_init" in item.details}
        for name, instance in alive.items():
            if due(instance) and name not in self.running:
                self.running[name] = asyncio.ensure_future(self.boot(world, instance))
        for name in [name for name, task in self.running.items() if task.done()]:
            self.running.pop(name).result()
        everybody = {item.instance_id for item in world.alive()}
        if self.kept != everybody and not self.running:
            self.kept = everybody
            unfinished = {f"{name}{UNFINISHED}" for name in everybody}
            self.machines.forget_all_but(everybody | unfinished)

    async def boot(self, world: World, instance: Instance) -> None:
        details = instance.details
        began = instance.ssh_from - instance.ssh_delay
        seconds = float(str(details.get("first_boot_seconds", 0)))
        done = began + world.real(seconds + float(str(details.get("commands_late", 0))))
        async with self.places:
            found = await attempt(partial(carry_out, self.machines, instance))
        for account, text in found.keys:
            world.add_key(instance, text, works_at=done, account=account)
        details["booted"] = True
        details["first_boot_done"] = done
        world.save(instance)

    async def close(self) -> None:
        await asyncio.gather(*self.running.values())


def carry_out(machines: Machines, instance: Instance) -> Boot:
    details = instance.details
    if not machines.works:
        return Boot([("user", str(details["ssh_key"]))], "")
    data = {} if details.get("commands_ignored") else dict(details["cloud_init"])  # type: ignore[call-overload]
    return machines.boot(instance.instance_id, data, locked=bool(details.get("dpkg_locked")))


async def attempt(call: Callable[[], Boot]) -> Boot:
    """Data that makes no sense spoil the machine and not the simulator."""
    try:
        return await asyncio.to_thread(call)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        print(f"cloud-init: {problem!r}", file=sys.stderr, flush=True)  # noqa: T201
        return Boot([], repr(problem))


def due(instance: Instance) -> bool:
    details = instance.details
    return instance.phase == "running" and not details.get("booted") and instance.ssh_from < FOREVER
