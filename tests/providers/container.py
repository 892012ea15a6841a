"""A container with a clock, a sleep and a curl of the test, for the dead man's switch."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from providers import dead_man
from providers.dead_man import FOLDER, Lease

BASE = "http://127.0.0.1:1"
START = 1_760_000_000
HOUR = 3600
END, LATEST = START + HOUR, START + 12 * HOUR
PATIENCE = 60.0  # seconds
FAKES = {  # the loop ends with the test run, also when that is killed
    "sleep": """\
echo $1 >>{here}/slept; mine=$(grep -c '' {here}/slept)
while read allowed <{here}/allowed; [ $allowed -lt $mine ]; do
kill -0 {owner} || kill -9 $PPID $$; /bin/sleep 0.01; done""",
    "date": "read now <{here}/clock; echo $now",
    "curl": """\
printf '%s\\n' "$@" >{here}/called.new; mv {here}/called.new {here}/called; exit {status}""",
}


def lease(end: int = END) -> Lease:
    at = [datetime.fromtimestamp(second, UTC) for second in (START, end, LATEST)]
    return Lease(start=at[0], end=at[1], latest=at[2])


@dataclass
class Machine:
    """A container: its PATH is the test's programs and what every image has."""

    here: Path
    shell: str = "sh"
    base: str = BASE
    environment: dict[str, str] | None = None

    def __post_init__(self) -> None:
        (self.here / "bin").mkdir()
        self.folder = self.here / "switch"
        self.write("allowed", 0)
        self.clock(START)
        self.program("sleep")
        self.program("date")
        self.program("curl")

    def program(self, name: str, status: int = 0, body: str = "") -> None:
        words = {"here": self.here, "status": status, "owner": os.getpid()}
        text = body or FAKES.get(name, FAKES["curl"]).format(**words)
        file = self.here / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def write(self, name: str, number: int) -> None:
        (self.here / "new").write_text(f"{number}\n")
        (self.here / "new").rename(self.here / name)

    def clock(self, now: int) -> None:
        self.write("clock", now)

    def start(self, script: str = "", *, lived: int = 0) -> subprocess.CompletedProcess[str]:
        """As a container does at each start: the text as a file, run by its shell."""
        if lived:
            self.folder.mkdir(exist_ok=True)
            (self.folder / "lived").write_text(f"{lived}\n")
        text = dead_man.guarded(script, lease(), self.base).replace(FOLDER, str(self.folder))
        file = self.here / "onstart.sh"
        file.write_text(text)
        keys = {"CONTAINER_ID": "4711", "CONTAINER_API_KEY": "own-key"}
        own = keys if self.environment is None else self.environment
        command = [self.shell, str(file)]
        if text.startswith("#!"):
            file.chmod(0o755)
            command = [str(file)]
        return subprocess.run(
            command, env={"PATH": f"{self.here}/bin:/usr/bin:/bin", "HOME": str(self.here), **own},
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip

    def ssh(self, command: str) -> str:
        line = command.replace(FOLDER, str(self.folder))
        done = subprocess.run(
            ["sh", "-c", line], env={"PATH": f"{self.here}/bin:/usr/bin:/bin"},
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        return done.stdout

    def text(self, name: str) -> str:
        file = self.here / name
        return file.read_text() if file.exists() else ""

    def turns(self) -> int:
        """How often the loop has done its work and gone to sleep."""
        return len(self.text("slept").splitlines())

    def turn(self, times: int = 1) -> None:
        """Let it sleep to the end, and do its work again."""
        self.wait(self.turns)
        for _ in range(times):
            before = self.turns()
            self.write("allowed", before)
            self.wait(lambda before=before: self.turns() > before)

    def wait(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "the switch did not do it"
            time.sleep(0.01)

    @property
    def fired(self) -> bool:
        return bool(self.text("called"))

    def stop(self) -> None:
        """Whatever still runs of it, and nothing else."""
        mark = str(self.here)
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if mark in line and int(entry.name) != os.getpid():
                subprocess.run(["kill", "-9", entry.name], capture_output=True, check=False)
