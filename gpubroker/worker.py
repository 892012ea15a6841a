"""The worker: one django-q2 cluster, watched and replaced as a group when it dies or wedges."""

import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from sessions import audit, slices, tasks
from sessions.models import Heartbeat

from .canary import Canaries
from .supervise import Child, StopSignal, django_command, stop_all

logger = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between looks
BEAT = timedelta(seconds=3)  # between heartbeats
GRACE = 6.0  # seconds that slices have to finish what is under way


class Worker:
    def __init__(self, stop: StopSignal, cluster: Child | None = None) -> None:
        self.stop = stop
        self.cluster = cluster or Child("cluster", django_command("worker", "--cluster"))
        self.canaries = Canaries()
        self.starts = 0
        self.beaten_at: datetime | None = None

    def run(self) -> None:
        while not self.stop and not self._tried(lambda now: tasks.prepare()):
            self.stop.sleep(PAUSE)
        while not self.stop:
            self.turn()
            self.stop.sleep(PAUSE)
        stop_all([self.cluster], GRACE)

    def turn(self) -> None:
        if self.cluster.ensure():
            self.starts += 1
            self._tried(lambda now: self.canaries.forget())
        self._tried(lambda now: slices.ensure(now))
        self._tried(self.judge)
        self._tried(self.beat)

    def judge(self, now: datetime) -> None:
        if not self.canaries.look(now):
            self.cluster.replace("a task that it was given did not come back")

    def beat(self, now: datetime) -> None:
        if self.beaten_at and abs(now - self.beaten_at) < BEAT:
            return
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "starts": self.starts}
        Heartbeat.objects.update_or_create(name="worker", defaults={"at": now, "data": facts})
        self.beaten_at = now
        self.remember(now)

    def remember(self, now: datetime) -> None:
        """Often: so a restored backup that is seconds old is told from the truth."""
        try:
            audit.write_anchor(now)
        except OSError as error:  # a full disk must not end the worker
            logger.warning("the anchor of the audit cannot be written: %s", error)

    def _tried(self, step: Callable[[datetime], object]) -> bool:
        """The database may be locked or away; nothing is concluded from that."""
        try:
            step(timezone.now())
        except DatabaseError as error:
            logger.warning("the database refused a step of the worker: %s", error)
            self.canaries = Canaries()
            close_old_connections()
            return False
        return True
