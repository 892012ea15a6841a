"""The process: one event loop with the marketplaces, the control port and all SSH servers."""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from . import tensordock, vastai
from .cloud_init import Machines
from .control import Control
from .faults import FaultBook
from .first_boots import FirstBoots
from .onstart import Starts
from .rates import Rates
from .ssh_server import Farm
from .store import Record, Store
from .tensordock_switches import turned
from .wire import Dialect, Gateway, WireLog
from .world import World

Application = Callable[[Gateway], web.Application]

TICK_SECONDS = 0.05
ACCOUNTS = {"simulated-key-owner": "4711", "simulated-key-other": "4712"}


@dataclass(frozen=True, kw_only=True)
class Options:
    data_dir: Path
    control_port: int = 9900
    vastai_port: int = 9901
    tensordock_port: int | None = None  # None = not served
    host: str = "127.0.0.1"
    clock: float = 1.0
    seed: int = 1
    steady_market: bool = False
    true_stock: bool = False
    ssh_key_installs: bool = False
    account: Sequence[str] = ()  # "key=number"
    machines: int | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, required=True, help="keeps the world")
    parser.add_argument("--control-port", type=int, default=9900, help="default 9900, 0 = any")
    parser.add_argument("--vastai-port", type=int, default=9901, help="default 9901, 0 = any")
    parser.add_argument("--tensordock-port", type=int, help="0 = any; not served without")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--clock", type=float, default=1.0, help="1 to 100, default 1: how much faster time passes"
    )
    parser.add_argument("--seed", type=int, default=1, help="of stock and chance, default 1")
    parser.add_argument("--steady-market", action="store_true", help="prices and offers stay")
    parser.add_argument(
        "--true-stock", action="store_true", help="all that TensorDock lists is really there"
    )
    parser.add_argument(
        "--ssh-key-installs", action="store_true", help="TensorDock's ssh_key alone lets user in"
    )
    parser.add_argument(
        "--machines", type=int, help="at most so many at each marketplace; default: all"
    )
    parser.add_argument(
        "--account",
        action="append",
        default=[],
        metavar="KEY=NUMBER",
        help="the account of an API key, such as secret=1001; may be repeated",
    )


def options_of(values: dict[str, object]) -> Options:
    """Raises ValueError for a clock or an account that makes no sense."""
    names = Options.__dataclass_fields__
    known = {name: value for name, value in values.items() if name in names}
    options = Options(**known)  # type: ignore[arg-type]
    if not 1 <= options.clock <= 100:
        raise ValueError("--clock must be between 1 and 100")
    accounts_of(options.account)
    return options


def accounts_of(pairs: Sequence[str]) -> dict[str, str]:
    accounts = dict(pair.split("=", 1) for pair in pairs) or ACCOUNTS
    if not all(number.isdigit() for number in accounts.values()):
        raise ValueError("--account takes KEY=NUMBER")
    return accounts


async def start(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, f"http://{host}:{runner.addresses[0][1]}"


async def pass_time(world: World, farm: Farm, boots: FirstBoots, starts: Starts) -> None:
    """Instances live on, SSH servers come and go, accounts run dry."""
    broke_at = 0.0
    while True:
        now = time.time()
        world.tick(now)
        boots.sync(world, now)
        starts.sync(world)
        await farm.sync(world, now)
        if now >= broke_at:
            world.stop_the_broke(now)
            broke_at = now + 1
        await asyncio.sleep(TICK_SECONDS)


async def run(options: Options) -> None:
    os.umask(0o022)  # first boots run as another account, which must be able to read their root
    allow_many_files()
    store = Store(options.data_dir)
    machines = Machines(options.data_dir / "machines")
    farm = Farm(options.host, machines)
    world = World(
        store, clock=options.clock, seed=options.seed, accounts=accounts_of(options.account),
        now=time.time(), reserve_port=farm.reserve, steady=options.steady_market, host=options.host,
        most=options.machines,
    )  # fmt: skip
    log = WireLog(options.data_dir)
    world.switches = switches_of(options)
    markets = served(world, options)
    names: dict[str, str] = {}
    for dialect, _, _ in markets:
        world.stock(dialect.provider)
        names |= {
            name: text
            for name, (_, text) in (*dialect.replies.items(), *dialect.amendments.items())
        }
    book = FaultBook(store, options.clock, names)
    boots = FirstBoots(machines)
    world.tick(time.time())
    await farm.sync(world, time.time())
    control = Control(world, book, log).application()
    runners = {"control": await start(control, options.host, options.control_port)}
    for dialect, application, port in markets:
        rates = Rates(options.clock)
        gateway = Gateway(world=world, dialect=dialect, book=book, log=log, rates=rates)
        runners[dialect.provider] = await start(application(gateway), options.host, port)
    urls = {name: url for name, (_, url) in runners.items()} | {"nonce": world.meta["nonce"]}
    print(f"simulator ready: {json.dumps(urls)}", flush=True)  # noqa: T201
    starts = Starts(machines, runners["vastai"][1])
    await until_told_to_stop(pass_time(world, farm, boots, starts))
    farm.close()
    await boots.close()
    await starts.close()
    for runner, _ in runners.values():
        await runner.cleanup()
    store.close()


def switches_of(options: Options) -> Record:
    wanted: Record = {
        "true_stock": options.true_stock, "ssh_key_installs": options.ssh_key_installs
    }  # fmt: skip
    return turned({}, wanted)


def served(world: World, options: Options) -> list[tuple[Dialect, Application, int]]:
    markets: list[tuple[Dialect, Application, int]] = [
        (vastai.Vastai(world), vastai.application, options.vastai_port)
    ]
    if options.tensordock_port is not None:
        dock = tensordock.TensorDock(world)
        markets.append((dock, tensordock.application, options.tensordock_port))
    return markets


async def until_told_to_stop(work: Coroutine[None, None, None]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def allow_many_files() -> None:
    """Every instance holds a socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m providers.simulator", description=__doc__)
    add_arguments(parser)
    values = vars(parser.parse_args(arguments))
    try:
        asyncio.run(run(options_of(values)))
    except ValueError as problem:
        sys.exit(f"simulator: {problem}")
