"""One session in a world of its own with lone workers, at any provider and on any database."""

import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

from tests.invariants import Evidence, check_invariants
from tests.postgresql import Cluster
from tests.processes import Part, Template, make_template
from tests.prove.nursery import Child, Nursery, both
from tests.stores import Postgresql
from tests.world import DEAD_LABEL, World

CLOCK = 20
SECONDS = 480  # for one run to come to rest on a busy machine
PROVIDERS = ("vastai", "tensordock")
DATABASES = ("sqlite", "postgresql")
AT_ONCE = 13  # they wait most of the time
CONNECTIONS = 200
LABELS = ("", DEAD_LABEL.format("0123456789"))  # of strangers on the account
FEW = ("--machines=60",)  # offers for one session; each reading of all costs processor time
WORKER = "tests.prove.lone_worker"


class Run(World):
    """Use Yard.run for one: it is then up. `kills`: when a worker was struck."""

    def __init__(
        self, yard: "Yard", directory: Path, provider: str, database: str, faults: list[dict]
    ) -> None:
        super().__init__(directory, yard.templates[database], CLOCK)
        self.nursery = yard.nursery
        self.simulator_options = FEW
        self.provider, self.database = provider, database
        self.workers: list[Child] = []
        self.log, self.mark = directory / "worker.txt", directory / "struck"
        self.environment |= self.credentials() | {
            "CONTROL": self.control,
            "PROVIDER": provider,
            "FAULTS": json.dumps(faults),
            "CRASH_MARK": str(self.mark),
        }

    def credentials(self) -> dict[str, str]:
        """Of this provider alone."""
        if self.provider == "vastai":
            return {}
        url = f"http://127.0.0.1:{self.tensordock_port}"
        tensordock = {"TENSORDOCK_API_TOKEN": self.tensordock_key, "TENSORDOCK_BASE_URL": url}
        return tensordock | {"VASTAI_API_KEY": "", "VASTAI_BASE_URL": ""}

    def run(self, name: str, *command: str) -> Part:
        """A module as the world would start it, at a lower price."""
        log = self.directory / f"{name}.log"
        log.touch()
        python, option, module, *arguments = command
        assert (python, option) == (sys.executable, "-m")
        child = self.nursery.start(
            module, *arguments, environment=self.environment, directory=self.directory, log=log
        )
        self.parts[name] = Part(name, child, log)  # type: ignore[arg-type]
        return self.parts[name]

    def begin(self, group: int = 0, **more: str) -> Child:
        """A worker."""
        worker = self.nursery.start(
            WORKER, environment=self.environment | more, directory=self.directory, log=self.log,
            group=group,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def live(self, **more: str) -> int:
        """A worker from its start to its end or death -> its exit code."""
        return self.begin(**more).wait(SECONDS)

    def live_both(self, first: Child, second: Child) -> list[int]:
        return both([first, second], SECONDS)

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
        super().stop()

    @property
    def kills(self) -> list[datetime]:
        texts = self.mark.read_text().split() if self.mark.exists() else []
        return [datetime.fromisoformat(text) for text in texts]

    # -- judgement

    def seen(self) -> Evidence:
        """The worker itself verifies the audit before it ends."""
        return self.evidence(audit_verdict="")

    def verdict(self, seen: Evidence, excused: str = "") -> list[str]:
        """`excused`: the beginning of what may be said of this run."""
        wrong = [t for t in check_invariants(seen) if not excused or not t.startswith(excused)]
        living = {row["instance_id"] for row in seen.ledger if row["gone_at"] is None}
        missing = [f"{pk} of the strangers is missing" for pk in self.zoo if pk not in living]
        ours = [f"{r['label']} lives" for r in seen.ours() if r["gone_at"] is None]
        return [*wrong, *missing, *ours]

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""


class Yard:
    """What all runs share: a directory, the nursery, a migrated database of each kind."""

    def __init__(self, databases: tuple[str, ...]) -> None:
        self.databases = databases
        self.numbers = count()
        self.stack = ExitStack()
        self.lock = threading.Lock()

    def __enter__(self) -> "Yard":
        name = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="prove-runs-"))
        self.directory = Path(name)
        self.nursery = self.stack.enter_context(Nursery())
        self.templates = {name: self.template(name) for name in self.databases}
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def template(self, database: str) -> Template:
        directory = self.directory / database
        directory.mkdir()
        if database == "sqlite":
            return make_template(directory)
        cluster = self.stack.enter_context(Cluster(CONNECTIONS))
        cluster.create("migrated")
        return make_template(directory, Postgresql(cluster, "migrated"))

    @contextmanager
    def run(self, provider: str, database: str, faults: list[dict]) -> Iterator[Run]:
        """With its simulator and strangers; afterwards nothing of it is left."""
        run = self.started(provider, database, faults)
        try:
            for label in LABELS:
                run.seed(provider, label)
            yield run
        finally:
            self.clear(run)

    def started(self, provider: str, database: str, faults: list[dict]) -> Run:
        """A port that was free may be taken by the time it is used: then once more."""
        try:
            return self.start(provider, database, faults)
        except AssertionError as error:
            print(f"no simulator came up, another one is tried: {error}", flush=True)
            return self.start(provider, database, faults)

    def start(self, provider: str, database: str, faults: list[dict]) -> Run:
        with self.lock:
            directory = self.directory / f"run{next(self.numbers)}"
        run = Run(self, directory, provider, database, faults)
        try:
            run.start_simulator()
        except AssertionError:
            self.clear(run)
            raise
        return run

    def clear(self, run: Run) -> None:
        run.stop()
        run.store.remove()
        shutil.rmtree(run.directory)
