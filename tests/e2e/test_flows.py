"""Sign in, filter, launch, copy the ssh command, extend, stop: by mouse, by keyboard, by touch."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import Watched, heard, let_in, started, watched
from tests.processes import until
from tests.world import World

from .ways import Way, tab_to, way, ways

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
window.jumps = [];
const place = box => `${box.x},${box.y} ${box.width}x${box.height}`;
const source = ({node, previousRect, currentRect}) => [node?.id || node?.className ||
    node?.nodeName, place(previousRect), place(currentRect)].join(" > ");
new PerformanceObserver(list => {
    for (const {startTime, value, sources, hadRecentInput} of list.getEntries())
        if (!hadRecentInput) jumps.push([startTime, value, ...sources.map(source)]);
}).observe({type: "layout-shift", buffered: true});
document.addEventListener("click", event => {
    if (event.isTrusted && event.detail && !event.target.control)  // a label clicks its box
        localStorage.clicks = Number(localStorage.clicks || 0) + 1;
}, true);
"""
JUMPS = 0.1


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


Visits = Callable[[Way], Watched]


@pytest.fixture
def visits(world: World, browser: Browser) -> Iterator[Visits]:
    """Opens a page in that way; at the end, none has seen what a clean page does not do."""
    permissions = ["clipboard-read", "clipboard-write"]
    with ExitStack() as stack:
        opened: list[Watched] = []

        def visit(way: Way) -> Watched:
            address, options = f"127.0.0.1:{world.port}", {"permissions": permissions}
            opened.append(stack.enter_context(watched(browser, address, **options, **way.context)))
            opened[-1].page.context.add_init_script(COUNTS)
            return opened[-1]

        yield visit
        assert [seen.troubles for seen in opened] == [[] for _ in opened]


@pytest.fixture
def visit(visits: Visits, way: Way) -> Watched:
    return visits(way)


def running_session(world: World, page: Page) -> str:
    """Its page says by itself that it runs, and did not jump under the reader's eyes."""
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/$"))
    expect(page.locator(".pill.state")).to_have_text("Running")
    calm(page)
    return UUID(page.url.strip("/").rpartition("/")[2]).hex


def calm(page: Page) -> None:
    """It did not jump under the reader's eyes: no burst of shifts (pauses under 1 s, 5 s in all,
    as browsers define the cumulative layout shift) adds up to more than it may."""
    jumps, bursts = page.evaluate("window.jumps"), []
    for at, value, *_ in jumps:
        if not bursts or at - bursts[-1][-1][0] >= 1000 or at - bursts[-1][0][0] >= 5000:
            bursts.append([])
        bursts[-1].append((at, value))
    worst = max((sum(value for _, value in burst) for burst in bursts), default=0)
    assert worst <= JUMPS, "\n".join(map(str, jumps))


def copied(page: Page) -> None:
    heard(page, "Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    expect(page.locator("#ssh-command")).to_have_text(command)
    assert command.startswith("ssh ")


def extended(world: World, pk: str, before: str) -> None:
    until("it ends later", lambda: world.session(pk)["expires_at"] > before)


def gone(page: Page) -> None:
    expect(page.locator(".alert h2")).to_have_text("Confirmed gone")
    calm(page)


def fill_in(page: Page, welcome: tuple[str, str]) -> None:
    page.get_by_label("Username").fill(welcome[0])
    page.get_by_label("Password").fill(PASSWORD)


def signed_in(page: Page) -> None:
    expect(page.locator("#results-title")).to_be_visible()
    page.wait_for_load_state()  # the scripts as well


@ways("mouse-1440-dark")
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
        calm(beside)


@ways("keyboard-1440-light")
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


def rent(world: World, welcome: tuple[str, str], page: Page, way: Way, gpu: str) -> Iterator[None]:
    """Pauses wherever a machine takes its time, so that several can be under way at once."""
    page.goto(f"{world.base}/login/")
    way.write(page.get_by_label("Username"), welcome[0])
    way.write(page.get_by_label("Password"), PASSWORD)
    way.press(page.get_by_role("button", name="Sign in"))
    signed_in(page)
    if way.narrow:
        way.press(page.get_by_role("button", name="Filters"))
    way.write(page.get_by_label("Find a GPU"), gpu)
    way.mark(page.get_by_role("checkbox", name=gpu).first)
    expect(page.locator("#results tbody tr").filter(has_not_text=gpu)).to_have_count(0)
    if way.narrow:
        way.press(page.get_by_role("button", name="Show the offers"))
        expect(page.locator("#filters")).to_be_hidden()
    way.press(page.get_by_role("link", name=re.compile(f"^Launch 1 {gpu}")).first)
    way.press(page.get_by_role("button", name="Launch"))
    yield

    pk = running_session(world, page)
    way.press(page.locator("#copy-ssh-command"))
    copied(page)
    before = world.session(pk)["expires_at"]
    way.press(page.locator("#extend-button"))
    extended(world, pk, before)
    way.press(page.locator("#stop-button"))
    way.press(page.get_by_role("button", name="Stop and destroy"))
    expect(page.locator(".pill.state")).not_to_have_text("Running")
    page.evaluate("jumps.length = 0")  # the answer to a press may move things, however late
    yield

    gone(page)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


OTHERS = {
    "mouse-1440-light": "RTX 3090",
    "mouse-390-dark": "RTX A4000",
    "keyboard-1440-dark": "RTX A6000",
    "keyboard-390-light": "RTX 4090",
    "touch-390-dark": "RTX A5000",
    "touch-390-light": "RTX 5090",
}


def test_in_all_other_ways_at_once(world: World, welcome: tuple[str, str], visits: Visits) -> None:
    flows = {}
    for name, gpu in OTHERS.items():
        page = visits(way(name)).page
        flows[name] = rent(world, welcome, page, way(name), gpu)
    for _ in ("launched", "stopped", "gone"):
        for name, flow in flows.items():
            try:
                next(flow, None)
            except Exception as error:
                error.add_note(f"in the way {name}")
                raise


ABOVE = """() => {
    const [notice, steps] = ["notice", "steps"].map(name =>
        document.querySelector(`.session-${name}`).getBoundingClientRect());
    return notice.bottom <= steps.top;
}"""
READERS = ("keyboard-1440-light", "touch-390-dark")


def reading(world: World, visits: Visits, name: str, pk: str) -> Page:
    page = visits(way(name)).page
    let_in(page.context, world)
    page.goto(f"{world.base}/sessions/{UUID(pk)}/")
    return page


def expire(world: World, pk: str) -> None:
    """Hours of a session are real ones, whatever the clock."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    sql = "UPDATE gpu_sessions_session SET expires_at = ?, due_at = ? WHERE id = ?"
    world.write(sql, now, now, pk)


def headed(page: Page, pill: str, headline: str) -> None:
    expect(page.locator(".pill.state")).to_have_text(pill)
    expect(page.locator(".alert h2")).to_have_text([headline] if headline else [])
    calm(page)


def read(page: Page, each: Way) -> None:
    """The notice goes to its place in the page."""
    expect(page.locator(".session-notice")).to_be_in_viewport(ratio=1)
    each.press(page.get_by_role("button", name="Got it"))
    expect(page.locator(".session")).not_to_have_class(re.compile("news"))
    expect(page.locator(".alert")).to_be_focused()
    assert page.evaluate(ABOVE), "the notice is not where it belongs"
    page.evaluate("jumps.length = 0")  # the press moved things


def test_news_that_nobody_asked_for_push_nothing_away(
    world: World, welcome: tuple[str, str], visits: Visits
) -> None:
    """They lie over the page until they are read, for who saw the start and who came later."""
    world.post("/login/", username=welcome[0], password=PASSWORD)
    pk = world.launch(*world.offers("RTX 4090", 1))
    pages = [(way(name), reading(world, visits, name, pk)) for name in READERS]
    world.wait_state(pk, "running")
    pages += [(way(name), reading(world, visits, name, pk)) for name in READERS]
    for _, page in pages:
        headed(page, "Running", "")
    label = world.attempts(pk)[0]["label"]
    world.fault("ssh", "ssh_refused", label=label)
    for each, page in pages:
        headed(page, "Unreachable", "SSH does not answer")
        read(page, each)
    world.fault("ssh", "ssh_refused", label=label, seconds=1)  # in place of the endless one
    for _, page in pages:
        headed(page, "Running", "")
    expire(world, pk)
    for _, page in pages:
        headed(page, "Ended", "Confirmed gone")
        page.reload()
        expect(page.locator(".alert h2")).to_have_text("Confirmed gone")
        expect(page.get_by_role("button", name="Got it")).to_be_hidden()


@ways("keyboard-1440-light")
def test_the_help_holds_the_focus_and_switches_single_keys_off(
    world: World, welcome: tuple[str, str], visit: Watched
) -> None:
    page = visit.page
    page.goto(f"{world.base}/login/?next=/keys/")
    fill_in(page, welcome)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{world.base}/keys/")  # loaded: the scripts as well
    button = page.locator("header button[data-shortcuts]").first
    shortcuts = page.get_by_role("dialog", name="Keyboard shortcuts")
    button.press("Enter")
    expect(shortcuts).to_be_visible()
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
