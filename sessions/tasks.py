"""What the queue may carry: numbers and nothing else; the truth stands in rows."""

import logging

from django.utils import timezone
from django_q.models import Schedule

from providers import jobs, registry

from . import answers, audit, audit_watch, identity, reconcile, slices, sweep

logger = logging.getLogger(__name__)

BACKSTOP = "sessions.tasks.backstop"


def run_slice(number: int, generation: int) -> None:
    """A stale or doubled delivery returns at once. Errors stay out of the queue's own tables."""
    try:
        if slices.beat(number, generation):
            slices.run(number, generation, (reconcile, sweep, jobs))
    except Exception:
        logger.exception("slice %d of slot %d failed", generation, number)


def backstop() -> None:
    """Each minute by django-q2's own scheduler: slots revive even without a supervisor, the
    newest event of the audit is remembered outside the database, its chain is verified, and old
    looks at GPUs are forgotten."""
    slices.ensure()
    audit.write_anchor(timezone.now())
    audit_watch.look(timezone.now())
    answers.forget_samples(timezone.now())


def canary() -> None:
    """Nothing. That its row vanishes proves that pusher, a worker and the monitor live."""


def prepare() -> None:
    """Rows that must exist before the first slice, and the readings that it must not wait for."""
    identity.ensure()
    jobs.ensure_rows()
    for provider in registry.names():  # a restart may come with the key of another account
        jobs.want_listing(provider, timezone.now(), 0)
    one_backstop()


def one_backstop() -> None:
    """Two first starts at one moment make two rows, for the queue's table forbids none."""
    rows = Schedule.objects.filter(func=BACKSTOP).order_by("pk")
    if not rows.exists():
        Schedule.objects.create(
            func=BACKSTOP, name="backstop", schedule_type=Schedule.MINUTES, minutes=1
        )
    rows.exclude(pk=rows[0].pk).delete()
