"""Notices of commits. Run by tests/test_postgresql.py alone: SQLite has none."""

import asyncio
import time

import psycopg
import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from django.db import connection, transaction
from django.utils import timezone

from sessions import commits, moves, tailer
from sessions.models import Session
from tests.factories import make_session

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 30
QUIET = 0.3  # long enough for a notice that would come


async def heard(link: psycopg.AsyncConnection, seconds: float, enough: int | None = None) -> int:
    return len([n async for n in link.notifies(timeout=seconds, stop_after=enough)])


@database_sync_to_async
def write(session: Session, times: int = 1) -> None:
    with transaction.atomic():
        for number in range(times):
            moves.change(session, ssh_attempts=number)


@database_sync_to_async
def claim(session: Session) -> None:
    Session.objects.filter(pk=session.pk).update(claimed_until=timezone.now(), fence=9)


@database_sync_to_async
def take_back(session: Session) -> None:
    with transaction.atomic():
        moves.change(session, ssh_attempts=7)
        transaction.set_rollback(True)


@database_sync_to_async
def hang_up() -> None:
    """Ends the connection of whoever listens."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = %s",
            [f"LISTEN {commits.CHANNEL}"],
        )
        assert cursor.rowcount == 1


def test_what_people_see_is_told_once_a_transaction_and_nothing_else():
    session = make_session()

    @async_to_sync
    async def run():
        async with await commits.listener() as link:
            await write(session, times=3)
            assert await heard(link, PATIENCE, enough=1) == 1
            assert await heard(link, QUIET) == 0
            await database_sync_to_async(make_session)()
            assert await heard(link, PATIENCE, enough=1) == 1
            await take_back(session)
            await claim(session)
            assert await heard(link, QUIET) == 0

    run()


def test_a_lost_connection_is_opened_anew(monkeypatch, caplog):
    monkeypatch.setattr(commits, "SAFETY_SECONDS", 600)
    monkeypatch.setattr(tailer, "RESTART_SECONDS", 0.01)
    looks = []

    async def push(self):
        looks.append(1)
        return False

    monkeypatch.setattr(tailer.Tailer, "push", push)

    async def look_after_a_write(session):
        before, until = len(looks), time.monotonic() + PATIENCE
        while len(looks) == before and time.monotonic() < until:
            await write(session)  # again: it may come before anybody listens
            await asyncio.sleep(0.05)
        assert len(looks) > before

    @async_to_sync
    async def run():
        session = await database_sync_to_async(make_session)()
        task = asyncio.create_task(tailer.Tailer(totals_at=time.monotonic() + 3600).run())
        await look_after_a_write(session)
        await hang_up()
        await look_after_a_write(session)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run()
    assert "stumbled" in caplog.text
