"""python -m bench.first_figures: how long until a page, a request, a shell; what it costs idle.

Everything is measured against the simulator on this machine, through the doors that people use:
`manage.py up`, a headless browser, the marketplace's wire log. Figures, not tests: nothing fails.
"""

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser import PATIENCE, chromium
from tests.processes import Part, until
from tests.world import World

IDLE_SECONDS = 30.0
TICKS = 100  # of /proc/<pid>/stat in a second


def say(name: str, value: float, unit: str) -> None:
    sys.stdout.write(f"{name:<58} {value:>8.2f} {unit}\n")
    sys.stdout.flush()


@contextmanager
def running(world: World) -> Iterator[Part]:
    """`manage.py up` without a key, from the command until it is told to stop."""
    part = world.django("up", "up", "--port", str(world.port))
    try:
        yield part
    finally:
        part.process.terminate()
        part.process.wait(30)


def first_page(world: World, name: str) -> None:
    begun = time.monotonic()
    with running(world):
        until("the sign-in page", lambda: world.answers("/login/"))
        say(f"up to the first page, {name}", time.monotonic() - begun, "s")
        until("offers are read", world.ready)
        say(f"up to offers on the page, {name}", time.monotonic() - begun, "s")


def open_offers(world: World, part: Part, page: Page) -> None:
    link = until("the link", lambda: re.search(r"http\S+/login/\S+", part.text()))
    page.goto(link[0])
    page.get_by_role("button", name="Sign in").click()
    until("offers are read", world.ready)
    page.goto(world.base)


def launch_and_watch(world: World, page: Page) -> None:
    page.get_by_role("link", name=re.compile("^Launch 1 RTX 3090")).first.click()
    button = page.get_by_role("button", name="Launch")
    expect(button).to_be_visible()
    clicked = time.time()
    button.click()
    expect(page.locator(".pill.state")).to_have_text("Running", timeout=PATIENCE)
    seen = time.time()
    create = next(r for r in world.wire() if r["operation"] == "create")
    say(
        "click on Launch to the create request on the wire", create["at"].timestamp() - clicked, "s"
    )
    [session] = world.rows("SELECT * FROM gpu_sessions_session")
    say("SSH answers to Running in the browser", seen - instant(session["ssh_open_at"]), "s")
    say("click to Running, boot of the machine included", seen - clicked, "s")
    page.locator("#stop-button").click()
    button = page.get_by_role("button", name="Stop and destroy")
    expect(button).to_be_visible()
    stopped = time.time()
    button.click()
    expect(page.locator(".alert h2")).to_have_text("Confirmed gone", timeout=PATIENCE)
    [destroy] = [r for r in world.wire() if r["operation"] == "destroy"]
    say(
        "click on Stop to the destroy request on the wire", destroy["at"].timestamp() - stopped, "s"
    )


def instant(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def memory_mb(pid: int) -> float:
    """Proportional: what processes share is counted once in the sum."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def part_of(pid: int) -> str:
    """What a process belongs to, by its command line."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    known = {"simulator": "simulator", "daphne": "web", "--cluster": "cluster", "worker": "guard"}
    return next((name for word, name in known.items() if word in words), "up")


def idle(part: Part) -> None:
    """Memory is proportional (PSS): what processes share is counted once in the sum."""
    pids = part.pids()
    names = {pid: part_of(pid) for pid in pids}
    before = {pid: cpu_seconds(pid) for pid in pids}
    time.sleep(IDLE_SECONDS)
    alive = [pid for pid in part.pids() if pid in names]
    for name in sorted(set(names.values())):
        mine = [pid for pid in alive if names[pid] == name]
        used = sum(cpu_seconds(pid) - before[pid] for pid in mine)
        say(f"idle {name}, {len(mine)} processes: memory", sum(map(memory_mb, mine)), "MB")
        say(f"idle {name}: processor", 100 * used / IDLE_SECONDS, "% of a core")
    say("idle memory of all", sum(map(memory_mb, alive)), "MB")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory) / "w", clock=1)
        for name in ("VASTAI_API_KEY", "VASTAI_BASE_URL", "GPUBROKER_SIMULATED"):
            del world.environment[name]
        with world:
            first_page(world, "fresh directory")
            first_page(world, "second start")
            with running(world) as part, chromium(f"127.0.0.1:{world.port}") as browser:
                until("it is ready", world.ready)
                ports = (world.data / "simulator" / "ports").read_text().split()
                world.control_port = int(ports[1])
                open_offers(world, part, browser.page)
                launch_and_watch(world, browser.page)
                idle(part)


if __name__ == "__main__":
    main()
