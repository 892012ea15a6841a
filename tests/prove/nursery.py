"""Starts many short-lived Python processes at a fraction of the price: forks with the big
libraries and the simulator already loaded. The settings are read by each child for itself.

    python -m tests.prove.nursery      commands on stdin, births and ends on stdout, one JSON a line
"""

import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, wait
from pathlib import Path

from gpubroker.supervise import die_with_parent

LIBRARIES = (
    "aiohttp.web asyncssh daphne.server django.core.serializers django.db.models django.forms "
    "django.http django.template.defaulttags django.urls fabric psycopg providers.simulator.server "
    "requests "
    "twisted.internet.asyncioreactor"
)


class Child:
    """As much of Popen as a world needs."""

    def __init__(self) -> None:
        self.born: Future[int] = Future()
        self.ended: Future[int] = Future()

    @property
    def pid(self) -> int:
        return self.born.result(timeout=60)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, minus the signal's number when one killed it. May raise TimeoutError."""
        return self.ended.result(timeout)

    def signal(self, number: int) -> None:
        """Nothing when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            if not self.ended.done():
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait(60)


class Nursery:
    """Use as a context manager; `start` may be called from any thread."""

    def __enter__(self) -> "Nursery":
        self.children: dict[int, Child] = {}
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.prove.nursery"], text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent,
        )  # fmt: skip
        threading.Thread(target=self.listen, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        """All that still live die with their parent."""
        self.process.kill()
        self.process.wait()

    def start(
        self, module: str, *arguments: str, environment: dict[str, str], directory: Path, log: Path,
        group: int = 0,
    ) -> Child:  # fmt: skip
        """`group`: that of another child, 0 for one of its own."""
        order = {"module": module, "arguments": arguments, "environment": environment}
        order |= {"directory": str(directory), "log": str(log), "group": group}
        child = Child()
        with self.lock:
            number = len(self.children)
            self.children[number] = child
            self.process.stdin.write(json.dumps(order | {"number": number}) + "\n")
        return child

    def listen(self) -> None:
        for line in self.process.stdout:
            news = json.loads(line)
            child = self.children[news["number"]]
            if "pid" in news:
                child.born.set_result(news["pid"])
            else:
                child.ended.set_result(news["code"])


def both(children: list[Child], timeout: float) -> list[int]:
    """Their exit codes, all within that time. May raise TimeoutError."""
    done = wait([child.ended for child in children], timeout)
    if done.not_done:
        raise TimeoutError
    return [child.wait() for child in children]


# -- the process itself


def live(order: dict) -> None:
    """In the child: become that module."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent()
    random.seed()
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for old, new in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(old, new)
    sys.argv = [order["module"], *order["arguments"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


def tell(**news: int) -> None:
    print(json.dumps(news), flush=True)


def reap(living: dict[int, int]) -> None:
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        tell(number=living.pop(pid), code=os.waitstatus_to_exitcode(status))


def main() -> None:
    for name in LIBRARIES.split():
        importlib.import_module(name)
    gc.freeze()  # what is shared with the children is neither searched nor copied by them
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    living: dict[int, int] = {}
    buffer = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            reap(living)
        if 0 in ready:
            chunk = os.read(0, 65536)
            if not chunk:
                return None
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if not pid:
                    return live(order)
                os.setpgid(pid, order["group"] or pid)
                living[pid] = order["number"]
                tell(number=order["number"], pid=pid)


if __name__ == "__main__":
    main()
