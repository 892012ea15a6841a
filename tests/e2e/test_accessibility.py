"""axe-core on every page, in both colour schemes, on a desk and on a phone (WCAG 2.2 A and AA)."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import axe_playwright_python
import pytest
from django.contrib.auth.models import AbstractUser
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from gpubroker.accounts import signin_path
from providers import history
from providers.models import Stock
from sessions import audit, identity, watch
from sessions.models import Heartbeat
from tests.browser import ARGUMENTS, CHROMIUM
from tests.factories import make_health, make_key, make_offer, make_user
from tests.web.scenes import build

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("accessibility"),
    pytest.mark.django_db(transaction=True),
]
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN = "async options => (await axe.run(document, options)).violations"
STILL = """() => {  // the administration fades its colours
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("* { transition: none !important; animation: none !important }");
    document.adoptedStyleSheets = [sheet];
}"""
SHOWN = ("requested", "booting", "ssh", "running", "unreachable", "host_key", "stopping_failed")
SHOWN += ("ended", "no_offers", "wrong_hardware", "vanished", "never_sent")
GRAVE = ("serious", "critical")
OPENED = {  # what is folded away on a page, and must be looked at as well
    "session running": "details > summary",
    "launch": "details.more > summary",
    "audit": ".events details:first-child > summary",
}
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def surroundings(settings) -> None:
    settings.PROVIDERS = {"vastai": {"api_key": "canary-key", "base_url": "http://127.0.0.1:9"}}
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": plain}
    settings.ALLOWED_HOSTS = ["*"]
    settings.SIMULATED = True


@pytest.fixture
def owner(surroundings, db) -> AbstractUser:
    identity.ensure()
    return make_user("ada", password="a long enough password", is_staff=True, is_superuser=True)


@pytest.fixture
def pages(owner: AbstractUser) -> dict[str, str]:
    """name -> path of every kind of page in every kind of state."""
    now = timezone.now()
    make_health("vastai", offers_error="HTTP 503")
    Heartbeat.objects.create(name="worker", at=now - timedelta(hours=1))
    for number in range(60):
        make_offer(
            gpu_name="RTX 4090" if number % 2 else "H100 SXM",
            base_price_per_hour=Decimal(30 + number) / 100,
            verified=number % 3 == 0, interruptible=number % 7 == 0, gpu_count=1 + number % 3,
        )  # fmt: skip
    offer, other = make_offer(), make_offer()
    Stock.objects.update(prices_at=None)
    history.collect("vastai", now)
    make_key(owner)
    found = {
        f"session {name}": f"/sessions/{build(name, now, owner=owner)[0].pk}/" for name in SHOWN
    }
    audit.append("session.extend", actor="worker", data={"from": "a", "to": "b", "words": "c"})
    watch.record(now)
    picked = f"compare=vastai:{offer.offer_id}&compare=vastai:{other.offer_id}"
    return found | {
        "offers": "/",
        "offers filtered": "/?gpu=RTX+4090&price=0.4&verified=1&nonsense=1&traffic=100",
        "offers none": "/?gpu=RTX+4090&price=0.001",
        "offers by GPU": "/?view=gpu",
        "offers picked": f"/?{picked}",
        "comparison": f"/offers/compare/?{picked}",
        "prices": "/prices/RTX%204090/",
        "launch": f"/launch/vastai/{offer.offer_id}/",
        "launch gone": "/launch/vastai/nothing/",
        "sessions": "/sessions/",
        "keys": "/keys/",
        "providers": "/providers/",
        "attention": "/attention/",
        "audit": "/audit/",
        "audit none": "/audit/?session=nothing",
        "doctor": "/doctor/",
        "livetests": "/livetests/",
        "password": "/password/",
        "not found": "/nothing/",
        "administration": "/admin/",
        "audit in the administration": "/admin/gpu_sessions/auditevent/",
    }


@pytest.fixture
def open_pages(owner: AbstractUser) -> dict[str, str]:
    return {"sign in": "/login/", "link": signin_path(owner), "dead link": "/login/MQ/x-y/"}


@pytest.fixture
def cookie(owner: AbstractUser, settings) -> dict[str, str]:
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": client.cookies[name].value}


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def problems(page: Page, where: str, *, only: list[str] | None = None) -> list[str]:
    chosen = {"type": "rule", "values": only} if only else {"type": "tag", "values": RULES}
    found = page.evaluate(RUN, {"runOnly": chosen, "resultTypes": ["violations"]})
    return [
        f"{where}: {rule['id']} ({rule['impact']}): {node['html'][:160]} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


def looked_at(context: BrowserContext, name: str, url: str, look: Callable) -> list[str]:
    page = context.new_page()
    page.goto(url)
    for summary in page.locator(OPENED[name]).all() if name in OPENED else ():
        summary.click()
    page.evaluate(AXE)
    page.evaluate(STILL)
    try:
        return look(page)
    finally:
        page.close()


def on_a_desk(page: Page, name: str) -> list[str]:
    found = problems(page, f"{name}, wide, light")
    page.emulate_media(color_scheme="dark")
    return found + problems(page, f"{name}, wide, dark", only=["color-contrast"])


def on_a_phone(page: Page, name: str) -> list[str]:
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    scrolls = [f"{name}: the page is {wide} px wider than a phone"] if wide > 0 else []
    return scrolls + problems(page, f"{name}, narrow, dark")


@pytest.mark.parametrize("device", ["desk", "phone"])
def test_no_page_keeps_anybody_out(
    live_server, pages, open_pages, cookie, browser: Browser, device: str
) -> None:
    size, scheme, look = {
        "desk": (WIDE, "light", on_a_desk),
        "phone": (NARROW, "dark", on_a_phone),
    }[device]
    found: list[str] = []
    for group, signed_in in ((pages, True), (open_pages, False)):
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        if signed_in:
            context.add_cookies([cookie | {"url": live_server.url}])
        for name, path in group.items():
            url = live_server.url + path
            found += looked_at(context, name, url, lambda page, name=name: look(page, name))
        context.close()
    assert not found, "\n".join(found)
