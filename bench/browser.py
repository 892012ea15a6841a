"""python -m bench.browser [offers]: what the offers page weighs, and how soon a filter shows.

A headless Chromium against Daphne alone, with that many offers in the database. "Painted" is from
the click to the second frame after the answer was put into the page. Figures, not tests.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

from playwright.sync_api import Page

from bench.first_figures import TICKS
from bench.offers import OFFERS, say
from tests.browser import chromium
from tests.processes import ROOT, descendants, make_template, surroundings, until
from tests.world import World

TIMES = 20
MOMENTS = ("answered", "swapped", "painted")
FILTERS = {"one GPU": "#gpu-list input", "verified only": "input[name=verified]"}
FILL = """
import sys, django
django.setup()
from bench.offers import fill
from tests.factories import make_health
make_health("vastai")
fill(int(sys.argv[1]))
"""
CLICK = """async selector => {
    const frame = () => new Promise(requestAnimationFrame);
    const settled = new Promise(
        done => document.addEventListener("htmx:afterSettle", done, {once: true}));
    performance.clearResourceTimings();
    const begun = performance.now();
    document.querySelector(selector).click();
    await settled;
    const swapped = performance.now();
    await frame();
    await frame();
    const answer = performance.getEntriesByType("resource").at(-1);
    return [answer.responseEnd - answer.requestStart, swapped - begun, performance.now() - begun];
}"""


@contextmanager
def world(number: int) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        template = make_template(directory)
        environment = surroundings(template.data, {})
        command = [sys.executable, "-c", FILL, str(number)]
        subprocess.run(command, env=environment, cwd=ROOT, check=True)
        with World(directory / "w", template) as started:
            (started.data / "staticfiles").symlink_to(template.data / "staticfiles")
            started.start_web()
            until("the web server answers", started.answers)
            yield started


def weigh(page: Page, base: str) -> None:
    """Everything that the first visit transfers, as it travels."""
    sizes: dict[str, int] = {}
    addresses: dict[str, str] = {}
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.on(
        "Network.requestWillBeSent",
        lambda e: addresses.update({e["requestId"]: e["request"]["url"]}),
    )
    network.on(
        "Network.loadingFinished",
        lambda e: sizes.update({addresses.get(e["requestId"], "?"): int(e["encodedDataLength"])}),
    )
    page.goto(base, wait_until="networkidle")
    for address, size in sorted(sizes.items(), key=lambda item: -item[1]):
        say(f"  {size / 1024:>8.1f} KB  {address.removeprefix(base)[:60]}")
    say(f"  {sum(sizes.values()) / 1024:>8.1f} KB  in all (150 at most)")


def busy(*pids: int) -> float:
    """Milliseconds of processor time so far: what a machine with nothing else to do would need."""
    texts = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum((int(fields[11]) + int(fields[12])) * 1000 / TICKS for fields in texts)


def filters(page: Page, started: World) -> None:
    server = started.parts["web"].pid
    browser = [pid for pid in descendants(os.getpid()) if pid != server]
    say(f"  {'':<32}{'p50':>8}{'p95':>8}  ms, {TIMES} times each")
    for name, selector in FILTERS.items():
        page.evaluate(CLICK, selector)
        used = busy(server), busy(*browser)
        timed = [page.evaluate(CLICK, selector) for _ in range(TIMES)]
        spent = (busy(server) - used[0]) / TIMES, (busy(*browser) - used[1]) / TIMES
        for title, values in zip(MOMENTS, zip(*timed, strict=True), strict=True):
            cuts = quantiles(values, n=20)
            say(f"  {f'{name}: {title}':<32}{cuts[9]:>8.0f}{cuts[18]:>8.0f}")
        say(f"  processor time of the server {spent[0]:.0f} ms, of the browser {spent[1]:.0f} ms")


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else OFFERS
    with world(number) as started, chromium(f"127.0.0.1:{started.port}") as watched:
        page = watched.page
        page.goto(started.base + started.template.signin)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_load_state("networkidle")
        page.context.new_cdp_session(page).send("Network.clearBrowserCache")
        say(f"first visit, {number:,} offers")
        weigh(page, started.base)
        say("a filter changes")
        filters(page, started)
        for trouble in watched.troubles:
            say(f"  TROUBLE {trouble}")


if __name__ == "__main__":
    main()
