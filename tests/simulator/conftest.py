"""One simulator for all these tests, as a process, over real HTTP."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TextIO

import asyncssh
import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
OWNER = "simulated-key-owner"
OTHER = "simulated-key-other"
PATIENCE = 60.0  # seconds until a test gives up waiting
Json = dict


def wait_for(look: Callable[[], object], what: str = "it") -> object:
    """The first true answer of look(); fails when none comes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE} s for {what}")


@dataclass
class Simulator:
    data_dir: Path
    arguments: tuple[str, ...] = ("--clock", "50", "--steady-market", "--true-stock")
    errors: TextIO | None = None  # where it writes what went wrong; None = as these tests do
    process: subprocess.Popen | None = None
    control: str = ""
    vastai: str = ""
    tensordock: str = ""
    nonce: str = ""
    numbers: count = field(default_factory=count)

    def start(self, command: tuple[str, ...] = ("-m", "providers.simulator")) -> None:
        control = self.control.rpartition(":")[2] or "0"
        market = self.vastai.rpartition(":")[2] or "0"
        dock = self.tensordock.rpartition(":")[2] or "0"
        ports = ("--control-port", control, "--vastai-port", market, "--tensordock-port", dock)
        line = [sys.executable, *command, *ports, "--data-dir", str(self.data_dir), *self.arguments]
        self.process = subprocess.Popen(
            line, cwd=ROOT, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        facts = json.loads(self.ready_line().removeprefix("simulator ready: "))
        self.control, self.nonce = facts["control"], facts["nonce"]
        self.vastai, self.tensordock = facts["vastai"], facts["tensordock"]

    def ready_line(self) -> str:
        assert self.process is not None and self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if readable else ""
        assert line.startswith("simulator ready: "), line
        return line

    def end(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None and self.process.stdout is not None
        os.kill(self.process.pid, number)
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    # -- the marketplace, polite towards its rate limits

    def call(
        self, method: str, path: str, body: object = None, *, key: str = OWNER, timeout: float = 30
    ) -> requests.Response:
        """Repeats while it is told that it calls too often."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}

        def look() -> requests.Response | None:
            answer = requests.request(
                method, self.vastai + path, json=body, headers=headers, timeout=timeout
            )
            return answer if answer.status_code != 429 else Wrapped

        deadline = time.monotonic() + PATIENCE
        while (answer := look()) is Wrapped:
            assert time.monotonic() < deadline, "told for a minute that we call too often"
            time.sleep(0.02)
        return answer

    def search(self, **query: object) -> list[Json]:
        answer = self.call("POST", "/api/v0/bundles/", query)
        assert answer.status_code == 200, answer.text
        return answer.json()["offers"]

    def label(self) -> str:
        return f"test-{next(self.numbers)}"

    def create(self, offer_id: int | None = None, **body: object) -> requests.Response:
        """Of the cheapest single GPU where nothing else is asked."""
        offer_id = (
            offer_id or self.search(num_gpus={"eq": 1}, order=[["dph_total", "asc"]])[0]["id"]
        )
        spec = {"image": "example/image:1", "disk": 10, "label": self.label()} | body
        return self.call("PUT", f"/api/v0/asks/{offer_id}/", spec)

    def rent(self, **body: object) -> Json:
        """{"id", "label"} of a new instance."""
        label = str(body.pop("label", "") or self.label())
        answer = self.create(label=label, **body)
        assert answer.json()["success"], answer.text
        return {"id": answer.json()["new_contract"], "label": label}

    def read(self, instance_id: int) -> Json | None:
        return self.call("GET", f"/api/v0/instances/{instance_id}/").json()["instances"]

    def listing(self, **query: object) -> Json:
        parts = [f"{name}={requests.utils.quote(str(value))}" for name, value in query.items()]
        return self.call("GET", f"/api/v1/instances/?{'&'.join(parts)}").json()

    def running(self, instance_id: int) -> Json:
        def look() -> Json | None:
            found = self.read(instance_id)
            return found if found and found["actual_status"] == "running" else None

        return wait_for(look, f"{instance_id} running")

    def destroy(self, instance_id: int) -> requests.Response:
        return self.call("DELETE", f"/api/v0/instances/{instance_id}/", {})

    # -- the control port

    def ask(self, path: str) -> Json:
        return requests.get(self.control + path, timeout=30).json()

    def tell(self, path: str, **body: object) -> Json:
        answer = requests.post(self.control + path, json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, operation: str, fault: str, **body: object) -> int:
        values = {"provider": "vastai", "operation": operation, "fault": fault} | body
        return self.tell("/faults", **values)["id"]

    def truth(self, instance_id: int) -> Json:
        found = self.ask("/instances")["instances"]
        return next(item for item in found if item["instance_id"] == str(instance_id))

    def bill(self, instance_id: int) -> Json:
        lines = self.ask("/ledger")["instances"]
        return next(item for item in lines if item["instance_id"] == str(instance_id))


Wrapped = requests.Response()  # stands for "too often"


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    simulator = Simulator(tmp_path_factory.mktemp("simulator"))
    simulator.start()
    yield simulator
    simulator.end()


@pytest.fixture(scope="session")
def unhurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """Its limits are seconds long, as the marketplace's are: also a busy machine meets them."""
    directory = tmp_path_factory.mktemp("unhurried")
    simulator = Simulator(directory, ("--clock", "1", "--steady-market", "--true-stock"))
    simulator.start()
    yield simulator
    simulator.end()


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """Faults and instances of one test do not reach the next."""
    yield
    if "simulator" in request.fixturenames:
        running: Simulator = request.getfixturevalue("simulator")
        requests.delete(f"{running.control}/faults", timeout=30)
        requests.delete(f"{running.control}/instances", timeout=30)


@pytest.fixture(scope="session")
def key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519", comment="someone@example.org")
