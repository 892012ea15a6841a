"""The same tests on PostgreSQL: a private cluster on a free port, made and thrown away here."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = [  # what leans on the database itself: locks, triggers, compare-and-set, JSON, decimals
    "tests/sessions/test_audit.py",
    "tests/sessions/test_identity.py",
    "tests/sessions/test_guards.py",
    "tests/providers/test_lanes.py",
    "tests/providers/test_jobs.py",
    "tests/providers/test_catalog.py",
    "tests/sessions/test_reconcile.py::test_the_whole_life",
    "tests/sessions/test_reconcile.py::test_a_double_click_is_one_session",
    "tests/sessions/test_endings.py::test_a_killed_process_loses_nothing",
    "tests/sessions/test_endings.py::test_a_late_answer_does_not_undo_what_others_found",
    "tests/web/test_sessions_pages.py",
    "tests/web/test_offers.py",
]


def programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    here = shutil.which("initdb")
    assert found or here, "these tests need PostgreSQL (Debian: apt-get install postgresql)"
    return found[-1].parent if found else Path(here or "").parent


def run(command: list[str], directory: Path) -> None:
    """As an ordinary account: PostgreSQL refuses to run as root."""
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    directory = Path(tempfile.mkdtemp(prefix="gpubroker-pg-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(directory, account.pw_uid, account.pw_gid)
    tools, data, port = programs(), str(directory / "data"), free_port()
    run([f"{tools}/initdb", "-D", data, "-A", "trust", "-U", "tester"], directory)
    options = f"-p {port} -h 127.0.0.1 -k {directory} -c fsync=off"
    log = str(directory / "log")
    run([f"{tools}/pg_ctl", "-D", data, "-o", options, "-l", log, "-w", "start"], directory)
    try:
        yield f"postgres://tester@127.0.0.1:{port}/postgres"
    finally:
        run([f"{tools}/pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], directory)
        shutil.rmtree(directory)


def test_what_leans_on_the_database_holds_there_too(database_url: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    environment = os.environ | {"TEST_DATABASE_URL": database_url}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        environment.pop(name, None)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
