"""A headless Chromium that keeps a list of everything a clean page would not do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.world import World

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 90_000  # milliseconds
expect.set_options(timeout=PATIENCE)
# In every page before its own scripts: what the content security policy had to stop, and in
# data-heard all that was said in the live region (toasts and words on buttons go by themselves).
WATCH = """
document.addEventListener("securitypolicyviolation", event => console.error(
    `CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
document.addEventListener("DOMContentLoaded", () => {
    const [toasts, body] = [document.getElementById("toasts"), document.body];
    if (!toasts) return;
    const hear = ({textContent}) => {
        body.dataset.heard = `${body.dataset.heard ?? ""}${textContent}\\n`;
    };
    [...toasts.children].forEach(hear);
    new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(hear)))
        .observe(toasts, {childList: true});
});
"""


def heard(page: Page, words: str) -> None:
    """It was said since the page was loaded, or it will be."""
    expect(page.locator("body")).to_have_attribute("data-heard", re.compile(re.escape(words)))


def let_in(context: BrowserContext, world: World) -> None:
    """As who is signed in there."""
    cookies = world.http.cookies
    own = [{"name": c.name, "value": c.value, "url": world.base} for c in cookies]
    context.add_cookies(own)  # type: ignore[arg-type]


@dataclass
class Watched:
    """A page, and what was wrong so far with it and with others beside it."""

    page: Page
    allowed: str  # host:port
    troubles: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)  # documents, in order

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"console {message.type}: {message.text}")

    def request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.netloc != self.allowed:
            self.troubles.append(f"request to {request.url}")
        if request.is_navigation_request():
            self.loads.append(request.url)


@contextmanager
def started() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched(browser: Browser, allowed: str, **options: object) -> Iterator[Watched]:
    """A page in a context of its own, with those options of a Playwright context."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    context.add_init_script(WATCH)
    seen = Watched(context.new_page(), allowed)
    context.on("console", seen.console)  # of every page
    context.on("weberror", lambda error: seen.troubles.append(f"script: {error.error}"))
    context.on("request", seen.request)
    try:
        yield seen
    finally:
        context.close()


@contextmanager
def chromium(allowed: str, **options: object) -> Iterator[Watched]:
    """The same in a browser of its own."""
    with started() as browser, watched(browser, allowed, **options) as seen:
        yield seen
