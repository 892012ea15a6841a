"""The whole of gpubroker as real processes, in a directory of its own, on ports of its own.

The simulator, the web server and the worker run as a person would start them; tests look at
them from outside: pages over HTTP, rows through a read-only connection, the simulator's ledger.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import requests

from gpubroker.supervise import die_with_parent

from .invariants import Evidence, check_invariants, find_secrets, instants, with_data
from .ports import free_ports, release
from .processes import PATIENCE, SECRET_KEY, Part, Template, surroundings, until
from .stores import Sqlite, Store

ACCOUNT, OTHER_ACCOUNT = "4711", "4712"
PROVIDERS = ("vastai", "tensordock")
ZOO = {"vastai": "H100 SXM", "tensordock": "h100-sxm5-80gb"}  # GPUs that no test rents
TERMS = {
    "vastai": {"image": "nvidia/cuda:12.4.1-devel-ubuntu22.04", "disk_gb": 16},
    "tensordock": {"image": "ubuntu2404_ml_pytorch", "disk_gb": 100},
}
INSTANTS = (  # columns of sessions and attempts
    "created_at", "sent_at", "answered_at", "resolved_at", "gone_at",
    "ready_at", "ended_at", "expires_at", "destroy_accepted_at", "first_absence_at",
)  # fmt: skip
DEAD_LABEL = "gb1-{}-aaaabbbbccccdddd-1-00000000"


def asked_for(offer_id: str) -> str:
    """The offer as the simulator names it: of TensorDock the place and GPU, whatever the way in."""
    return "/".join(offer_id.split(":")[:2])


class World:
    """Use as a context manager; `start()` brings everything up and waits until it is ready."""

    def __init__(
        self, directory: Path, template: Template | None = None, clock: float = 20
    ) -> None:
        self.directory = directory
        self.template = template
        self.clock = clock
        self.data = directory / "data"
        self.data.mkdir(parents=True)
        self.store: Store = template.store.copy_to(self.data) if template else Sqlite(self.data)
        self.simulated = directory / "simulator"  # where the simulator keeps its world
        self.simulator_options: tuple[str, ...] = ()
        self.parts: dict[str, Part] = {}
        self.starts = 0
        self.api_key = f"canary-{secrets.token_hex(16)}"
        self.tensordock_key = f"canary-{secrets.token_hex(16)}"
        self.ports = free_ports(4)
        self.port, self.vastai_port, self.control_port, self.tensordock_port = self.ports
        self.environment = surroundings(
            self.data,
            {
                "VASTAI_API_KEY": self.api_key,
                "VASTAI_BASE_URL": f"http://127.0.0.1:{self.vastai_port}",
                "GPUBROKER_PORT": str(self.port),
                "GPUBROKER_SIMULATED": "true",
                "GPUBROKER_TIME_SCALE": str(clock),
                **self.store.environment,
            },
        )
        self.http = requests.Session()
        self.http.trust_env = False
        self.zoo: list[str] = []

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # -- processes

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def control(self) -> str:
        return f"http://127.0.0.1:{self.control_port}"

    def run(self, name: str, *command: str) -> Part:
        self.starts += 1
        log = self.directory / f"{name}-{self.starts}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.directory, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # also when the test run itself is killed
            )  # fmt: skip
        self.parts[name] = Part(name, process, log)
        return self.parts[name]

    def django(self, name: str, *arguments: str) -> Part:
        return self.run(name, sys.executable, "-m", "django", *arguments)

    def start_simulator(self) -> None:
        """Nothing moves and nothing is stale by itself: what goes wrong is a fault of the test."""
        module = [sys.executable, "-m", "providers.simulator", "--steady-market", "--true-stock"]
        part = self.run(
            "simulator", *module, f"--clock={self.clock}", f"--data-dir={self.simulated}",
            f"--vastai-port={self.vastai_port}", f"--tensordock-port={self.tensordock_port}",
            f"--control-port={self.control_port}", f"--account={self.tensordock_key}={ACCOUNT}",
            f"--account={self.api_key}={ACCOUNT}", f"--account=other={OTHER_ACCOUNT}",
            *self.simulator_options,
        )  # fmt: skip
        ready = until("the simulator is ready", lambda: re.search(r"ready: (.*)", part.text()))
        assert self.ask("/__sim__")["nonce"] == json.loads(ready[1])["nonce"], "not our simulator"

    def start_web(self) -> None:
        module = [sys.executable, "-m", "daphne", "--bind", "127.0.0.1", "--port", str(self.port)]
        quiet = ["--no-server-name", "--access-log", os.devnull]
        self.run("web", *module, *quiet, "gpubroker.asgi:application")

    def start_worker(self) -> None:
        self.django("worker", "worker")

    def start(self) -> "World":
        """With both marketplaces."""
        self.environment |= {
            "TENSORDOCK_API_TOKEN": self.tensordock_key,
            "TENSORDOCK_BASE_URL": f"http://127.0.0.1:{self.tensordock_port}",
        }
        self.start_simulator()
        if self.template:
            (self.data / "staticfiles").symlink_to(self.template.data / "staticfiles")
        self.start_web()
        self.start_worker()
        self.wait_ready()
        for provider in PROVIDERS:
            until(f"offers of {provider}", lambda name=provider: self.offers(provider=name))
            self.seed_zoo(provider)
        if self.template:
            self.sign_in(self.template.signin)
        return self

    def answers(self, path: str = "/healthz") -> bool:
        try:
            return self.http.get(self.base + path, timeout=10).status_code == 200
        except requests.ConnectionError:
            return False

    def ready(self) -> bool:
        return self.answers("/readyz")

    def wait_ready(self) -> None:
        until("everything is ready", self.ready)

    def kill(self, *names: str) -> None:
        for name in names:
            self.parts[name].kill()

    def stop(self) -> None:
        for part in self.parts.values():
            part.kill()
        release(self.ports)
        self.http.close()

    # -- the marketplace

    def ask(self, path: str) -> dict:
        answer = requests.get(self.control + path, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def tell(self, path: str, **body: object) -> dict:
        answer = requests.post(self.control + path, json=body, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def fault(self, operation: str, fault: str, **more: object) -> int:
        return self.tell("/faults", operation=operation, fault=fault, **more)["id"]

    def spoil(self, offer: dict, fault: str, **more: object) -> int:
        """The next create call for this offer meets the fault."""
        place = asked_for(offer["offer_id"])
        return self.fault("create", fault, provider=offer["provider"], offer_id=place, **more)

    def lift_faults(self) -> None:
        requests.delete(f"{self.control}/faults", timeout=30)

    def ledger(self) -> list[dict]:
        return instants(self.ask("/ledger")["instances"], "created_at", "gone_at")

    def wire(self, since: int = 0) -> list[dict]:
        return instants(self.ask(f"/wire?since={since}")["requests"], "at", "done_at")

    def seed_zoo(self, provider: str) -> None:
        """Machines of others that look as much like ours as they can (safety.md 6.1)."""
        [row] = self.rows("SELECT deployment_id FROM gpu_sessions_deployment")
        ours = DEAD_LABEL.format(row["deployment_id"])
        labels = ["", "training-7", DEAD_LABEL.format("0123456789"), ours, ours[:-1], ours.upper()]
        labels += [f"{ours}\n", f"{ours}\u200b", f" {ours}", f"<b>{ours}</b>"]
        for label in labels:
            self.seed(provider, label)
        self.seed(provider, ours, account=OTHER_ACCOUNT)
        self.seed(provider, "stopped-by-hand", state="stopped")

    def seed(self, provider: str, label: str, **more: object) -> None:
        where = {"provider": provider, "gpu_name": ZOO[provider]}
        self.zoo.append(self.tell("/instances", label=label, **where, **more)["instance_id"])

    # -- rows

    def rows(self, sql: str, *values: object) -> list[dict]:
        return self.store.rows(sql, *values)

    def write(self, sql: str, *values: object) -> None:
        """Only to let time pass: rows are the product's."""
        self.store.write(sql, *values)

    def session(self, pk: str) -> dict:
        [row] = self.rows("SELECT * FROM gpu_sessions_session WHERE id = ?", pk)
        return row

    def attempts(self, pk: str) -> list[dict]:
        return self.rows(
            "SELECT * FROM gpu_sessions_attempt WHERE session_id = ? ORDER BY number", pk
        )

    def audit(self, pk: str) -> list[dict]:
        code = self.session(pk)["code"]
        sql = "SELECT * FROM gpu_sessions_auditevent WHERE session_code = ? ORDER BY sequence"
        return with_data(self.rows(sql, code))

    def states(self) -> dict[str, str]:
        rows = self.rows("SELECT id, state FROM gpu_sessions_session")
        return {row["id"]: row["state"] for row in rows}

    def offers(self, gpu_name: str = "", count: int = 0, provider: str = "vastai") -> list[dict]:
        """Of one GPU each, on different machines (or places and GPUs), cheapest first."""
        rows = self.rows(
            "SELECT * FROM providers_offer WHERE listed AND gpu_count = 1 AND evicted_until IS NULL"
            " AND provider = ? AND (? = '' OR gpu_name = ?)"
            " ORDER BY CAST(base_price_per_hour AS REAL), offer_id",
            provider, gpu_name, gpu_name,
        )  # fmt: skip
        tried = self.rows("SELECT offer_id FROM gpu_sessions_attempt")
        used = {asked_for(row["offer_id"]) for row in tried}
        machines: dict[str, dict] = {}
        for row in rows:
            if (place := asked_for(row["offer_id"])) not in used:
                machines.setdefault(row["machine_id"] or place, row)
        found = list(machines.values())
        assert len(found) >= count, f"only {len(found)} offers"
        return found[:count] if count else found

    # -- what people do

    def sign_in(self, path: str) -> None:
        page = self.http.get(self.base + path, timeout=30)
        assert page.ok, page.status_code
        done = self.post(path)
        assert done.status_code == 302, done.status_code
        assert self.http.get(f"{self.base}/keys/", timeout=30).ok

    def post(self, path: str, **fields: object) -> requests.Response:
        token = self.http.cookies["csrftoken"]
        return self.http.post(
            self.base + path, data={"csrfmiddlewaretoken": token, **fields},
            allow_redirects=False, timeout=60,
        )  # fmt: skip

    def launch(self, offer: dict, **terms: object) -> str:
        """The session's id as it stands in the database."""
        fields = {
            "idempotency_key": str(uuid.uuid4()),
            **TERMS[offer["provider"]],
            "hours": 4,
            "max_price_per_hour": "5",
            "fallback": "gpu",
            "generate_key": "on",
        }
        path = f"/launch/{offer['provider']}/{offer['offer_id']}/"
        answer = self.post(path, **(fields | terms))
        assert answer.status_code == 302, f"{answer.status_code}: {answer.text[-3000:]}"
        return uuid.UUID(answer.headers["Location"].strip("/").split("/")[-1]).hex

    def ask_to_stop(self, pk: str) -> None:
        answer = self.post(f"/sessions/{uuid.UUID(pk)}/stop/")
        assert answer.status_code == 302, answer.status_code

    def page(self, pk: str) -> str:
        return self.http.get(f"{self.base}/sessions/{uuid.UUID(pk)}/", timeout=30).text

    # -- waiting

    def wait_state(self, pk: str, *states: str, seconds: float = PATIENCE) -> dict:
        def there() -> dict | None:
            row = self.session(pk)
            if row["state"] not in states:
                assert row["state"] != "ended", f"{row['reason']}: {row['reason_text']}"
                return None
            return row

        try:
            return until(f"session {pk} {states}", there, seconds)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.story(pk)])) from None

    def story(self, pk: str) -> list[str]:
        return [f"{e['at'][14:23]} {e['action']} {e['reason']} {e['data']}" for e in self.audit(pk)]

    def wait_states(self, pks: Iterable[str], *states: str, seconds: float = PATIENCE) -> None:
        wanted = set(pks)

        def others() -> dict[str, str]:
            return {k: v for k, v in self.states().items() if k in wanted and v not in states}

        until(f"{len(wanted)} sessions {states}: {others()}", lambda: not others(), seconds)

    def stop_all(self, seconds: float = PATIENCE) -> None:
        for pk, state in self.states().items():
            if state not in ("stopping", "ended"):
                self.ask_to_stop(pk)
        self.wait_states(self.states(), "ended", seconds=seconds)

    # -- judgement

    def evidence(self, audit_verdict: str | None = None) -> Evidence:
        """Rows first: what they call gone must be gone in the ledger that is read later."""
        return Evidence(
            sessions=instants(self.rows("SELECT * FROM gpu_sessions_session"), *INSTANTS),
            attempts=instants(self.rows("SELECT * FROM gpu_sessions_attempt"), *INSTANTS),
            audit=instants(
                with_data(self.rows("SELECT * FROM gpu_sessions_auditevent ORDER BY sequence")),
                "at",
            ),
            audit_verdict=self.audit_verdict() if audit_verdict is None else audit_verdict,
            ledger=self.ledger(),
            wire=self.wire(),
        )

    def audit_verdict(self) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "django", "audit_verify", "--skip-checks"],
            env=self.environment, cwd=self.directory, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return "" if done.returncode == 0 else done.stderr[-500:]

    def violations(self) -> list[str]:
        seen = self.evidence()
        gone = {row["instance_id"] for row in seen.ledger if row["gone_at"] is None}
        missing = [f"{pk} of the zoo is missing" for pk in self.zoo if pk not in gone]
        return [
            *check_invariants(seen),
            *missing,
            *find_secrets(self.places(), self.canaries()),
            *self.log_lines("database is locked"),
            *self.log_lines("Traceback"),
        ]

    def canaries(self) -> list[str]:
        """What must never be found: our API key, each instance's own, private keys."""
        world = (self.simulated / "world.jsonl").read_text()
        own = re.findall(r'"(?:api_key|jupyter_token)": "([0-9a-f]{16,})"', world)
        return [
            self.api_key,
            self.tensordock_key,
            "PRIVATE KEY-----",
            SECRET_KEY,
            *sorted(set(own)),
        ]

    def places(self) -> Iterator[tuple[str, bytes]]:
        yield from self.store.contents()
        for path in [*self.directory.glob("*.log"), self.simulated / "wire.jsonl"]:
            yield path.name, path.read_bytes()

    def log_lines(self, needle: str) -> list[str]:
        return [
            f"{path.name}: {line}"
            for path in self.directory.glob("*.log")
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
            if needle in line
        ]

    def tails(self, lines: int = 60) -> str:
        """The ends of all logs, for a failed test."""
        found = []
        for path in sorted(self.directory.glob("*.log")):
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            found.append("\n".join([f"== {path.name}", *text]))
        return "\n".join(found)
