"""Several processes write one chain: no number twice, none left out, none refused."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROCESSES, EVENTS = 3, 40
CREATE = """
with connection.schema_editor() as editor:
    editor.create_model(AuditEvent)
    audit_triggers.install(None, editor)
"""
WRITE = f"""
for number in range({EVENTS}):
    with transaction.atomic():
        audit.append('session.state', actor=f'worker {{os.getpid()}}', data={{'n': number}})
"""
VERIFY = "print(audit.verify())"
SETUP = """
import os, django
django.setup()
from django.db import connection, transaction
from sessions import audit, audit_triggers
from sessions.models import AuditEvent
"""


def start(data_dir: Path, code: str) -> subprocess.Popen[str]:
    environment = os.environ | {"GPUBROKER_DATA_DIR": str(data_dir), "DATABASE_URL": ""}
    return subprocess.Popen(
        [sys.executable, "-c", SETUP + code],
        cwd=ROOT,
        env=environment | {"DJANGO_SETTINGS_MODULE": "gpubroker.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_processes_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    for step in ([CREATE], [WRITE] * PROCESSES, [VERIFY]):
        processes = [start(tmp_path, code) for code in step]
        outputs = [process.communicate(timeout=120)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(step), outputs
    assert f"ok=True, checked={PROCESSES * EVENTS}" in outputs[0]
