"""Real processes on a data directory of their own, seen from outside: /proc and the database."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django_q.signing import SignedPackage

from gpubroker.supervise import child_environment

PATIENCE = 120  # seconds: deadlines for a busy machine, not expectations


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> object:
    """The first truthy value, or a failure that says what never happened."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s: {what}")


class Machine:
    """A data directory, its database, and what runs on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = child_environment(
            {
                "GPUBROKER_DATA_DIR": str(directory / "data"),
                "GPUBROKER_SECRET_KEY": settings.SECRET_KEY,
                "DATABASE_URL": "",
            }
        )

    def django(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "django", *arguments]
        subprocess.run(command, env=self.environment, cwd=self.directory, check=True, timeout=120)

    def query(self, sql: str, *values: object) -> list[tuple]:
        path = self.directory / "data" / "gpubroker.sqlite3"
        connection = sqlite3.connect(path, timeout=20, isolation_level=None)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def enqueue(self, function: str, *arguments: object) -> None:
        task = {
            "id": os.urandom(16).hex(),
            "name": "probe",
            "func": function,
            "args": arguments,
            "kwargs": {},
            "started": datetime.now(UTC),
            "save": False,
            "ack_failure": True,
        }
        due = datetime.now(UTC) - timedelta(seconds=1)
        self.query(
            "INSERT INTO django_q_ormq (key, payload, lock) VALUES ('gpubroker', ?, ?)",
            SignedPackage.dumps(task),
            due.strftime("%Y-%m-%d %H:%M:%S.%f"),
        )

    def works(self, name: str) -> None:
        """A new task runs and is acknowledged: pusher, a worker and the monitor live."""
        path = self.directory / name
        self.enqueue("tests.engine.probe.touch", str(path))
        until(path.exists, f"task {name} runs")
        until(lambda: not self.query("SELECT 1 FROM django_q_ormq"), f"task {name} is acknowledged")


def children(pid: int) -> list[int]:
    """Oldest first."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in text.split()]


def descendants(pid: int) -> list[int]:
    below = children(pid)
    return below + [each for child in below for each in descendants(child)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
