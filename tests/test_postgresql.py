"""The same tests on PostgreSQL."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql import Cluster

pytestmark = pytest.mark.xdist_group("postgresql")

ROOT = Path(__file__).resolve().parents[1]
TESTS = [  # what leans on the database itself: locks, triggers, compare-and-set, JSON, decimals
    "tests/sessions/test_audit.py",
    "tests/sessions/test_identity.py",
    "tests/sessions/test_guards.py",
    "tests/sessions/test_limits.py",
    "tests/providers/test_lanes.py",
    "tests/providers/test_jobs.py",
    "tests/providers/test_catalog.py",
    "tests/sessions/test_reconcile.py::test_the_whole_life",
    "tests/sessions/test_reconcile.py::test_a_double_click_is_one_session",
    "tests/sessions/test_endings.py::test_a_killed_process_loses_nothing",
    "tests/sessions/test_endings.py::test_a_late_answer_does_not_undo_what_others_found",
    "tests/web/commits_on_postgresql.py",
    "tests/web/test_bulk_stop.py",
    "tests/web/test_live.py",
    "tests/web/test_sockets.py",
    "tests/web/test_launch.py",
    "tests/web/test_sessions_pages.py",
    "tests/web/test_sessions_http.py",
    "tests/web/test_offers.py",
    "tests/web/test_offers_market.py::test_a_gpu_without_history_and_an_unknown_one",
]


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with Cluster() as cluster:
        yield cluster.url()


def test_what_leans_on_the_database_holds_there_too(database_url: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    environment = os.environ | {"TEST_DATABASE_URL": database_url}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        environment.pop(name, None)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
