"""`manage.py up` as a person meets it: one command, an address, a link, and Ctrl-C."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from gpubroker.supervise import django_command, kill_group
from tests.ports import free_ports

from .machine import PATIENCE, Machine, alive, children, descendants, kill, until

pytestmark = pytest.mark.xdist_group("engine")


class Up:
    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        (self.port,) = free_ports(1)
        self.log = machine.directory / f"{name}.log"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("a") as log:
            return subprocess.Popen(
                django_command("up", f"--port={self.port}"),
                env=self.machine.environment,
                cwd=self.machine.directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, OSError):
            return 0, ""

    def parts(self) -> dict[str, dict[str, object]]:
        status, text = self.get("/readyz")
        return json.loads(text)["parts"] if status else {}

    def wait_until_it_works(self) -> None:
        def works() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            parts = self.parts()
            names = ("database", "worker", "slices", "identity")
            return bool(parts) and all(parts[name]["ok"] for name in names)

        until(works, "web server and worker work")

    def link(self) -> str:
        return re.search(r"^Sign in: http://127\.0\.0\.1:\d+(/login/\S+)$", self.text(), re.M)[1]

    def text(self) -> str:
        return self.log.read_text()


@pytest.fixture
def starts(machine: Machine) -> Iterator[list[Up]]:
    """Whatever is put in is gone at the end."""
    running: list[Up] = []
    yield running
    for up in running:
        tree = descendants(up.process.pid)
        kill_group(up.process.pid)
        up.process.wait()
        until(lambda tree=tree: not any(map(alive, tree)), "nothing is left")


def kept(machine: Machine) -> tuple[object, ...]:
    data: Path = machine.directory / "data"
    files = [(data / name).read_text() for name in ("secret_key", "encryption_key")]
    people = machine.query("SELECT username, password FROM auth_user")
    return (*files, people, machine.query("SELECT deployment_id FROM gpu_sessions_deployment"))


def beats(machine: Machine) -> list[tuple[int, str]]:
    """(generation, last sign of life) of each slot."""
    return machine.query("SELECT generation, beat_at FROM gpu_sessions_slot ORDER BY number")


def slices_run(machine: Machine, least: int) -> None:
    """Every slot beats in a generation of at least this: only a running slice beats again."""
    until(lambda: all(generation >= least for generation, _ in beats(machine)), "new generations")
    seen = beats(machine)
    until(lambda: all(a != b for a, b in zip(seen, beats(machine), strict=True)), "they beat")


def test_it_starts_stops_and_starts_again_with_the_same_data(
    machine: Machine, starts: list[Up]
) -> None:
    machine.environment.pop("GPUBROKER_SECRET_KEY")
    first = Up(machine, "first")
    starts.append(first)
    first.wait_until_it_works()
    assert first.parts()["providers"]["simulated"]
    assert first.get(first.link())[0] == 200
    assert f"http://127.0.0.1:{first.port} (Ctrl-C stops it)" in first.text()

    taken = first.start()
    assert taken.wait(PATIENCE) == 1
    assert "Choose another with --port" in first.text()

    slices_run(machine, least=1)  # only then has the cluster started all of its helpers
    tree = descendants(first.process.pid)
    (web,) = [pid for pid in tree if "daphne" in command_line(pid)]
    cluster_helpers = [
        pid for pid in tree if not children(pid) and "--cluster" in command_line(pid)
    ]
    kill(web, *cluster_helpers)
    until(lambda: not any(map(alive, [web, *cluster_helpers])), "web server and workers are dead")
    slices_run(machine, least=2)
    until(lambda: first.get("/healthz")[0] == 200, "another web server answers")

    tree = descendants(first.process.pid)
    assert len(tree) > 10
    first.process.terminate()
    assert first.process.wait(PATIENCE) == 0
    until(lambda: not any(map(alive, tree)), "all children are gone")
    before = kept(machine)

    second = Up(machine, "second")
    starts.append(second)
    second.wait_until_it_works()
    assert kept(machine) == before
    assert second.get(second.link())[0] == 200
    tree = descendants(second.process.pid)
    kill(second.process.pid)
    until(lambda: not any(map(alive, tree)), "the tree dies with its root")


def command_line(pid: int) -> str:
    """Empty when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
