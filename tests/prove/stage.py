"""Worlds that drills can strike: their processes restart differently, their rows are exchanged."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.invariants import MUTATIONS, Evidence, Row, find_secrets, instants, with_data
from tests.postgresql import programs
from tests.processes import Template, until
from tests.stores import Postgresql, Sqlite
from tests.world import PROVIDERS, World

SLICE_BEATS = timedelta(seconds=1.5)  # after the worker has asked for its slices


class Stage(World):
    """A world without the zoo at first, so that other brokers' machines are seen for themselves."""

    def __init__(self, directory: Path, template: Template, clock: float = 20) -> None:
        super().__init__(directory, template, clock)
        self.others: list[str] = []  # beginnings of other brokers' labels
        self.backups: dict[str, Sqlite | Postgresql] = {}

    def seed_zoo(self, provider: str) -> None:
        """Later, see populate()."""

    def populate(self) -> None:
        for provider in PROVIDERS:
            super().seed_zoo(provider)

    def rent(self, offers: Iterable[dict]) -> None:
        """All at once, until they run; what a busy machine did not bring up is rented anew."""
        launched = [(offer, self.launch(offer)) for offer in offers]
        for offer, pk in launched:
            if self.wait_state(pk, "running", "ended")["state"] == "ended":
                print(f"{pk} did not come up: {self.session(pk)['reason']}", flush=True)
                again = self.offers(offer["gpu_name"], 1, offer["provider"])[0]
                self.wait_state(self.launch(again), "running")

    # -- processes

    def restart(self, **environment: str) -> datetime:
        """Web server and worker with another environment -> when that worker was at work."""
        self.kill("web", "worker")
        self.environment |= environment
        return self.come_up()

    def come_up(self) -> datetime:
        since = datetime.now(UTC)
        self.start_web()
        self.start_worker()
        until("the web server answers", self.answers)
        begun = until("the worker begins", lambda: self.beat_since(since))
        return until("it works", lambda: self.slice_since(begun + SLICE_BEATS))

    def slice_since(self, since: datetime) -> datetime | None:
        """How long processes take to start is no simulated time: it is not scaled."""
        rows = instants(self.rows("SELECT beat_at FROM gpu_sessions_slot"), "beat_at")
        return next((r["beat_at"] for r in rows if r["beat_at"] and r["beat_at"] > since), None)

    def beat_since(self, since: datetime) -> datetime | None:
        rows = instants(
            self.rows("SELECT at FROM gpu_sessions_heartbeat WHERE name = 'worker'"), "at"
        )
        return next((row["at"] for row in rows if row["at"] > since), None)

    def let_pass(self, seconds: float) -> None:
        """Simulated ones."""
        time.sleep(seconds / self.clock)

    # -- the wire

    def last_request(self) -> int:
        return self.ask("/wire?since=0")["last"]

    def mutations(self, since: int) -> list[dict]:
        return [r for r in self.wire(since) if r["operation"] in MUTATIONS]

    # -- alerts

    def alerted(self, key: str) -> str:
        """Its title in the newest list; empty when it is not there."""
        for row in self.rows("SELECT data FROM gpu_sessions_heartbeat WHERE name = 'alerts'"):
            for alert in json.loads(row["data"]).get("alerts", []):
                if alert["key"] == key:
                    return alert["title"]
        return ""

    def raised(self, key: str, since: datetime) -> dict | None:
        """The event that put it on record."""
        sql = (
            "SELECT * FROM gpu_sessions_auditevent WHERE action = 'alert.raised' ORDER BY sequence"
        )
        for event in instants(with_data(self.rows(sql)), "at"):
            if event["data"]["alert"] == key and event["at"] >= since:
                return event
        return None

    # -- backups

    def back_up(self, name: str) -> None:
        """Consistent, while everything runs."""
        directory = self.directory / name
        directory.mkdir()
        copy = backed_up(self.store, directory)
        self.backups[name] = copy

    def exchange(self, name: str, keep: str = "") -> datetime:
        """Everything stops, another database takes the place of this one, everything starts."""
        self.kill("web", "worker")
        if keep:
            self.back_up(keep)
        self.store = put_back(self.backups[name], self.store)
        self.environment |= self.store.environment
        return self.come_up()

    def wait_anchored(self) -> None:
        """The anchor outside the database knows the newest event."""
        [row] = self.rows("SELECT max(sequence) AS last FROM gpu_sessions_auditevent")
        anchor = self.data / "audit-anchor"

        def known() -> bool:
            return anchor.exists() and json.loads(anchor.read_text())["sequence"] >= row["last"]

        until("the anchor has moved on", known)

    def tamper(self, count: int, seed: int) -> dict:
        """On a copy: what tests.prove.tamper says."""
        self.back_up("copy")
        command = [sys.executable, "-m", "tests.prove.tamper", str(count), str(seed)]
        where = {"GPUBROKER_DATA_DIR": str(self.directory / "copy")}
        environment = self.environment | where | self.backups["copy"].environment
        done = subprocess.run(
            command, env=environment, cwd=self.directory, capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    # -- whose is what

    def sessions_of(self, provider: str) -> list[str]:
        """The open ones, oldest first."""
        sql = "SELECT id FROM gpu_sessions_session WHERE provider = ? AND state != 'ended'"
        return [row["id"] for row in self.rows(f"{sql} ORDER BY created_at", provider)]

    def labels(self) -> set[str]:
        return {row["label"] for row in self.rows("SELECT label FROM gpu_sessions_attempt")}

    def prefix(self) -> str:
        """Of the labels of this deployment."""
        [row] = self.rows("SELECT deployment_id FROM gpu_sessions_deployment")
        return f"gb1-{row['deployment_id']}-"

    def made_at(self) -> datetime:
        """When the first worker of this deployment began."""
        sql = "SELECT at FROM gpu_sessions_auditevent WHERE action = 'identity.created'"
        return instants(self.rows(sql), "at")[0]["at"]

    def evidence(self) -> Evidence:
        """Without what other brokers rent on the same accounts: that is theirs to answer for."""
        seen = super().evidence()

        def mine(row: Row) -> bool:
            return not str(row["label"]).startswith(tuple(self.others))

        ledger, wire = filter(mine, seen.ledger), filter(mine, seen.wire)
        return replace(seen, ledger=list(ledger), wire=list(wire))

    def canary_hits(self) -> tuple[int, list[str]]:
        """(secrets looked for, where one was found): also in every page that people can open."""
        secrets, places = self.canaries(), [*self.places(), *self.pages()]
        return len(secrets), find_secrets(places, secrets)

    def pages(self) -> Iterator[tuple[str, bytes]]:
        paths = ["/", "/sessions/", "/providers/", "/attention/", "/audit/", "/keys/", "/doctor/"]
        paths += [f"/audit/export.{kind}" for kind in ("csv", "json")]
        paths += [f"/sessions/{uuid.UUID(pk)}/" for pk in self.states()]
        for path in paths:
            page = self.http.get(self.base + path, timeout=60)
            assert page.ok, f"{path}: {page.status_code}"
            yield path, page.content


class Neighbour(Stage):
    """A second broker with the same keys at the same marketplaces, and rows of its own."""

    def __init__(self, first: Stage) -> None:
        super().__init__(first.directory / "neighbour", first.template, first.clock)
        self.vastai_port, self.tensordock_port = first.vastai_port, first.tensordock_port
        self.control_port, self.simulated = first.control_port, first.simulated
        self.api_key, self.tensordock_key = first.api_key, first.tensordock_key
        names = ("VASTAI_API_KEY", "VASTAI_BASE_URL")
        self.environment |= {name: first.environment[name] for name in names}
        self.first = first

    def start_simulator(self) -> None:
        """It is there already."""

    def start_working(self) -> None:
        """Without pages."""
        names = ("TENSORDOCK_API_TOKEN", "TENSORDOCK_BASE_URL")
        self.environment |= {name: self.first.environment[name] for name in names}
        self.start_worker()

    def start(self) -> "Neighbour":
        super().start()
        self.others.append(self.first.prefix())
        self.first.others.append(self.prefix())
        return self


def backed_up(store: Sqlite | Postgresql, directory: Path) -> Sqlite | Postgresql:
    if isinstance(store, Postgresql):
        return dumped(store, directory.name)
    copy = Sqlite(directory)
    source, target = sqlite3.connect(store.path, timeout=20), sqlite3.connect(copy.path)
    source.backup(target)
    source.close()
    target.close()
    return copy


def dumped(store: Postgresql, name: str) -> Postgresql:
    """A dump, read into a database of its own."""
    database = f"{store.database[-40:]}-{name}"
    url = store.cluster.create(database)
    dump = "".join(text.decode() for _, text in store.contents())
    command = [str(programs() / "psql"), "-q", "-v", "ON_ERROR_STOP=1", url]
    done = subprocess.run(command, input=dump, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return Postgresql(store.cluster, database)


def put_back(backup: Sqlite | Postgresql, present: Sqlite | Postgresql) -> Sqlite | Postgresql:
    """Where nobody is connected any more."""
    if isinstance(backup, Postgresql) or isinstance(present, Postgresql):
        return backup
    present.remove()
    shutil.copy(backup.path, present.path)
    return present
