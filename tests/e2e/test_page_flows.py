"""What people do on the pages, each by pointer and by keyboard, where no worker has to answer."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import Watched, heard, let_in, started, watched
from tests.processes import Template, until
from tests.world import World

from .ways import Way, tab_to, ways

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("page flows")]

ORPHANS = 9
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU2Nzg5"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[World]:
    """Rows and the web server alone."""
    with World(tmp_path_factory.mktemp("still") / "w", template, clock=1) as world:
        (world.data / "staticfiles").symlink_to(template.data / "staticfiles")
        code = f"from tests.e2e.seeded import seed; seed({ORPHANS})"
        command = [sys.executable, "-m", "django", "shell", "-v0", "-c", code]
        subprocess.run(command, env=world.environment, check=True, timeout=120)
        world.start_web()
        until("the server answers", world.answers)
        world.sign_in(template.signin)
        yield world


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture
def visit(world: World, browser: Browser, way: Way) -> Iterator[Watched]:
    """Signed in; at the end, nothing that a clean page does not do was seen."""
    with watched(browser, f"127.0.0.1:{world.port}", **way.context) as seen:
        let_in(seen.page.context, world)
        yield seen
        assert seen.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert seen.troubles == []


def rows(page: Page) -> Locator:
    return page.locator("#results tbody tr")


def filtered(page: Page, way: Way, box: str) -> None:
    """By that box of the filters, which a narrow window keeps in a sheet."""
    if way.narrow:
        way.press(page.get_by_role("button", name="Filters"))
    way.mark(page.get_by_role("checkbox", name=box))
    if way.narrow:
        expect(page.locator("#filters")).to_be_visible()
        way.press(page.get_by_role("button", name="Show the"))
        expect(page.locator("#filters")).to_be_hidden()


@ways("mouse-1440-light", "keyboard-1440-dark", "touch-390-dark", "keyboard-390-light")
def test_filters_stay_and_go(world: World, visit: Watched, way: Way) -> None:
    page = visit.page
    page.goto(world.base)
    filtered(page, way, "H100 SXM")
    expect(rows(page)).to_have_count(6)
    way.press(page.get_by_role("link", name="Launch 1 H100 SXM").first)
    expect(page.get_by_role("button", name="Launch", exact=True)).to_be_visible()
    page.go_back()
    expect(rows(page)).to_have_count(6)
    box = page.locator("input[name=gpu][value='H100 SXM']")  # also inside a closed sheet
    expect(box).to_be_checked()
    way.press(page.get_by_role("link", name="Remove the filter H100 SXM"))
    expect(rows(page)).to_have_count(18)
    expect(box).not_to_be_checked()


def pick(page: Page, way: Way, number: int) -> None:
    """The row of that number, from 0, into the comparison."""
    if way.hand == "keyboard":
        go = rows(page).nth(number).get_by_role("link", name="Launch")
        page.keyboard.press("j")
        expect(go).to_be_focused()
        page.keyboard.press("x")
    else:
        way.press(rows(page).nth(number).locator(".pick"))
    expect(page.locator(".tray li")).to_have_count(number + 1)


@ways("keyboard-1440-light", "touch-390-dark")
def test_offers_are_compared(world: World, visit: Watched, way: Way) -> None:
    page = visit.page
    page.goto(world.base)
    for number in range(4):
        pick(page, way, number)
    way.press(page.locator(".tray .chip").first)
    expect(page.locator(".tray li")).to_have_count(3)
    way.press(page.get_by_role("link", name="Compare 3"))
    expect(page.get_by_role("heading", name="Compare offers")).to_be_visible()
    expect(page.get_by_role("link", name="Launch")).to_have_count(3)
    way.press(page.get_by_role("link", name="Remove").first)
    expect(page.get_by_role("link", name="Launch")).to_have_count(2)
    way.press(page.get_by_role("link", name="← Offers"))
    expect(page.locator(".tray li")).to_have_count(2)


@ways("mouse-1440-dark", "keyboard-390-dark")
def test_prices_by_gpu(world: World, visit: Watched, way: Way) -> None:
    page = visit.page
    page.goto(world.base)
    way.press(page.get_by_role("navigation", name="View").get_by_role("link").last)
    expect(rows(page)).to_have_count(3)
    way.press(page.get_by_role("link", name=re.compile("Prices of L40S")))
    expect(page.get_by_role("heading", name="What L40S costs")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Vast.ai"))).to_be_visible()
    way.press(page.locator("summary", has_text="By day, as a table"))
    expect(page.get_by_role("columnheader", name="Median")).to_be_visible()
    way.press(page.get_by_role("link", name="← Offers of L40S"))
    expect(rows(page)).to_have_count(6)


def act(page: Page, way: Way, machine: str, what: str) -> Locator:
    """The unfolded form for that machine."""
    case = page.locator("#orphans .case").filter(has=page.get_by_text(machine, exact=True)).first
    details = case.locator("details.act").filter(has_text=f"{what}")
    way.press(details.locator("summary"))
    form = details.locator("form")
    expect(form).to_be_visible()
    return form


ORPHANS_OF = {"mouse": ("700", "701", "702"), "keyboard": ("703", "704", "705")}
ORPHANS_OF |= {"touch": ("706", "707", "708")}


@ways("mouse-1440-light", "keyboard-1440-dark", "touch-390-light")
def test_orphans_are_decided_on(world: World, visit: Watched, way: Way) -> None:
    page = visit.page
    ignored, destroyed, adopted = ORPHANS_OF[way.hand]
    page.goto(f"{world.base}/attention/")
    form = act(page, way, ignored, "Ignore…")
    way.write(form.get_by_label("Reason"), "a demo runs on it")
    way.press(form.get_by_role("button", name="Ignore it"))
    heard(page, "Ignored")
    expect(page.get_by_text("“a demo runs on it”").first).to_be_visible()

    form = act(page, way, destroyed, "Destroy now…")
    way.mark(form.get_by_role("checkbox"))
    way.press(form.get_by_role("button", name="Destroy it"))
    heard(page, "It is destroyed as soon as")
    sql = "SELECT hurried_at FROM gpu_sessions_sighting WHERE instance_id = ?"
    assert world.rows(sql, destroyed)[0]["hurried_at"]

    form = act(page, way, adopted, "Adopt…")
    way.mark(form.get_by_role("checkbox"))
    way.write(form.get_by_label("Reason"), "the row was lost")
    way.press(form.get_by_role("button", name="Adopt it"))
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/$"))
    heard(page, "Adopted")


@ways("mouse-1440-dark", "keyboard-1440-light", "touch-390-light")
def test_the_audit_is_searched(world: World, visit: Watched, way: Way) -> None:
    page = visit.page
    page.goto(f"{world.base}/audit/")
    events = page.locator("ol.events > li")
    expect(events).to_have_count(50)
    older = page.get_by_role("link", name="Older events")
    if way.hand == "keyboard":
        tab_to(page, older, "Shift+Tab")  # from the end of the page
        page.keyboard.press("Enter")
    else:
        way.press(older)
    expect(page.get_by_text("those before")).to_be_visible()
    page.goto(f"{world.base}/audit/")
    filtered(page, way, "worker")
    expect(page.get_by_role("link", name=re.compile("^Remove the filter"))).to_have_count(1)
    way.press(events.first.locator("summary"))
    expect(events.first.get_by_text("Hash", exact=True)).to_be_visible()
    for name in ("CSV", "JSON"):
        with page.expect_download() as download:
            way.press(page.get_by_role("link", name=name))
        text = Path(download.value.path()).read_text()
        assert "session.extend" in text
    assert {event["actor"] for event in json.loads(text)} == {"worker"}


@ways("mouse-390-dark", "keyboard-1440-light")
def test_a_provider_is_tested(world: World, visit: Watched, way: Way) -> None:
    page = visit.page
    page.goto(f"{world.base}/providers/")
    way.press(page.get_by_role("button", name="Test now"))
    expect(page.get_by_role("button", name="Testing…")).to_be_visible()
    if way.hand == "keyboard":
        expect(page.get_by_role("button", name="Testing…")).to_be_focused()
    world.write("UPDATE providers_providerhealth SET account_asked_at = NULL")  # as the worker does
    heard(page, "Vast.ai accepts the key.")
    expect(page.get_by_role("button", name="Test now")).to_be_visible()
    if way.hand == "keyboard":
        expect(page.get_by_role("button", name="Test now")).to_be_focused()


@ways("mouse-1440-dark", "keyboard-390-dark", "touch-390-light")
def test_a_key_comes_and_goes(world: World, visit: Watched, way: Way) -> None:
    page = visit.page
    page.goto(f"{world.base}/keys/")
    field = page.get_by_label("Public key")
    way.write(field, "no key at all")
    way.press(page.get_by_role("button", name="Add the key"))
    expect(page.locator(".field.wrong")).to_have_count(1)
    described = page.locator(".field.wrong [aria-invalid=true]")
    expect(described).to_be_focused()
    field.press("Control+a")
    page.keyboard.type(f"{KEY} ada@laptop")
    way.press(page.get_by_role("button", name="Add the key"))
    heard(page, "ada@laptop")
    way.press(page.get_by_role("button", name="Remove ada@laptop"))
    expect(page.get_by_text("ada@laptop", exact=True)).to_have_count(0)
    visit.troubles[:] = [each for each in visit.troubles if "status of 422" not in each]


def sessions(world: World) -> list[dict]:
    sql = "SELECT * FROM gpu_sessions_session WHERE state = 'running' ORDER BY code"
    return world.rows(sql)


@ways("mouse-390-light", "keyboard-1440-dark", "touch-390-dark")
def test_a_session_is_stopped_when_idle_or_not(world: World, visit: Watched, way: Way) -> None:
    page, pk = visit.page, sessions(world)[-1]["id"]
    page.goto(f"{world.base}/sessions/{UUID(pk)}/")
    way.press(page.locator("#idle-button"))
    field = page.locator("#id_idle_minutes")
    expect(field).to_be_focused()
    field.press("Control+a")
    page.keyboard.type("45")
    way.press(page.get_by_role("button", name="Save"))
    expect(page.locator("#idle-dialog")).to_be_hidden()
    expect(page.locator(".load .idle")).to_contain_text("Stops when idle for 45 min.")
    way.press(page.locator("#idle-button"))
    expect(field).to_be_focused()
    way.press(page.get_by_role("button", name="Turn off"))
    expect(page.locator(".load .idle")).to_contain_text("not stopped for being idle")
    assert world.session(pk)["idle_minutes"] is None


@ways("touch-390-dark", "mouse-1440-light")
def test_several_are_stopped(world: World, visit: Watched, way: Way) -> None:
    page = visit.page
    page.goto(f"{world.base}/sessions/")
    for session in sessions(world)[:2]:
        way.mark(page.locator(f"#pick-{session['code']}"))
    expect(page.locator("#picked")).to_have_text("2 selected")
    way.press(page.get_by_role("button", name="Stop 2 selected"))
    expect(page.get_by_role("heading", name="Stop 2 sessions?")).to_be_visible()
    way.press(page.get_by_role("button", name="Stop and destroy 2"))
    expect(page.locator("h1")).to_have_text("2 of 2 sessions asked to stop")


# The present state again, as it comes by the socket or as the answer to a button.
FRESH = """htmx.ajax("GET", document.querySelector("[ws-connect]").dataset.live,
    {swap: "none", source: "[ws-connect]"})"""


@ways("mouse-1440-light")
def test_nothing_is_lost_when_fragments_are_replaced(
    world: World, visit: Watched, way: Way
) -> None:
    """A focus, a press that has begun, a question that is open."""
    page = visit.page
    page.goto(f"{world.base}/sessions/{UUID(sessions(world)[-2]['id'])}/")
    expect(page.locator("#connection")).to_have_text("live")
    stop, keep = page.locator("#stop-button"), page.get_by_role("button", name="Keep it")
    config = page.locator("summary", has_text="~/.ssh/config")
    for wanted in (config, stop):
        wanted.focus()
        page.evaluate(FRESH)
        expect(wanted).to_be_focused()
    stop.hover()
    page.mouse.down()
    page.evaluate(FRESH)
    page.mouse.up()
    expect(keep).to_be_focused()
    page.evaluate(FRESH)
    page.keyboard.press("Escape")
    expect(stop).to_be_focused()
    page.keyboard.down("Space")
    page.evaluate(FRESH)
    page.keyboard.up("Space")
    expect(keep).to_be_focused()
    page.keyboard.press("Enter")
    expect(keep).to_be_hidden()
    config.hover()
    page.mouse.down()
    page.evaluate(FRESH)
    page.mouse.up()
    expect(page.locator("#ssh-config")).to_be_visible()
    page.evaluate(FRESH)
    expect(page.locator("#ssh-config")).to_be_visible()
