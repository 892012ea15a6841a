"""Pages that stay open while the web server dies, sleeps, or the laptop does."""

import os
import re
import signal
from collections.abc import Iterator
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from tests.browser import PATIENCE, chromium, heard, let_in
from tests.processes import until
from tests.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("reconnect")]


@pytest.fixture(scope="module")
def pages(world: World) -> Iterator[tuple[Page, Page, Page]]:
    """A session's page, the list and the offers of one person; the session's path is known."""
    offer = world.offers("RTX 3090")[0]
    pk = world.launch(offer)
    world.wait_state(pk, "running")
    with chromium(f"127.0.0.1:{world.port}", viewport={"width": 1280, "height": 900}) as watched:
        context = watched.page.context
        let_in(context, world)
        opened = (watched.page, context.new_page(), context.new_page())
        for page, path in zip(
            opened, (f"/sessions/{UUID(pk)}/", "/sessions/", "/keys/"), strict=True
        ):
            page.goto(world.base + path)
            page.evaluate("window.loadedOnce = true")
            says(page, "live")
        yield opened


def says(page: Page, word: str | re.Pattern[str]) -> None:
    expect(page.locator("#connection")).to_have_text(word, timeout=PATIENCE)


def never_reloaded(*pages: Page) -> None:
    for page in pages:
        assert page.evaluate("window.loadedOnce") is True


def only_session(world: World) -> str:
    [pk] = world.states()
    return pk


def test_a_laptop_that_slept_connects_again(world: World, pages: tuple[Page, ...]) -> None:
    """The server stands still, as if the network had gone without a word; the clock has not."""
    _, rentals, other = pages
    for page in (rentals, other):
        page.evaluate("""
            const late = Date.now;
            Date.now = () => late() + 120_000; // it was asleep for two minutes
        """)
    pid = world.parts["web"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for page in (rentals, other):
            says(page, re.compile("reconnecting|offline"))
    finally:
        os.kill(pid, signal.SIGCONT)
    for page in (rentals, other):
        says(page, "live")
    never_reloaded(rentals, other)


def test_a_page_never_listens_twice_nor_tells_twice(world: World, pages: tuple[Page, ...]) -> None:
    """As when a try that was planned comes while another one is still under way."""
    page = pages[0].context.new_page()
    page.goto(world.base + "/keys/")
    says(page, "live")
    page.evaluate("""
        for (const about of ["a", "b", "a"])
            toasts.innerHTML += `<div class="toast warning" data-about="${about}"></div>`;
        document.dispatchEvent(new Event("htmx:wsAfterMessage"));
    """)
    expect(page.locator("#toasts .toast")).to_have_count(2)  # the newest word on each
    tops = "[...toasts.children].map(toast => toast.offsetTop)"
    before = page.evaluate(tops)
    page.locator("#toasts button").first.click()
    assert page.evaluate(tops) == before  # nothing moves while it is read
    page.evaluate("document.dispatchEvent(new CustomEvent('toast', {detail: {text: 'c'}}))")
    expect(page.locator("#toasts .toast").first).to_contain_text("c")  # in the free place
    expect(page.locator("#toasts .toast")).to_have_count(2)
    for _ in range(2):
        page.locator("#toasts .toast:not(.gone) button").first.click()
    expect(page.locator("#toasts .toast")).to_have_count(0)
    page.evaluate("""
        const address = `ws://${location.host}/ws/strip/`;
        window.opened = [1, 2, 3].map(() => htmx.createWebSocket(address));
    """)
    states = "opened.map((socket) => socket.readyState)"  # 1 = open, 3 = closed
    until("one is open", lambda: page.evaluate(states) == [3, 3, 1])
    page.close()


def test_a_killed_server_comes_back_and_pages_tell_the_truth(
    world: World, pages: tuple[Page, ...]
) -> None:
    detail, rentals, other = pages
    pk = only_session(world)
    code = world.session(pk)["code"]
    rentals.locator(f"#pick-{code}").check()
    expect(rentals.locator("#bulk-stop")).to_have_text("Stop 1 selected")
    other.locator("#strip-running").focus()
    world.kill("web")
    for page in pages:
        says(page, re.compile("reconnecting|offline"))
    says(other, "offline")  # it asked, and there was no answer
    end = "UPDATE gpu_sessions_session SET expires_at = state_since WHERE id = ?"
    world.write(end, pk)
    world.wait_state(pk, "ended")
    world.start_web()
    for page in pages:
        says(page, "live")
    expect(detail.locator(".alert h2")).to_have_text("Confirmed gone")
    expect(detail).to_have_title(re.compile("^Ended|^Confirmed|gone"))
    expect(rentals.locator("#session-list")).to_contain_text("Nothing is rented")
    expect(rentals.locator("#bulk")).to_be_hidden()
    for page in pages:
        expect(page.locator("#totals")).to_have_count(1)
        expect(page.locator("#connection")).to_have_count(1)
        expect(page.locator("#totals")).to_contain_text("0 running")
    expect(detail.locator("#session-head")).to_have_count(1)
    expect(other.locator("#strip-running")).to_be_focused()  # although the totals were replaced
    never_reloaded(*pages)
    assert all("/ws/" not in line for line in world.log_lines("Traceback"))


def test_several_are_stopped_by_keyboard_and_other_pages_are_told(
    world: World, pages: tuple[Page, ...]
) -> None:
    _, rentals, other = pages
    offers = world.offers("RTX A4000", 2, "vastai")
    for offer in offers:
        world.launch(offer)
    boxes = rentals.locator("#session-list input[name=s]")
    expect(boxes).to_have_count(2, timeout=PATIENCE)
    boxes.first.focus()
    rentals.keyboard.press("Space")
    at = rentals.evaluate("document.activeElement.id")
    expect(rentals.locator(".rentals .pill", has_text="Running")).to_have_count(2)
    expect(rentals.locator(f"#{at}")).to_be_focused()  # both rows were replaced meanwhile
    expect(boxes.first).to_be_checked()
    expect(boxes.last).not_to_be_checked()
    heard(other, "is running")
    rentals.get_by_label("Select all").check()
    expect(rentals.locator("#picked")).to_have_text("2 selected")
    rentals.locator("#bulk-stop").press("Enter")
    expect(rentals.locator("h1")).to_have_text("Stop 2 sessions?")
    expect(rentals.locator("h1")).to_be_focused()
    rentals.get_by_role("button", name="Stop and destroy 2").press("Enter")
    expect(rentals.locator("h1")).to_have_text("2 of 2 sessions asked to stop")
    expect(rentals.locator("h1")).to_be_focused()
    expect(rentals.locator(".verdict", has_text="stop asked")).to_have_count(2)
    world.wait_states(world.states(), "ended")
    heard(other, "has ended")
    assert world.violations() == []
