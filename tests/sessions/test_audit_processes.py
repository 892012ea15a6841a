"""Several processes write one chain: no number twice, none left out, none refused."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

from django.db import connection, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper

from gpubroker.env import SQLITE_OPTIONS
from sessions import audit, audit_triggers
from sessions.models import AuditEvent

PROCESSES, EVENTS = 4, 50
FORK = multiprocessing.get_context("fork")


def create() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(AuditEvent)
        audit_triggers.install(None, editor)


def write() -> None:
    for number in range(EVENTS):
        with transaction.atomic():
            audit.append("session.state", actor=f"worker {os.getpid()}", data={"n": number})


def verify() -> None:
    assert audit.verify() == audit.Verdict(ok=True, checked=PROCESSES * EVENTS, problem="")
    assert len(set(AuditEvent.objects.values_list("actor", flat=True))) == PROCESSES


def test_processes_that_write_at_once_make_one_chain(tmp_path: Path, django_db_blocker) -> None:
    """On a database file of their own, opened with the options of production."""

    def act(step: Callable[[], None]) -> None:
        database = {"NAME": str(tmp_path / "db"), "OPTIONS": SQLITE_OPTIONS}
        wrapper = DatabaseWrapper(connection.settings_dict | database)
        with django_db_blocker.unblock():
            connections["default"] = wrapper
            step()

    for steps in ([create], [write] * PROCESSES, [verify]):
        processes = [FORK.Process(target=act, args=[step]) for step in steps]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * len(steps)
