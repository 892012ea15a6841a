"""The live stream: what changes is sent to those who may see it, newest last, and nothing else."""

import asyncio
import sqlite3
import time
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.utils import timezone

from sessions import commits, live, tailer
from sessions.models import Session
from sessions.states import State
from tests.factories import make_user
from tests.web.scenes import build
from tests.web.sockets import PATIENCE, change, login, opened, path_of, touch

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("stream")]


def test_the_present_state_comes_first_then_what_changes(stream):
    session, _ = build("key", timezone.now())
    client = login(session.owner)

    @async_to_sync
    async def run():
        link, first = await opened(path_of(session), client)
        assert "Checking SSH" in first and 'id="session-steps"' in first and 'id="beat"' in first
        await change(session, state=State.RUNNING, verified_at=timezone.now())
        await stream.push()
        pushed = await link.receive_from(timeout=PATIENCE)
        assert "Running" in pushed and f'data-v="{session.version}"' in pushed
        await link.disconnect()

    run()


def test_only_parts_that_differ_are_sent_again(stream):
    session, _ = build("running", timezone.now())
    live.watched[live.session_group(session.pk)] = 1
    touch(session)
    stream.collect()
    touch(session, max_price_per_hour=9)
    (push,) = stream.collect()
    assert 'id="session-cost"' in push.text and 'id="session-connect"' not in push.text
    assert 'id="page-title"' not in push.text
    stream.forget(live.session_group(session.pk))
    touch(session)
    (push,) = stream.collect()
    assert 'id="session-connect"' in push.text and 'id="page-title"' in push.text


def test_a_look_that_finds_nothing_new_moves_nothing_on_any_page(stream, monkeypatch):
    """Costs and countdowns go on in the browser: a fragment each minute would only disturb."""
    session, _ = build("running", timezone.now())
    audience = str(session.owner_id)
    groups = live.session_group(session.pk), live.list_group(audience)
    live.watched.update(groups)
    touch(session)
    assert [push.group for push in stream.collect()] == [*groups]
    touch(session)
    assert [push.group for push in stream.collect()] == [groups[1]]  # the row after its list
    later = timezone.now() + timedelta(minutes=1)
    monkeypatch.setattr(timezone, "now", lambda: later)
    touch(session, ssh_checked_at=later)
    assert stream.collect() == []
    touch(session, unreachable_since=later)
    assert "Unreachable" in stream.collect()[0].text


def test_what_could_not_be_sent_is_sent_by_the_next_look(stream, monkeypatch):
    session, _ = build("key", timezone.now())
    live.watched[live.session_group(session.pk)] = 1
    live.watched[live.owner_group(session.owner_id)] = 1
    moved(session, State.RUNNING, verified_at=timezone.now())
    with monkeypatch.context() as broken:
        broken.setattr(live, "toast_html", lambda *about: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            async_to_sync(stream.push)()
    page, toast = stream.collect()
    assert "Running" in page.text and "is running" in toast.text


def test_nothing_is_rendered_for_nobody_and_nothing_twice(stream):
    session, _ = build("running", timezone.now())
    touch(session)
    assert stream.collect() == []
    live.watched[live.session_group(session.pk)] = 1
    touch(session)
    assert len(stream.collect()) == 1
    assert stream.collect() == []


def test_totals_move_without_a_commit(stream):
    session, _ = build("running", timezone.now())
    stream.changed()
    stream.totals_at = 0
    assert stream.collect() == []
    live.watched[live.strip_group(str(session.owner_id))] = 1
    stream.totals_at = 0
    assert ["totals" in push.text for push in stream.collect()] == [True]
    assert not stream.totals_due()


def test_a_late_commit_is_not_missed(stream):
    session, _ = build("running", timezone.now())
    stream.changed()
    Session.objects.filter(pk=session.pk).update(
        version=7, changed_at=timezone.now() - timedelta(seconds=30)
    )
    assert [s.pk for s in stream.changed()] == [session.pk]


def test_what_was_read_before_the_snapshot_never_replaces_it():
    session, _ = build("running", timezone.now())
    client = login(session.owner)

    @async_to_sync
    async def run():
        link, _ = await opened(path_of(session), client)
        layer, group = get_channel_layer("local"), live.session_group(session.pk)
        old, new = time.monotonic() - 60, time.monotonic()
        await layer.group_send(group, {"type": "live.push", "text": "old", "read_at": old})
        await layer.group_send(group, {"type": "live.push", "text": "new", "read_at": new})
        assert await link.receive_from(timeout=PATIENCE) == "new"
        await link.disconnect()

    run()


def test_the_list_gets_rows_and_a_new_order_when_sessions_come_and_go(stream):
    session, _ = build("booting", timezone.now())
    client, audience = login(session.owner), str(session.owner_id)

    @async_to_sync
    async def run():
        link, first = await opened("/ws/sessions/", client)
        assert f'id="row-{session.code}"' in first and 'id="totals"' in first
        await change(session)
        await stream.push()
        whole = [await link.receive_from(timeout=PATIENCE) for _ in range(2)]
        assert 'id="session-list"' in whole[1]
        await change(session, state=State.VERIFYING)
        await stream.push()
        row = await link.receive_from(timeout=PATIENCE)  # the totals are as they were
        assert 'id="totals"' not in row and 'hx-swap-oob="true"' in row
        assert f'id="row-{session.code}"' in row and 'id="session-list"' not in row
        ended = {"state": State.ENDED, "outcome": "ok", "ended_at": timezone.now()}
        await change(session, **ended)
        await stream.push()
        moved = [await link.receive_from(timeout=PATIENCE) for _ in range(2)]
        assert 'id="session-list"' in moved[1] and "Nothing is rented" in moved[1]
        await link.disconnect()

    run()
    assert live.watched[live.list_group(audience)] == 0


def moved(session: Session, state: str, **columns) -> None:
    touch(session, state=state, state_since=timezone.now(), **columns)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"state": State.RUNNING}, ["success", "is running"]),
        (
            {"state": State.STOPPING, "outcome": "failed", "reason": "ssh_refused"},
            ["error", "failed – SSH refused the key", "being destroyed"],
        ),
        ({"state": State.STOPPING, "outcome": "ok", "reason": "user"}, []),
        ({"state": State.ENDED, "outcome": "ok", "reason": "user"}, ["info", "has ended"]),
        ({"state": State.VERIFYING}, []),
    ],
    ids=["running", "failed", "stopping", "ended", "verifying"],
)
def test_ones_own_milestones_are_told_once(stream, columns, words):
    session, _ = build("booting", timezone.now())
    live.watched[live.owner_group(session.owner_id)] = 1
    ended = {"ended_at": timezone.now()} if columns["state"] == State.ENDED else {}
    moved(session, **columns, **ended)
    told = stream.collect()
    assert [push.group for push in told] == [live.owner_group(session.owner_id)] * bool(words)
    for push in told:
        assert all(word in push.text for word in [*words, f"/sessions/{session.pk}/"])
    touch(session)
    assert stream.collect() == []


@pytest.mark.parametrize("restarted", [False, True])
def test_that_an_announced_idle_stop_was_called_off_is_told_once(stream, restarted):
    session, _ = build("running", timezone.now(), idle_minutes=30)
    live.watched[live.owner_group(session.owner_id)] = 1
    now = timezone.now()
    touch(session, idle_warned_at=now, idle_stops_at=now + timedelta(minutes=10))
    [warning] = stream.collect()
    if restarted:  # browsers still show the warning
        stream.versions, stream.warned = None, set()
        assert stream.collect() == []
    touch(session, idle_warned_at=None, idle_stops_at=None)
    [news] = stream.collect()
    about = f'data-about="{session.code}"'  # one takes the place of the other
    assert "is idle and stops at" in warning.text and about in warning.text
    assert "the announced stop was called off" in news.text and about in news.text
    touch(session)
    assert stream.collect() == []


def test_an_idle_stop_that_comes_is_not_told_as_called_off(stream):
    now = timezone.now()
    soon = now + timedelta(minutes=1)
    session, _ = build("running", now, idle_minutes=30, idle_warned_at=now, idle_stops_at=soon)
    live.watched[live.owner_group(session.owner_id)] = 1
    stream.versions = None
    stream.collect()
    moved(session, State.STOPPING, outcome="ok", reason="idle")
    assert stream.collect() == []
    moved(session, State.ENDED, ended_at=timezone.now())
    assert ["has ended" in push.text for push in stream.collect()] == [True]


def test_what_happened_before_anybody_listened_is_not_told(stream):
    session, _ = build("booting", timezone.now())
    moved(session, State.RUNNING)
    stream.versions = None
    stream.collect()
    live.watched[live.owner_group(session.owner_id)] = 1
    touch(session)
    assert stream.collect() == []


def test_any_page_hears_of_ones_own_and_its_own_page_does_not(stream):
    session, _ = build("key", timezone.now())
    client, boss = login(session.owner), login(make_user(is_superuser=True))

    @async_to_sync
    async def run():
        own_page, _ = await opened(path_of(session), client)
        other_page, first = await opened("/ws/strip/", client)
        elsewhere, seen = await opened("/ws/strip/", boss)
        assert 'id="totals"' in first and 'id="beat"' in first and "session-list" not in first
        assert 'id="alarm"' not in first and 'id="alarm"' in seen and 'id="alarm-count"' in seen
        await database_sync_to_async(moved)(session, State.RUNNING)
        await stream.push()
        texts = [await own_page.receive_from(timeout=PATIENCE) for _ in range(2)]
        assert 'id="session-head"' in texts[0] and 'id="totals"' in texts[1]
        texts = [await other_page.receive_from(timeout=PATIENCE) for _ in range(2)]
        assert "is running" in texts[0] and "<b>1</b> running" in texts[1]
        assert "is running" not in await elsewhere.receive_from(timeout=PATIENCE)
        for link in (own_page, other_page, elsewhere):
            await link.disconnect()

    run()


def test_nobody_hears_of_somebody_elses_session(stream):
    mine, _ = build("running", timezone.now())
    other, _ = build("running", timezone.now())
    client = login(mine.owner)
    stream.changed()

    @async_to_sync
    async def run():
        link, first = await opened("/ws/sessions/", client)
        assert other.code not in first
        await change(other)
        await stream.push()
        assert await link.receive_nothing(timeout=0.2)
        await link.disconnect()

    run()


def test_who_sees_all_hears_of_all(stream):
    session, _ = build("running", timezone.now())
    client = login(make_user(is_superuser=True))

    @async_to_sync
    async def run():
        link, first = await opened("/ws/sessions/", client)
        assert session.code in first
        await change(session)
        await stream.push()
        assert 'id="totals"' in await link.receive_from(timeout=PATIENCE)
        assert session.code in await link.receive_from(timeout=PATIENCE)
        await link.disconnect()

    run()


def test_sqlite_tells_of_commits_of_others_only(tmp_path):
    database = tmp_path / "db.sqlite3"
    writer = sqlite3.connect(database, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE t (x)")
    look = commits.counter(str(database))
    assert look()  # the first look counts as news
    assert not look()
    writer.execute("INSERT INTO t VALUES (1)")
    assert look() and not look()
    writer.execute("SELECT * FROM t")
    assert not look()
    writer.close()


def test_the_stream_survives_a_failure_and_starts_again_when_dead(monkeypatch, caplog):
    monkeypatch.undo()
    calls = []

    async def follow(self):
        calls.append(1)
        if len(calls) < 3:
            raise OSError("database away")
        await asyncio.sleep(PATIENCE)

    monkeypatch.setattr(tailer.Tailer, "follow", follow)
    monkeypatch.setattr(tailer, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr(tailer, "_task", None)

    @async_to_sync
    async def run():
        tailer.ensure()
        first = tailer._task
        until = time.monotonic() + PATIENCE
        while len(calls) < 3 and time.monotonic() < until:
            await asyncio.sleep(0.01)
        tailer.ensure()
        assert tailer._task is first and len(calls) == 3
        first.cancel()
        await asyncio.sleep(0)
        tailer.ensure()
        assert tailer._task is not first
        tailer._task.cancel()

    run()
    assert "stumbled" in caplog.text
