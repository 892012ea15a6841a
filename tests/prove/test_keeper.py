"""Whatever a part starts is counted, and ends with it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import until

ROOT = Path(__file__).resolve().parents[2]
KEEPER = "import sys; from tests.prove import keeper; keeper.GRACE = 0.5; sys.exit(keeper.main({}))"
BUSY = "import time\nwhile time.process_time() < 0.3: pass"


def start(directory: Path, command: str) -> subprocess.Popen[bytes]:
    arguments = f"{str(directory / 'cpu')!r}, 'sh', '-c', {command!r}"
    return subprocess.Popen([sys.executable, "-c", KEEPER.format(arguments)], cwd=ROOT)


def lives(pid: str) -> bool:
    """Zombies do not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_the_time_of_all_its_processes_is_told(tmp_path: Path) -> None:
    busy = f"{sys.executable} -c '{BUSY}'"
    keeper = start(tmp_path, f"sh -c 'exit 0'; (setsid {busy} &); {busy}; {busy}; exit 3")
    assert keeper.wait(60) == 3
    assert float((tmp_path / "cpu").read_text()) >= 0.6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_nothing_outlives_a_keeper_that_is_told_to_end(tmp_path: Path, number: int) -> None:
    pids = tmp_path / "pids"
    sleep = f"sh -c 'echo $$ >> {pids}; exec sleep 600'"
    keeper = start(tmp_path, f"{sleep} & setsid {sleep} & (setsid {sleep} &); wait")
    until("three sleep", lambda: pids.exists() and len(pids.read_text().split()) == 3)
    keeper.send_signal(number)
    assert keeper.wait(60) == 128 + number
    assert not [pid for pid in pids.read_text().split() if lives(pid)]
