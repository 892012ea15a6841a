"""Who may open a websocket, and when it is closed again."""

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from sessions import consumers, live
from tests.factories import make_user
from tests.web.scenes import build
from tests.web.sockets import PATIENCE, closed_with, login, opened, path_of, socket

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("stream")]


@pytest.mark.parametrize("path", ["/ws/sessions/", "/ws/strip/"])
@pytest.mark.parametrize("origin", ["http://evil.example.org", ""])
def test_another_or_no_origin_is_refused(origin, path):
    client = login(make_user())

    @async_to_sync
    async def run():
        connected, _ = await socket(path, client, origin).connect(timeout=PATIENCE)
        assert not connected

    run()


@pytest.mark.parametrize("path", ["/ws/nothing/", "/", "/ws/sessions/not-an-id/"])
def test_an_address_that_nobody_knows_is_refused_and_breaks_nothing(path):
    @async_to_sync
    async def run():
        connected, _ = await socket(path, None).connect(timeout=PATIENCE)
        assert not connected

    run()


def test_without_a_login_and_for_foreign_sessions_it_closes():
    session, _ = build("running", timezone.now())
    stranger = login(make_user())

    @async_to_sync
    async def run():
        own = path_of(session)
        for path, client, code in (
            ("/ws/strip/", None, 4401),
            (own, None, 4401),
            (own, stranger, 4404),
        ):
            link = socket(path, client)
            await link.connect(timeout=PATIENCE)
            assert await closed_with(link) == code
            await link.disconnect()

    run()
    assert not +live.watched


def test_whoever_sends_is_shown_out():
    client = login(make_user())

    @async_to_sync
    async def run():
        link, _ = await opened("/ws/sessions/", client)
        await link.send_to(text_data="hello")
        assert await closed_with(link) == 1008
        await link.disconnect()

    run()


@pytest.mark.parametrize("loss", ["login", "password", "inactive"])
def test_a_lost_login_closes_the_socket_at_the_next_beat(monkeypatch, loss):
    monkeypatch.setattr(consumers, "BEAT_SECONDS", 0.01)
    user = make_user(password="old")
    client = login(user)

    @database_sync_to_async
    def lose():
        if loss == "login":
            client.session.flush()
        elif loss == "password":
            user.set_password("new")
            user.save()
        else:
            user.is_active = False
            user.save()

    @async_to_sync
    async def run():
        link, _ = await opened("/ws/sessions/", client)
        assert 'id="beat"' in await link.receive_from(timeout=PATIENCE)
        await lose()
        assert await closed_with(link) == 4401
        await link.disconnect()

    run()


def test_a_lost_permission_closes_the_socket_at_the_next_beat(monkeypatch):
    monkeypatch.setattr(consumers, "BEAT_SECONDS", 0.01)
    session, _ = build("running", timezone.now())
    viewer = make_user()
    viewer.user_permissions.add(Permission.objects.get(codename="view_all_sessions"))
    client = login(viewer)

    @async_to_sync
    async def run():
        link, _ = await opened(path_of(session), client)
        await database_sync_to_async(viewer.user_permissions.clear)()
        assert await closed_with(link) == 4404
        await link.disconnect()

    run()


def test_signing_out_closes_the_sockets_of_that_login_alone():
    user = make_user()
    here, elsewhere = login(user), login(user)

    @async_to_sync
    async def run():
        link, _ = await opened("/ws/sessions/", here)
        other, _ = await opened("/ws/sessions/", elsewhere)
        await database_sync_to_async(here.post)(reverse("logout"))
        assert await closed_with(link) == 4401
        assert await other.receive_nothing(timeout=0.1)
        await link.disconnect()
        await other.disconnect()

    run()
