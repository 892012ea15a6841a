"""django-q2's cluster with the two fixes without which it does not survive kill -9.

1. A dead main process or sentinel leaves workers that go on unguarded. Each process here asks
   the kernel to be killed when its parent dies.
2. A worker or monitor that is killed while it waits for a task holds the queue's lock for ever;
   nothing moves again (django-q2 #23 and #339, Koed00/django-q #394). The locks here are file
   record locks: the kernel drops them with their holder.
"""

import errno
import fcntl
import os
import tempfile
import time
from types import TracebackType

import django_q.cluster
import django_q.queues

# The tasks are loaded here once instead of by every worker after its fork.
from sessions import slices, tasks  # noqa: F401

from .supervise import die_with_parent


class FileLock:
    """What multiprocessing.Queue needs of a lock, held by a process and never beyond its life."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the queue

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                patient = block and end is None
                fcntl.lockf(self.file, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
                return True
            except OSError as error:
                # EDEADLK is a false alarm: the kernel takes a process's two threads (reader and
                # feeder) for one and sees a circle that is none.
                if error.errno not in (errno.EDEADLK, errno.EAGAIN, errno.EACCES):
                    raise
                if not block or (end is not None and time.monotonic() >= end):
                    return False
                time.sleep(0.001)

    def release(self) -> None:
        fcntl.lockf(self.file, fcntl.LOCK_UN)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Queue(django_q.queues.Queue):
    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._rlock = FileLock()
        self._wlock = FileLock()


class Cluster(django_q.cluster.Cluster):
    def sig_handler(self, signum: int, frame: object) -> None:
        slices.stopping[0] = 1  # running slices stop claiming and end within seconds
        super().sig_handler(signum, frame)


def run() -> None:
    """In this process, until SIGTERM. Send that to this process alone, never to its group."""
    os.register_at_fork(after_in_child=die_with_parent)
    django_q.cluster.Queue = Queue
    cluster = Cluster()
    cluster.start()
    cluster.sentinel.join()
