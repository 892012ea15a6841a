"""Runs the start script of every Vast.ai machine, each time its container starts.

The script gets a private root (see cloud_init and jail) that stays while the machine lives, and
what Vast.ai gives every container: its number and a key that is good for this machine alone.
What it leaves in the background lives on until the container stops. Nothing in there has a
network; `curl` is a stand-in that has the simulator ask its own marketplace over real HTTP.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

import aiohttp

from .cloud_init import JAIL, LOWEST_UID, UIDS, Machines, give_away, link, make_home
from .instances import Instance
from .jail import LINE, STAY
from .world import World

AT_A_TIME = 2
SCRIPT = "root/onstart.sh"
COMMAND_SECONDS = 10
LONGEST_ASK = 65_536
UNFINISHED = "-new"
UNKNOWN_OPTION, NO_CONNECTION, HTTP_ERROR = 2, 7, 22  # curl's exit statuses
CURL = """\
#!/bin/sh
until mkdir /tmp/.curl; do sleep 0.05; done 2>/dev/null
{ printf '%s\\n' "$@"; echo; } >&9
read -r status <&9; read -r body <&9
rmdir /tmp/.curl
printf '%s' "$body"
exit $status
"""
WITH_VALUE = {
    "-X": "method", "--request": "method", "-H": "header", "--header": "header",
    "-d": "data", "--data": "data", "-m": "seconds",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a call of curl means, as far as it is understood."""

    method: str
    url: str
    headers: dict[str, str]
    data: str
    fails: bool  # -f: an error of the marketplace is an exit status


@dataclass(kw_only=True)
class Container:
    """One start of a machine: its processes, and the line over which its curl asks."""

    process: subprocess.Popen[bytes]
    talk: asyncio.Task[None]

    def end(self) -> None:
        self.talk.cancel()
        self.process.terminate()
        self.process.wait()


class Starts:
    def __init__(self, machines: Machines, base_url: str) -> None:
        """`base_url`: of the marketplace, the only place that can be reached."""
        self.machines = machines
        self.base_url = base_url
        self.running: dict[str, Container] = {}
        self.preparing: dict[str, asyncio.Task[None]] = {}
        self.places = asyncio.Semaphore(AT_A_TIME)

    def sync(self, world: World) -> None:
        """Call it whenever time has passed."""
        up = {item.instance_id: item for item in world.alive() if starts(item)}
        for name in [name for name in self.running if name not in up]:
            self.running.pop(name).end()
        for name in [name for name, task in self.preparing.items() if task.done()]:
            self.preparing.pop(name).result()
        for name, instance in up.items():
            if name not in self.running and name not in self.preparing:
                self.preparing[name] = asyncio.ensure_future(self.start(instance))

    async def start(self, instance: Instance) -> None:
        async with self.places:
            works = await asyncio.to_thread(prepare, self.machines, instance)
        if works and instance.alive and starts(instance):
            self.running[instance.instance_id] = await self.launch(instance)

    async def launch(self, instance: Instance) -> Container:
        """In the simulator's main thread: the jail dies with the thread that started it."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [*jail(self.machines, f"/{SCRIPT}", instance), STAY], stdin=theirs,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=given(instance),
                start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LONGEST_ASK)
        return Container(process=process, talk=asyncio.ensure_future(self.talk(reader, writer)))

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the last process of the container is gone, or says what cannot be understood."""
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            while True:
                words = await reader.readuntil(b"\n\n")
                ask = understood(words.decode(errors="replace").splitlines()[:-1])
                status, body = await self.answer(ask) if ask else (UNKNOWN_OPTION, "")
                writer.write(f"{status}\n{' '.join(body.splitlines())}\n".encode())
                await writer.drain()
        writer.close()

    async def answer(self, ask: Ask) -> tuple[int, str]:
        try:
            asked = urlsplit(ask.url)
            if asked.port != urlsplit(self.base_url).port:  # under whatever name it is known
                return NO_CONNECTION, ""
        except ValueError:
            return NO_CONNECTION, ""
        try:
            url = f"{self.base_url}{asked.path}"
            async with aiohttp.ClientSession() as client, client.request(
                ask.method, url, headers=ask.headers, data=ask.data or None
            ) as answer:  # fmt: skip
                body = await answer.text()
                return HTTP_ERROR if ask.fails and answer.status >= 400 else 0, body
        except aiohttp.ClientError:
            return NO_CONNECTION, ""

    async def close(self) -> None:
        await asyncio.gather(*self.preparing.values(), return_exceptions=True)
        for container in self.running.values():
            container.end()


def starts(instance: Instance) -> bool:
    return instance.phase == "running" and bool(instance.details.get("onstart"))


def prepare(machines: Machines, instance: Instance) -> bool:
    """Its root, as the container before left it. False where nothing can be run.

    Written once, before anything has run in there: later its links may lead anywhere.
    """
    if not machines.works:
        return False
    root = machines.root(instance.instance_id)
    if root.exists():
        return True
    fresh = machines.root(f"{instance.instance_id}{UNFINISHED}")
    try:
        furnish(machines, fresh, instance)
        fresh.rename(root)
    except OSError as problem:  # the disk is full, or the machine was destroyed meanwhile
        print(f"onstart of {instance.instance_id}: {problem}", file=sys.stderr, flush=True)  # noqa: T201
        return False
    return True


def furnish(machines: Machines, root: Path, instance: Instance) -> None:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(machines.base, root, symlinks=True, copy_function=link)
    make_home(root)
    for name, text in (("usr/bin/curl", CURL), (SCRIPT, str(instance.details["onstart"]))):
        (root / name).write_text(text, errors="surrogatepass")
        (root / name).chmod(0o755)
    if os.geteuid() == 0:
        give_away(root, uid(instance))


def given(instance: Instance) -> dict[str, str]:
    """What Vast.ai puts into the environment of every container."""
    number = instance.instance_id
    return {
        "CONTAINER_ID": number,
        "CONTAINER_API_KEY": str(instance.details.get("api_key", "")),
        "VAST_CONTAINERLABEL": f"C.{number}",
    }


def run(machines: Machines, instance: Instance, text: str) -> tuple[int, str, str]:
    """`sh -c TEXT` beside the start script, as somebody who has logged in. Blocks."""
    if not machines.root(instance.instance_id).exists():
        return 127, "", "bash: sh: command not found\n"
    command = [*jail(machines, text, instance), LINE]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env={}, text=True,
            errors="replace", timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, "", ""
    return done.returncode, done.stdout, done.stderr


def jail(machines: Machines, script: str, instance: Instance) -> list[str]:
    root = machines.root(instance.instance_id).absolute()
    return [sys.executable, "-I", "-S", str(JAIL), str(root), script, str(uid(instance))]


def uid(instance: Instance) -> int:
    return LOWEST_UID + crc32(instance.instance_id.encode()) % UIDS


def understood(words: list[str]) -> Ask | None:
    found: dict[str, list[str]] = {"method": [], "header": [], "data": [], "url": []}
    fails, rest = False, iter(words)
    for word in rest:
        if word in WITH_VALUE:
            found.setdefault(WITH_VALUE[word], []).append(next(rest, ""))
        elif word.startswith("--"):
            return None
        elif word.startswith("-"):  # letters together: -fsSm 60
            fails = fails or "f" in word
            if word.endswith("m"):
                next(rest, "")
        else:
            found["url"].append(word)
    if len(found["url"]) != 1:
        return None
    return Ask(
        method=(found["method"] or ["POST" if found["data"] else "GET"])[-1],
        url=found["url"][0],
        headers=dict(header.split(": ", 1) for header in found["header"] if ": " in header),
        data="&".join(found["data"]),
        fails=fails,
    )
