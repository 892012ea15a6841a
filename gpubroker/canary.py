"""The end-to-end proof that the queue moves: small tasks whose rows must vanish in time."""

from datetime import datetime, timedelta

from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.tasks import async_task

EVERY = timedelta(seconds=15)
PATIENCE = timedelta(seconds=35)  # a canary may wait for slices that drain
MOST = 3


class RecordingBroker(ORM):
    """Remembers the row it made; async_task itself tells only the task's name."""

    row = 0

    def enqueue(self, task: str) -> int:
        self.row = super().enqueue(task)
        return self.row


class Canaries:
    """Those sent to the present cluster. Older ones say nothing about it."""

    def __init__(self) -> None:
        self.sent: dict[int, datetime] = {}  # row -> when
        self.last_at: datetime | None = None

    def look(self, now: datetime) -> bool:
        """Send where due. False = the cluster is wedged: one waited longer than PATIENCE."""
        alive = set(OrmQ.objects.filter(pk__in=self.sent).values_list("pk", flat=True))
        self.sent = {row: at for row, at in self.sent.items() if row in alive}
        if any(now - at > PATIENCE for at in self.sent.values()):
            return False
        if len(self.sent) < MOST and (not self.last_at or now - self.last_at >= EVERY):
            self.send(now)
        return True

    def send(self, now: datetime) -> None:
        broker = RecordingBroker(list_key=Conf.CLUSTER_NAME)
        async_task("sessions.tasks.canary", q_options={"broker": broker, "save": False})
        self.sent[broker.row] = now
        self.last_at = now

    def forget(self) -> None:
        """After a new start, or a time without database: judge by new ones only."""
        OrmQ.objects.filter(pk__in=self.sent).delete()
        self.sent, self.last_at = {}, None
