"""Runs one part of the programme, and answers for everything below it: its processor time, its end.

    python -m tests.prove.keeper FILE COMMAND ...     FILE is told the processor's seconds

What a part leaves behind, a database server or the children of whoever was killed, comes to its
keeper and to nobody else. When the keeper is told to end (or its own parent is gone), all of them
are told so as by Ctrl-C, and killed when they do not hear.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from gpubroker.supervise import die_with_parent
from tests.processes import descendants

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE = 10  # seconds to end orderly


def adopt_orphans() -> None:
    """Only Linux can; elsewhere what a part leaves behind goes to the first process."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def kept(command: list[str]) -> int:
    """Its exit code, once nothing of it is left."""
    process = subprocess.Popen(command, preexec_fn=die_with_parent)
    try:
        while (ended := os.wait())[0] != process.pid:
            pass  # one that came to us
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        return process.returncode
    finally:
        end_all()


def end_all() -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        tell(number, descendants(os.getpid()))
        end = time.monotonic() + GRACE
        while reaped() and time.monotonic() < end:
            time.sleep(0.05)


def tell(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def reaped() -> bool:
    """False = nobody is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def main(file: str, *command: str) -> int:
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    code = kept(list(command))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(file).write_text(f"{used.ru_utime + used.ru_stime:.1f}")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
