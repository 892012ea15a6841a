"""A real OpenSSH server, and peers that are none."""

import getpass
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.contrib.auth.models import AbstractUser

from sessions import identity, keys
from tests.factories import make_user
from tests.sessions.market_double import World

NVIDIA_SMI = """\
#!/bin/sh
case "$1" in
--query-gpu=name,memory.total,driver_version,utilization.gpu,memory.used) cat {rows} ;;
*) cat {table} ;;
esac
exit $(cat {status})
"""
TABLE = "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8     |\n"
CONFIG = """\
HostKey {directory}/{host_key}
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
SetEnv PATH={directory}/bin:/usr/bin:/bin
"""


class Peer:
    """A port on this machine; `serve` gets each connection in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.serve = serve
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # closed at the end of the test
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the client has hung up
            self.serve(connection)

    def close(self) -> None:
        with suppress(OSError):  # wakes the accepting thread; close() alone does not
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@dataclass
class SSHServer:
    """OpenSSH's sshd, one process a connection, so that no port can be taken by another."""

    directory: Path
    program: str
    key: keys.KeyPair = field(default_factory=keys.generate)
    processes: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.user = getpass.getuser()
        for name in ("host", "other"):
            pair = keys.generate()
            self.write(name, pair.private_pem, 0o600)
            self.write(f"{name}.pub", pair.public_line)
        self.write("authorized_keys", self.key.public_line + "\n")
        (self.directory / "bin").mkdir()
        names = {name: self.directory / name for name in ("rows", "table", "status")}
        self.command(NVIDIA_SMI.format(**names))
        self.machine("NVIDIA GeForce RTX 4090, 24564, 570.86.15, 0, 1\n")
        self.configure()
        self.peer = Peer(self._serve)
        self.port = self.peer.port

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        (self.directory / name).write_text(text)
        (self.directory / name).chmod(mode)

    def configure(self, extra: str = "", host_key: str = "host") -> None:
        base = CONFIG.format(directory=self.directory, host_key=host_key)
        self.write("config", base + extra)

    def command(self, script: str) -> None:
        """What nvidia-smi is on this machine."""
        self.write("bin/nvidia-smi", script, 0o755)

    def machine(self, rows: str, table: str = TABLE, status: int = 0) -> None:
        """What it prints."""
        for name, text in (("rows", rows), ("table", table), ("status", str(status))):
            self.write(name, text)

    def host_key(self, name: str = "host") -> str:
        return (self.directory / f"{name}.pub").read_text()

    def _serve(self, connection: socket.socket) -> None:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [self.program, "-i", "-e", "-f", str(self.directory / "config")],
                stdin=connection,
                stdout=connection,
                stderr=log,
            )
        self.processes.append(process)
        connection.close()
        process.wait()

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def close(self) -> None:
        self.peer.close()
        for process in self.processes:
            process.terminate()
            process.wait()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SSHServer]:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program, "these tests need OpenSSH's sshd (Debian: apt-get install openssh-server)"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it when it is root
    server = SSHServer(tmp_path, program)
    yield server
    server.close()


@pytest.fixture
def peer() -> Iterator[Callable[..., int]]:
    """peer(serve) -> port of somebody who answers in `serve`'s way."""
    peers = []

    def start(serve: Callable[[socket.socket], None]) -> int:
        peers.append(Peer(serve))
        return peers[-1].port

    yield start
    for one in peers:
        one.close()


@pytest.fixture
def world(db, monkeypatch) -> World:
    """A marketplace in memory, and gpubroker with an identity."""
    identity.ensure()
    return World().install(monkeypatch)


@pytest.fixture
def owner(db) -> AbstractUser:
    return make_user()
