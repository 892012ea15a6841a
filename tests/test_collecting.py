"""Any tests can be named on the command line, in any order."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_a_folder_may_be_named_again_after_a_file_above_it() -> None:
    named = ["tests/web/test_keys.py", "tests/test_collecting.py", "tests/web/test_memory_pages.py"]
    command = [sys.executable, "-m", "pytest", "-q", "--setup-plan", "-p", "no:cacheprovider"]
    run = subprocess.run([*command, *named], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
