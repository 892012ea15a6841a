"""Real processes of gpubroker, their surroundings, and waiting for them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .stores import Postgresql, Sqlite

ROOT = Path(__file__).resolve().parent.parent
SECRET_KEY = "only-for-tests-" + "0123456789abcdefghij" * 3
ENCRYPTION_KEY = "b25seS1mb3ItdGVzdHMtMDEyMzQ1Njc4OTAxMjM0NTY="
PATIENCE = 120.0  # seconds
OURS = ("GPUBROKER_", "VASTAI_", "VAST_", "TENSORDOCK_", "DEPLOYMENT_ID", "DATABASE_URL")
FIRST_STEPS = """
import django
from django.core.management import call_command

django.setup()
call_command("migrate", verbosity=0)
call_command("collectstatic", verbosity=0, interactive=False)
call_command("signin_link")
"""


def until(what: str, condition: Callable[[], object], seconds: float = PATIENCE) -> object:
    """The first truthy value; AssertionError with the last value when there is none in time."""
    end, pause = time.monotonic() + seconds, 0.05
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last: {value!r})")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    return value


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    below = [int(child) for child in text.split()]
    return below + [each for child in below for each in descendants(child)]


@dataclass
class Part:
    """One process that the world started, in a session of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def pids(self) -> list[int]:
        return [self.pid, *descendants(self.pid)]

    def kill(self) -> None:
        """SIGKILL to all of it at one moment, as when the power fails."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Template:
    """A migrated database with an administrator, static files, and her one-time link's path."""

    data: Path
    signin: str
    store: Sqlite | Postgresql


def make_template(directory: Path, store: Postgresql | None = None) -> Template:
    """In that store, or in a file."""
    data = directory / "data"
    environment = surroundings(data, store.environment if store else {})
    done = subprocess.run(
        [sys.executable, "-c", FIRST_STEPS],
        env=environment, cwd=directory, check=True, timeout=PATIENCE, stdout=subprocess.PIPE,
    )  # fmt: skip
    signin = re.search(rb"https?://[^/]+(/\S+)", done.stdout)
    assert signin
    return Template(data, signin[1].decode(), store or Sqlite(data))


def surroundings(data: Path, extra: dict[str, str]) -> dict[str, str]:
    """The environment of a process: nothing of the developer's, our fixed secrets."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return clean | {
        "DJANGO_SETTINGS_MODULE": "gpubroker.settings",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "GPUBROKER_DATA_DIR": str(data),
        "GPUBROKER_SECRET_KEY": SECRET_KEY,
        "GPUBROKER_ENCRYPTION_KEY": ENCRYPTION_KEY,
        "GPUBROKER_LAUNCHES_PER_MINUTE": "100000",  # tests launch in bulk
        "GPUBROKER_LAUNCHES_PER_HOUR": "100000",
        "GPUBROKER_KEY_DOWNLOADS_PER_HOUR": "100000",
        **extra,
    }
