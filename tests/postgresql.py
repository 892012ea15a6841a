"""A private PostgreSQL cluster on a free port, made and thrown away by whoever needs one."""

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import psycopg
from psycopg import sql

from .ports import free_ports, release

CARELESS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"


def programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    here = shutil.which("initdb")
    assert found or here, "this needs PostgreSQL (Debian: apt-get install postgresql)"
    return found[-1].parent if found else Path(here or "").parent


def run(command: list[str], directory: Path) -> None:
    """As an ordinary account: PostgreSQL refuses to run as root."""
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


class Cluster:
    """Use as a context manager; it runs inside the block.

    It may forget all in a crash: what is killed here are its clients, the server itself never dies.
    """

    def __init__(self, connections: int = 100) -> None:
        self.connections = connections
        self.port = 0
        self.making = threading.Lock()

    def __enter__(self) -> "Cluster":
        self.directory = Path(tempfile.mkdtemp(prefix="gpubroker-pg-"))
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self.tools, self.data = programs(), str(self.directory / "data")
        made = [f"{self.tools}/initdb", "-D", self.data, "-A", "trust", "-U", "tester", "-N"]
        run([*made, "-E", "UTF8", "--locale=C"], self.directory)
        self.start()
        return self

    def start(self) -> None:
        [self.port] = free_ports(1)
        settings = f"-c max_connections={self.connections} {CARELESS}"
        options = f"-p {self.port} -h 127.0.0.1 -k {self.directory} {settings}"
        log = str(self.directory / "log")
        command = [f"{self.tools}/pg_ctl", "-D", self.data, "-o", options, "-l", log]
        run([*command, "-w", "-t", "110", "start"], self.directory)

    def __exit__(self, *exception: object) -> None:
        command = [f"{self.tools}/pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop"]
        run(command, self.directory)
        release([self.port])
        shutil.rmtree(self.directory)

    def url(self, name: str = "postgres") -> str:
        return f"postgres://tester@127.0.0.1:{self.port}/{name}"

    def create(self, name: str, template: str = "template0") -> str:
        """A new database, its address. One at a time: a template must have no other user."""
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self.making:
            self.tell(make.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop(self, name: str) -> None:
        self.tell(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def tell(self, words: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(words)
