"""What every worker process does at its start, alone or beside others."""

import pytest
from django_q.models import Schedule

from sessions import tasks


@pytest.mark.django_db
def test_one_backstop_is_scheduled_however_often_a_worker_starts() -> None:
    tasks.prepare()
    tasks.prepare()
    assert Schedule.objects.filter(func=tasks.BACKSTOP).count() == 1


@pytest.mark.django_db
def test_two_first_starts_at_one_moment_do_not_keep_workers_from_starting() -> None:
    """The queue's table lets both write a row; it was found by killing two workers at once."""
    for _ in range(2):
        Schedule.objects.create(func=tasks.BACKSTOP, schedule_type=Schedule.MINUTES, minutes=1)
    other = Schedule.objects.create(func="somebody.else", schedule_type=Schedule.MINUTES)
    oldest = Schedule.objects.filter(func=tasks.BACKSTOP).order_by("pk")[0]
    tasks.prepare()
    assert list(Schedule.objects.filter(func=tasks.BACKSTOP)) == [oldest]
    assert Schedule.objects.filter(pk=other.pk).exists()
