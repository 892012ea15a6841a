"""A real SSH server for every instance, on its own port of the loopback."""

import asyncio
import errno
import socket
import sys
import time
from random import SystemRandom

import asyncssh

from .cloud_init import Machines
from .instances import Instance
from .shell import Shell
from .stock import Machine
from .world import World

PORTS = range(20_000, 32_000)  # below the ports that the kernel hands out by itself
BANNER = "Welcome. This machine is simulated; nothing here costs money.\r\n"


def key_data(text: str) -> bytes | None:
    """The key itself, without comment; None when it is no public key."""
    try:
        return asyncssh.import_public_key(text).public_data
    except (asyncssh.KeyImportError, ValueError):
        return None


def bind(host: str, port: int, *, again: bool) -> socket.socket:
    """Bound and not listening: connections are refused, and nobody else gets the port.

    The first time only a port that nobody has is good; later our own old connections may linger,
    which the kernel forgives when both the old and the new socket say so.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, again)
        sock.bind((host, port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
    except OSError:
        sock.close()
        raise
    return sock


class Guard(asyncssh.SSHServer):
    """Lets in who has a key that is installed now."""

    def __init__(self, door: "Door") -> None:
        self.door = door

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.conn = conn
        self.door.guests.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.guests.discard(self.conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        lines = self.door.instance.key_lines(time.time(), username)
        return key.public_data in [key_data(line) for line in lines]


class Door:
    """One port: closed, open, or mute."""

    def __init__(
        self,
        instance: Instance,
        machine: Machine,
        sock: socket.socket,
        host: str,
        machines: Machines,
    ) -> None:
        self.instance = instance
        self.machine = machine
        self.machines = machines
        self.host = host
        self.sock: socket.socket | None = sock
        self.server: asyncssh.SSHAcceptor | asyncio.Server | None = None
        self.mode = "closed"
        self.host_key = ""
        self.guests: set[asyncssh.SSHServerConnection] = set()

    async def turn(self, mode: str) -> None:
        if self.server is not None:
            self.close()
        if mode != "closed":
            sock = self.sock or bind(self.host, self.instance.ssh_port, again=True)
            self.sock = None
            self.server = await (self.open(sock) if mode == "open" else self.mute(sock))
        elif self.sock is None:
            self.sock = bind(self.host, self.instance.ssh_port, again=True)
        self.mode, self.host_key = mode, self.instance.host_key

    async def open(self, sock: socket.socket) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            sock=sock,
            server_host_keys=[asyncssh.import_private_key(self.instance.host_key)],
            server_factory=lambda: Guard(self),
            process_factory=self.serve,
            server_version="OpenSSH_8.9p1 Ubuntu-3ubuntu0.10",
            login_timeout=30,
        )

    async def mute(self, sock: socket.socket) -> asyncio.Server:
        async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        return await asyncio.start_server(silence, sock=sock)

    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        user = str(process.get_extra_info("username"))
        shell = Shell(self.instance, self.machine, self.machines, user)
        try:
            if process.command is not None:
                status = await answer(process, shell, process.command)
            else:
                status = await converse(process, shell)
            process.exit(status)
        except (asyncssh.Error, OSError):
            process.close()

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
        for guest in list(self.guests):
            guest.abort()
        if self.sock is not None:
            self.sock.close()
            self.sock = None


async def answer(process: asyncssh.SSHServerProcess[str], shell: Shell, line: str) -> int:
    status, out, err = await asyncio.to_thread(shell.run, line)
    process.stdout.write(out)
    process.stderr.write(err)
    return status


async def converse(process: asyncssh.SSHServerProcess[str], shell: Shell) -> int:
    """An interactive shell until exit or the end of input."""
    process.stdout.write(BANNER if process.term_type else "")
    status = 0
    while not shell.exited:
        process.stdout.write(shell.prompt if process.term_type else "")
        try:
            line = await process.stdin.readline()
        except asyncssh.BreakReceived:
            process.stdout.write("^C\n")
            continue
        except (asyncssh.TerminalSizeChanged, asyncssh.SignalReceived):
            continue
        if not line:
            break
        if line.strip():
            status = await answer(process, shell, line.strip())
    return status


class Farm:
    """All doors. `reserve` before the instance exists, `sync` whenever time has passed."""

    def __init__(self, host: str, machines: Machines) -> None:
        self.host = host
        self.machines = machines
        self.held: dict[int, socket.socket] = {}
        self.doors: dict[tuple[str, str], Door] = {}
        self.random = SystemRandom()

    def reserve(self) -> int:
        start = self.random.randrange(len(PORTS))
        for port in (*PORTS[start:], *PORTS[:start]):
            try:
                self.held[port] = bind(self.host, port, again=False)
            except OSError as problem:
                if problem.errno != errno.EADDRINUSE:
                    raise
                continue
            return port
        raise RuntimeError("no free port for an SSH server")

    async def sync(self, world: World, now: float) -> None:
        for instance in world.alive():
            key = (instance.provider, instance.instance_id)
            if key not in self.doors and not self.add(world, key, instance):
                continue
            door, mode = self.doors[key], instance.ssh_mode(now)
            if door.mode != mode or (mode == "open" and door.host_key != instance.host_key):
                await self.turn(door, mode)
        for key in [key for key, door in self.doors.items() if not door.instance.alive]:
            self.doors.pop(key).close()

    def add(self, world: World, key: tuple[str, str], instance: Instance) -> bool:
        try:
            sock = self.held.pop(instance.ssh_port, None)
            sock = sock or bind(self.host, instance.ssh_port, again=True)
        except OSError as problem:
            complain(instance, problem)
            return False
        machine = world.machine(instance)
        self.doors[key] = Door(instance, machine, sock, self.host, self.machines)
        return True

    async def turn(self, door: Door, mode: str) -> None:
        try:
            await door.turn(mode)
        except OSError as problem:  # tried again at the next sync
            complain(door.instance, problem)

    def close(self) -> None:
        for door in self.doors.values():
            door.close()


def complain(instance: Instance, problem: OSError) -> None:
    print(f"ssh of {instance.instance_id}: {problem}", file=sys.stderr, flush=True)  # noqa: T201
