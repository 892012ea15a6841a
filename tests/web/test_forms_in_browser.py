"""What a page says in a browser when the server refuses, fails or is not there.

No server runs: the page is rendered first, and every later answer is told by the test.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mimetypes import guess_type

import pytest
from django.contrib.auth.models import Permission
from django.contrib.staticfiles import finders
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Locator, Page, Route, WebSocketRoute, expect

from sessions import live
from sessions.models import Session
from tests.browser import chromium, heard
from tests.factories import make_user
from tests.web.conftest import BACKEND
from tests.web.scenes import build

HOST = "gpubroker.example.org"
HTMX = {"HX-Request": "true"}

pytestmark = pytest.mark.django_db


class Shown:
    """A page of which every request is answered from here."""

    def __init__(self, page: Page, path: str, html: str) -> None:
        self.page, self.html = page, html
        self.sockets: list[WebSocketRoute] = []
        self.answer: Callable[[Route], None] = Route.abort  # to every form
        page.route("**/*", self.serve)
        page.route_web_socket("**/*", lambda socket: self.sockets.append(socket))
        page.goto(f"http://{HOST}{path}")
        expect(page.locator("#connection")).to_have_text("live")

    def serve(self, route: Route) -> None:
        if route.request.method == "POST":
            return self.answer(route)
        name = route.request.url.partition("/static/")[2]
        if not name:
            return route.fulfill(body=self.html, content_type="text/html")
        return route.fulfill(path=finders.find(name), content_type=guess_type(name)[0])

    def answers(self, status: int, body: str = "", **headers: str) -> None:
        self.answer = lambda route: route.fulfill(
            status=status, body=body, headers=headers | {"Content-Type": "text/html"}
        )

    def push(self, html: str) -> None:
        self.sockets[-1].send(html)

    @property
    def toasts(self) -> Locator:
        return self.page.locator("#toasts .toast")


@contextmanager
def shown(path: str, html: str) -> Iterator[Shown]:
    with chromium(HOST) as watched:
        yield Shown(watched.page, path, html)
        watched.page.unroute_all(behavior="ignoreErrors")  # closing would wait for an open answer


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user, backend=BACKEND)
    return client


def running(**fields) -> Session:
    return build("running", timezone.now(), **fields)[0]


def test_no_form_of_a_session_fails_without_a_word(installed) -> None:
    session = running(idle_minutes=30)
    client, path = signed_in(session.owner), f"/sessions/{session.pk}/"
    html = client.get(path).content.decode()
    refused, saved = (
        client.post(f"{path}idle/", {"idle_minutes": minutes}, headers=HTMX).content.decode()
        for minutes in ("14", "15")
    )
    with shown(path, html) as view:
        dialog = view.page.locator("#idle-dialog")
        field = dialog.locator("#id_idle_minutes")
        view.page.locator("#idle-button").click()
        view.page.locator("#idle-form").evaluate("form => form.noValidate = true")
        field.fill("14")

        def save() -> None:
            dialog.get_by_role("button", name="Save").click()

        view.answers(422, refused)
        save()
        expect(dialog.get_by_role("alert")).to_contain_text("Between 15 and 720 minutes")
        expect(field).to_have_value("14")
        expect(field).to_be_focused()
        told = {429: "Too often. It is possible again in 20 s.", 403: "Not allowed.",
                404: "not here any more", 500: "did not work (500)"}  # fmt: skip
        for status, words in told.items():
            view.answers(status, **{"Retry-After": "20"})
            save()
            expect(view.toasts.last).to_contain_text(words)
            expect(dialog).to_be_visible()
        view.answer = Route.abort
        save()
        expect(view.toasts.last).to_contain_text("Look whether it was done before you ask again")
        expect(dialog).to_be_visible()
        view.answers(200, saved)
        save()
        expect(dialog).to_be_hidden()
        expect(dialog.get_by_role("alert", include_hidden=True)).to_have_count(0)
        expect(field).to_have_value("15")

        view.answer = Route.abort
        question = view.page.locator("#stop-dialog")
        view.page.locator("#stop-button").click()
        for _ in range(2):  # the question is still there to be answered again
            with view.page.expect_request(re.compile("/stop/")):
                question.get_by_role("button", name="Stop and destroy").click()


def test_who_may_only_look_picks_their_own_and_hears_what_was_called_off(installed) -> None:
    viewer = make_user("viewer")
    viewer.user_permissions.add(Permission.objects.get(codename="view_all_sessions"))
    own, other = running(owner=viewer), running(owner=make_user("bob"))
    html = signed_in(viewer).get("/sessions/").content.decode()
    again = live.list_push(live.ALL, timezone.now())
    mine, theirs = (f"#pick-{session.code}" for session in (own, other))
    now = timezone.now()
    own.idle_warned_at = own.idle_stops_at = now
    warning, news = (live.toast_html(own, what) for what in ("idle", live.CALLED_OFF))
    with shown("/sessions/", html) as view:
        page = view.page
        expect(page.locator(theirs)).to_be_hidden()
        page.locator(mine).check()
        expect(page.locator("#bulk-stop")).to_have_text("Stop 1 selected")
        page.locator("#session-list").evaluate("list => list.dataset.old = 1")
        view.push(again)
        expect(page.locator("#session-list")).not_to_have_attribute("data-old", "1")
        expect(page.locator(mine)).to_be_checked()
        expect(page.locator(theirs)).to_be_disabled()
        view.push(warning)
        expect(view.toasts).to_contain_text(["is idle and stops at"])
        view.push(news)  # takes the place of the warning
        heard(page, "the announced stop was called off")
        expect(view.toasts.filter(has_text="is idle")).to_have_count(0)
        page.get_by_label("Select all").check()
        page.locator("#bulk-stop").click()
        page.wait_for_url(f"**/sessions/stop/?s={own.code}")
