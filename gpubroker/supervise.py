"""Child processes that are restarted when they die, and die with their parent."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

from django.conf import settings

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # seconds before a restart
STEADY = 30.0  # seconds of life after which a child counts as healthy again
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """In a new child: SIGKILL when the parent is gone. Only Linux can; elsewhere nothing."""
    if _libc:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def django_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "django", *arguments]


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(settings.CHECKOUT), os.environ.get("PYTHONPATH")]))
    ours = {"DJANGO_SETTINGS_MODULE": "gpubroker.settings", "PYTHONPATH": path}
    return {**os.environ, **ours, **(extra or {})}


class Child:
    """A process in a session of its own, restarted with growing pauses."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = command
        self.environment = environment or child_environment()
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0  # monotonic
        self.next_start_at = 0.0
        self.deaths = 0  # in a row

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def ensure(self) -> bool:
        """Start or restart where due; call it often. True = it was started just now."""
        now = time.monotonic()
        if self.process and self.process.poll() is not None:
            self._note_death(self.process.returncode, now)
        if self.process or now < self.next_start_at:
            return False
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - called before any thread exists
        )
        self.started_at = now
        return True

    def replace(self, why: str) -> None:
        """Kill it with all that it started; ensure() starts the next one."""
        logger.error("%s is replaced: %s", self.name, why)
        self.kill()
        self.next_start_at = time.monotonic() + FIRST_PAUSE

    def ask_to_stop(self) -> None:
        """SIGTERM to the leader alone: a cluster's group does not survive it in good order."""
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL to the whole group: the leader may be dead and its children not."""
        if self.process:
            kill_group(self.process.pid)
            self.process.wait()
            self.process = None

    def _note_death(self, code: int, now: float) -> None:
        self.deaths = 1 if now - self.started_at > STEADY else self.deaths + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.deaths - 1))
        logger.error("%s ended (%d), next start in %.1f s", self.name, code, pause)
        self.kill()
        self.next_start_at = now + pause


def kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of them are gone


def stop_all(children: Iterable[Child], grace: float) -> None:
    """SIGTERM to all, up to `grace` seconds of patience together, then SIGKILL to the groups."""
    children = list(children)
    end = time.monotonic() + grace
    for child in children:
        child.ask_to_stop()
    for child in children:
        if child.process:
            try:
                child.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("%s did not stop in time and is killed", child.name)
        child.kill()


class StopSignal:
    """True once SIGTERM or Ctrl-C has come."""

    def __init__(self) -> None:
        self.came = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.came = True

    def __bool__(self) -> bool:
        return self.came

    def sleep(self, seconds: float) -> None:
        """Returns early when the signal comes."""
        end = time.monotonic() + seconds
        while not self.came and (rest := end - time.monotonic()) > 0:
            time.sleep(min(rest, 0.1))
