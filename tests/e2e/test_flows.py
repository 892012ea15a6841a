"""Sign in, filter, launch, copy the ssh command, extend, stop: by mouse, by keyboard, by touch."""

import re
import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import PATIENCE, Watched, chromium, heard
from tests.world import World, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("flows")]

PASSWORD = "a long enough password"
WELCOME = f"""
from django.contrib.auth import get_user_model
from gpubroker.accounts import signin_path
user = get_user_model().objects.get()
user.set_password({PASSWORD!r})
user.save()
print("path", user.get_username(), signin_path(user))
"""
# Clicks with a pointer (Enter and Space have no detail), and how much of the page has jumped.
COUNTS = """
window.jumped = 0;
new PerformanceObserver(list => {
    for (const shift of list.getEntries())
        if (!shift.hadRecentInput) window.jumped += shift.value;
}).observe({type: "layout-shift", buffered: true});
document.addEventListener("click", event => {
    if (event.isTrusted && event.detail && !event.target.control)  // a label clicks its box
        localStorage.clicks = Number(localStorage.clicks || 0) + 1;
}, true);
"""
JUMPS = 0.1
# What a person who only has a keyboard sees of where they are; null at the end of the page.
SEEN = """() => {
    const here = document.activeElement;
    if (here === document.body) return null;
    const drawn = here.matches(".segments input") ? here.nextElementSibling : here;
    const outlined = style => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const ring = outlined(getComputedStyle(drawn)) || outlined(getComputedStyle(drawn, "::after"));
    const box = drawn.getBoundingClientRect();
    const inside = box.bottom > 0 && box.top < innerHeight && box.width > 0;
    return {what: here.outerHTML.slice(0, 120), ring, inside};
}"""


@pytest.fixture(scope="module")
def welcome(world: World) -> tuple[str, str]:
    """A user name (the password is known), and the path of a link that signs in once."""
    command = [sys.executable, "-m", "django", "shell", "-v0", "-c", WELCOME]
    done = subprocess.run(
        command, env=world.environment, check=True, capture_output=True, text=True, timeout=60
    )
    found = re.search(r"^path (\S+) (\S+)$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return found[1], found[2]


@pytest.fixture
def visit(world: World, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A browser of that size; at the end, nothing that a clean page does not do was seen."""
    permissions = ["clipboard-read", "clipboard-write"]
    with chromium(f"127.0.0.1:{world.port}", permissions=permissions, **request.param) as watched:
        watched.page.context.add_init_script(COUNTS)
        yield watched
        assert watched.troubles == []


def running_session(world: World, page: Page) -> str:
    """Its page says by itself that it runs, and did not jump under the reader's eyes."""
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/$"))
    expect(page.locator(".pill.state")).to_have_text("Running", timeout=PATIENCE)
    assert page.evaluate("window.jumped") <= JUMPS
    return UUID(page.url.strip("/").rpartition("/")[2]).hex


def copied(page: Page) -> None:
    heard(page, "Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    expect(page.locator("#ssh-command")).to_have_text(command)
    assert command.startswith("ssh ")


def extended(world: World, pk: str, before: str) -> None:
    until("it ends later", lambda: world.session(pk)["expires_at"] > before)


def gone(page: Page) -> None:
    expect(page.locator(".alert h2")).to_have_text("Confirmed gone", timeout=PATIENCE)
    assert page.evaluate("window.jumped") <= JUMPS


def fill_in(page: Page, welcome: tuple[str, str]) -> None:
    page.get_by_label("Username").fill(welcome[0])
    page.get_by_label("Password").fill(PASSWORD)


def signed_in(page: Page) -> None:
    expect(page.locator("#results-title")).to_be_visible()
    page.wait_for_load_state()  # the scripts as well


DESK = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"}


@pytest.mark.parametrize("visit", [DESK], ids=["desk"], indirect=True)
def test_by_mouse(world: World, welcome: tuple[str, str], visit: Watched) -> None:
    """From the link to a copied command in less than eight clicks, without any instruction."""
    page = visit.page
    page.goto(world.base + welcome[1])
    page.get_by_role("button", name="Sign in").click()
    signed_in(page)
    stock, rentals = page.context.new_page(), page.context.new_page()
    stock.goto(world.base)
    rentals.goto(f"{world.base}/sessions/")
    page.bring_to_front()
    page.get_by_role("checkbox", name="RTX 3090").first.check()
    expect(page.locator("#results tbody tr").filter(has_not_text="RTX 3090")).to_have_count(0)
    page.get_by_role("link", name=re.compile("^Launch 1 RTX 3090")).first.click()
    page.get_by_role("button", name="Launch").click()
    pk = running_session(world, page)
    page.locator("#copy-ssh-command").click()
    copied(page)
    assert int(page.evaluate("localStorage.clicks")) < 8

    before = world.session(pk)["expires_at"]
    page.locator("#extend-button").click()
    extended(world, pk, before)
    page.locator("#stop-button").click()
    page.get_by_role("button", name="Stop and destroy").click()
    gone(page)
    expect(rentals.locator("#session-list")).to_contain_text("Nothing is rented")
    for beside in (stock, rentals):  # news came in there all the time
        assert beside.evaluate("window.jumped") <= JUMPS


def tab_to(page: Page, wanted: Locator, key: str = "Tab", most: int = 80) -> None:
    """Key by key; at each stop, where the focus is can be seen.

    Each look is one step in the page: an update may replace any element between two of them.
    """
    expect(wanted).to_be_visible()
    focused = wanted.and_(page.locator(":focus"))
    stops = []
    for _ in range(most):
        page.keyboard.press(key)
        seen = page.evaluate(SEEN)
        assert seen is None or (seen["ring"] and seen["inside"]), seen
        if focused.count():
            return
        stops.append(seen and seen["what"])
    raise AssertionError(f"{wanted} was not reached by {most} times {key}: {stops}")


LIGHT = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"}


@pytest.mark.parametrize("visit", [LIGHT], ids=["desk"], indirect=True)
def test_by_keyboard(world: World, welcome: tuple[str, str], visit: Watched) -> None:
    page, keys = visit.page, visit.page.keyboard
    page.goto(f"{world.base}/login/")
    keys.type(welcome[0])  # the field has the focus
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    signed_in(page)

    keys.press("?")
    shortcuts = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(shortcuts.get_by_text("Next row")).to_be_visible()
    keys.press("Escape")
    expect(shortcuts).to_be_hidden()
    keys.press("/")
    keys.type("a4000")
    tab_to(page, page.get_by_role("checkbox", name="RTX A4000"))
    keys.press("Space")
    expect(page.locator("#results tbody tr").filter(has_not_text="A4000")).to_have_count(0)
    keys.press("j")
    expect(page.get_by_role("link", name=re.compile("^Launch 1 RTX A4000")).first).to_be_focused()
    keys.press("Enter")
    tab_to(page, page.get_by_role("button", name="Launch"))
    keys.press("Enter")

    pk = running_session(world, page)
    tab_to(page, page.locator("#copy-ssh-command"))
    keys.press("Enter")
    copied(page)
    before = world.session(pk)["expires_at"]
    tab_to(page, page.locator("#extend-button"), "Shift+Tab")
    keys.press("Enter")
    extended(world, pk, before)
    tab_to(page, page.locator("#stop-button"), most=3)
    keys.press("Enter")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    tab_to(page, page.get_by_role("button", name="Stop and destroy"), most=1)
    keys.press("Enter")
    gone(page)
    assert page.evaluate("localStorage.clicks") is None


PHONE = {
    "viewport": {"width": 390, "height": 844}, "color_scheme": "dark",
    "has_touch": True, "is_mobile": True, "device_scale_factor": 2,
}  # fmt: skip


@pytest.mark.parametrize("visit", [PHONE], ids=["phone"], indirect=True)
def test_by_touch(world: World, welcome: tuple[str, str], visit: Watched) -> None:
    page = visit.page
    page.goto(f"{world.base}/login/")
    fill_in(page, welcome)
    page.get_by_role("button", name="Sign in").tap()
    signed_in(page)
    page.get_by_role("button", name="Filters").tap()
    page.get_by_label("Find a GPU").fill("a5000")
    page.get_by_role("checkbox", name="RTX A5000").tap()
    expect(page.locator("#results tbody tr").filter(has_not_text="A5000")).to_have_count(0)
    page.get_by_role("button", name="Show the offers").tap()
    expect(page.locator("#filters")).to_be_hidden()
    page.get_by_role("link", name=re.compile("^Launch 1 RTX A5000")).first.tap()
    page.get_by_role("button", name="Launch").tap()

    pk = running_session(world, page)
    page.locator("#copy-ssh-command").tap()
    copied(page)
    before = world.session(pk)["expires_at"]
    page.locator("#extend-button").tap()
    extended(world, pk, before)
    page.locator("#stop-button").tap()
    page.get_by_role("button", name="Stop and destroy").tap()
    gone(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("visit", [LIGHT], ids=["desk"], indirect=True)
def test_the_help_holds_the_focus_and_switches_single_keys_off(
    world: World, welcome: tuple[str, str], visit: Watched
) -> None:
    page = visit.page
    page.goto(f"{world.base}/login/?next=/keys/")
    fill_in(page, welcome)
    page.keyboard.press("Enter")
    button = page.locator("header button[data-shortcuts]").first
    shortcuts = page.get_by_role("dialog", name="Keyboard shortcuts")
    button.press("Enter")
    expect(shortcuts.get_by_text("Next row")).to_have_count(0)  # no rows on this page
    for _ in range(6):
        page.keyboard.press("Tab")
        where = (
            "document.activeElement.closest('dialog, body').id || document.activeElement.tagName"
        )
        assert page.evaluate(where) in ("shortcuts", "BODY")  # or the browser's own controls
    shortcuts.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    page.keyboard.press("?")
    expect(shortcuts).to_be_hidden()
    button.press("Enter")
    shortcuts.get_by_role("checkbox").check()
    shortcuts.get_by_role("button", name="Close").press("Enter")
    page.keyboard.press("?")
    expect(shortcuts).to_be_visible()
