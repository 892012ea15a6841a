"""A marketplace for contract tests: the simulator as a process of its own, and its control port."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

CLOCK = 100
READY = "simulator ready: "
T = TypeVar("T")


@dataclass(frozen=True)
class Simulated:
    """Where the simulator listens, and what its witness saw."""

    urls: dict[str, str]
    provider: str

    @property
    def url(self) -> str:
        return self.urls[self.provider]

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.urls["control"] + path, data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def fault(self, operation: str, fault: str, **more: object) -> None:
        posted = {"provider": self.provider, "operation": operation, "fault": fault}
        self.ask("POST", "/faults", posted | more)

    def lift_faults(self) -> None:
        self.ask("DELETE", "/faults")

    def seed(self, **body: object) -> str:
        return self.ask("POST", "/instances", {"provider": self.provider} | body)["instance_id"]

    def alive(self) -> list[dict[str, Any]]:
        found = self.ask("GET", "/instances")["instances"]
        return [i for i in found if i["provider"] == self.provider and i["gone_at"] is None]

    def clear(self) -> None:
        for instance in self.alive():
            self.ask("DELETE", f"/instances/{instance['instance_id']}")

    def wire(self, operation: str, label: str) -> list[dict[str, Any]]:
        found = self.ask("GET", "/wire?since=0")["requests"]
        return [r for r in found if r["operation"] == operation and r["label"] == label]


@contextmanager
def simulator(provider: str, data_dir: Path) -> Iterator[Simulated]:
    command = [sys.executable, "-m", "providers.simulator", "--data-dir", str(data_dir)]
    command += ["--control-port", "0", "--vastai-port", "0", "--tensordock-port", "0"]
    command += ["--clock", str(CLOCK), "--steady-market", "--true-stock"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Simulated(_ready(process), provider)
    finally:
        process.terminate()
        process.wait(30)


def _ready(process: "subprocess.Popen[str]") -> dict[str, str]:
    killer = threading.Timer(60, process.kill)  # reading has no time-out of its own
    killer.start()
    try:
        line = process.stdout.readline()
    finally:
        killer.cancel()
    assert line.startswith(READY), f"the simulator said {line!r}"
    return json.loads(line.removeprefix(READY))


def eventually(look: Callable[[], T | None], seconds: float = 60) -> T:
    """What `look` finds, asked again at a pace that the marketplace allows."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        pause()
    raise AssertionError("did not happen in time")


def pause() -> None:
    """More than the longest interval of the rate limits on this clock."""
    time.sleep(6 / CLOCK)
