"""From nothing to a shell on a GPU and back, as a person does it: `up`, a browser, and ssh."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sessions import keys
from tests.browser import PATIENCE, Watched, chromium, heard
from tests.processes import until
from tests.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """`manage.py up` in an empty directory, without any key: it brings its own simulator."""
    with World(tmp_path_factory.mktemp("up") / "w") as world:
        for name in ("VASTAI_API_KEY", "VASTAI_BASE_URL", "GPUBROKER_SIMULATED"):
            del world.environment[name]
        world.django("up", "up", "--port", str(world.port))
        try:
            world.wait_ready()
        except AssertionError as error:
            error.add_note(world.tails())
            raise
        world.simulated = world.data / "simulator"
        ports = (world.simulated / "ports").read_text().split()
        world.control_port = int(ports[1])
        world.tell("/market", steady=True, true_stock=True)
        yield world


@pytest.fixture(scope="module")
def browser(world: World) -> Iterator[Watched]:
    with chromium(f"127.0.0.1:{world.port}", viewport={"width": 1280, "height": 900}) as watched:
        yield watched


def printed_link(world: World) -> str:
    return until("the link is printed", lambda: re.search(r"http\S+/login/\S+", up_text(world)))[0]


def up_text(world: World) -> str:
    return world.parts["up"].text()


def ssh(command: str, directory: Path, key: str, known_hosts: str) -> subprocess.CompletedProcess:
    """The copied command, with the host key pinned and no agent, configuration or question."""
    (directory / "key").write_text(key)
    (directory / "key").chmod(0o600)
    (directory / "known_hosts").write_text(known_hosts + "\n")
    program, *words = command.split()
    at = words.index("-i") if "-i" in words else None
    if at is not None:
        del words[at : at + 2]
    options = ["-F", "/dev/null", "-i", str(directory / "key"), "-o", "IdentitiesOnly=yes"]
    options += ["-o", "IdentityAgent=none", "-o", "BatchMode=yes"]
    options += ["-o", "StrictHostKeyChecking=yes"]
    options += ["-o", f"UserKnownHostsFile={directory / 'known_hosts'}"]
    assert program == "ssh"
    return subprocess.run(
        ["ssh", *options, *words, "nvidia-smi"],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def launch(page: Page, provider: str, gpu: str) -> None:
    """The cheapest of this GPU there, found as a person finds it."""
    rows = page.locator("#results tbody tr")
    with page.expect_response(re.compile("provider=")):  # a second click would cut it off
        page.get_by_role("checkbox", name=provider).check()
    expect(rows.filter(has_not_text=provider)).to_have_count(0)
    with page.expect_response(re.compile("gpu=")):
        page.get_by_role("checkbox", name=gpu).first.check()
    expect(rows.filter(has_not_text=gpu)).to_have_count(0)
    expect(rows.first).to_contain_text(gpu)
    page.get_by_role("link", name=re.compile(f"^Launch 1 {gpu}")).first.click()
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/$"))


def log_in(page: Page, directory: Path) -> subprocess.CompletedProcess:
    """By what the page of a running session shows."""
    command = page.locator("#ssh-command").inner_text()
    page.locator("#copy-ssh-command").click()
    heard(page, "Copied")
    page.locator("summary", has_text="known_hosts line").click()
    known_hosts = page.locator("#known-hosts").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the key").click()
    return ssh(command, directory, Path(download.value.path()).read_text(), known_hosts)


def stop(page: Page) -> None:
    page.locator("#stop-button").click()
    page.get_by_role("button", name="Stop and destroy").click()
    expect(page.locator(".alert h2")).to_have_text("Confirmed gone", timeout=PATIENCE)


def test_from_the_printed_link_to_a_shell_and_back(
    world: World, browser: Watched, tmp_path: Path
) -> None:
    page = browser.page
    page.goto(printed_link(world))
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".banner", has_text="Simulated marketplaces")).to_be_visible()
    launch(page, "Vast.ai", "RTX 3090")

    loaded = len(browser.loads)
    expect(page.locator(".pill.state")).to_have_text("Running", timeout=PATIENCE)
    done = log_in(page, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RTX 3090" in done.stdout

    stop(page)
    assert [url for url in browser.loads[loaded:] if "/key/" not in url] == []
    assert browser.troubles == []


def test_both_marketplaces_stand_on_one_page(world: World, browser: Watched) -> None:
    page = browser.page
    page.goto(f"{world.base}/?gpu=RTX+A6000&count=1")
    for title in ("Vast.ai", "TensorDock"):
        expect(page.locator("#results .place", has_text=title).first).to_be_visible()


def test_on_tensordock_as_well(world: World, browser: Watched, tmp_path: Path) -> None:
    page = browser.page
    page.goto(world.base)
    launch(page, "TensorDock", "RTX A4000")
    expect(page.locator(".pill.state")).to_have_text("Running", timeout=PATIENCE)
    shown = page.locator("#ssh-command").inner_text()
    assert re.search(" (user|root)@", shown)  # the account whose key was there first
    done = log_in(page, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RTX A4000" in done.stdout
    stop(page)
    assert browser.troubles == []


def test_the_ledger_and_the_audit_agree(world: World, browser: Watched) -> None:
    machines = world.ledger()
    assert [machine["provider"] for machine in machines] == ["vastai", "tensordock"]
    assert all(machine["gone_at"] for machine in machines)
    assert world.violations() == []
    moves = "SELECT data FROM gpu_sessions_auditevent WHERE action = 'session.state'"
    assert len(world.rows(moves)) == 2 * 6


def test_the_launch_page_follows_the_form_and_one_click_too_many(
    world: World, browser: Watched
) -> None:
    page, tries = browser.page, browser.page.locator("#tries li")
    page.goto(f"{world.base}/?provider=vastai&gpu=RTX+3090&count=1")
    page.get_by_role("link", name=re.compile("^Launch 1 RTX 3090")).first.click()
    page.get_by_role("radio", name="Try any GPU").check()
    page.locator("#id_max_price_per_hour").fill("9")
    expect(tries).to_have_count(5)
    page.get_by_role("radio", name="Give up").check()
    expect(tries).to_have_count(1)
    expect(page.locator("#estimate-says")).to_have_text(re.compile("^.* 1 offer would be tried.$"))

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("summary", has_text="Startup script").click()
    page.locator("#id_startup_script").fill("echo a script changes no price")
    expect(page.locator("#script-count")).to_contain_text("30 of")
    page.wait_for_timeout(600)
    assert not [url for url in asked if "/estimate/" in url]
    page.locator("#id_image").fill("nvidia/cuda:12.6.0-base-ubuntu24.04")
    page.locator("summary", has_text="Paste another public key").click()
    page.locator("#id_new_key").fill(f"{keys.generate().public_line} ada@laptop")
    page.get_by_role("button", name="Register it").click()
    expect(page.get_by_role("checkbox", name="ada@laptop")).to_be_checked()
    expect(page.locator("#keybox [role=status]")).to_be_focused()
    expect(page.locator("#id_image")).to_have_value("nvidia/cuda:12.6.0-base-ubuntu24.04")
    expect(page.get_by_role("radio", name="Give up")).to_be_checked()

    number = "SELECT count(*) AS number FROM gpu_sessions_session"
    before = world.rows(number)[0]["number"]
    key = page.locator("[name=idempotency_key]").input_value()
    page.get_by_role("button", name="Launch").dblclick(no_wait_after=True)
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/$"))
    assert world.rows(number)[0]["number"] == before + 1

    page.go_back()  # a fresh form: launching from it again is meant
    expect(page.get_by_role("button", name="Launch", exact=True)).to_be_enabled()
    assert page.locator("[name=idempotency_key]").input_value() != key
    page.go_forward()
    page.locator("#stop-button").click()
    page.get_by_role("button", name="Stop and destroy").click()
    expect(page.locator(".alert h2")).to_have_text("Confirmed gone", timeout=PATIENCE)
    assert browser.troubles == []


def test_pages_without_trouble(world: World, browser: Watched) -> None:
    for path in ("/", "/sessions/", "/keys/", "/providers/"):
        browser.page.goto(world.base + path)
        expect(browser.page.locator("main")).to_be_visible()
    assert browser.troubles == []
