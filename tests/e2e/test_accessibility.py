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
from playwright.sync_api import Browser, Page, sync_playwright

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


def unfold(page: Page) -> None:
    page.evaluate("for (const each of document.querySelectorAll('main details')) each.open = true")


def ask_nonsense(page: Page) -> None:
    page.locator("form.launch").evaluate("form => { form.disk_gb.value = 1; form.submit() }")
    page.get_by_text("Not launched.").wait_for()


def open_help(page: Page) -> None:
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()


OPENED: dict[str, Callable[[Page], None]] = {  # what must be looked at as well
    "session running": unfold,
    "audit": lambda page: page.locator(".events details > summary").first.click(),
    "launch": unfold,
    "launch, nonsense": ask_nonsense,
    "keys, help": open_help,
}
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def surroundings(settings) -> None:
    settings.PROVIDERS = {"vastai": {"api_key": "canary-key", "base_url": "http://127.0.0.1:9"}}
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": plain}
    settings.ALLOWED_HOSTS = ["*"]
    settings.SIMULATED = True
    settings.ROOT_URLCONF = "tests.web.broken"


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
    scenes = {name: build(name, now, owner=owner)[0] for name in SHOWN}
    for number in range(30):  # a timeline that is too long for its panel
        actor = f"user:{owner.pk}" if number % 2 else "worker"
        audit.append("session.extend", actor=actor, session=scenes["running"])
    found = {f"session {name}": f"/sessions/{scene.pk}/" for name, scene in scenes.items()}
    several = "&".join(f"s={scenes[name].code}" for name in ("running", "ended", "booting"))
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
        "launch, nonsense": f"/launch/vastai/{offer.offer_id}/",
        "launch gone": "/launch/vastai/nothing/",
        "sessions": "/sessions/",
        "sessions ended": "/sessions/?show=ended",
        "sessions to stop": f"/sessions/stop/?{several}",
        "keys": "/keys/",
        "keys, help": "/keys/",
        "providers": "/providers/",
        "attention": "/attention/",
        "audit": "/audit/",
        "audit none": "/audit/?session=nothing",
        "doctor": "/doctor/",
        "livetests": "/livetests/",
        "password": "/password/",
        "not found": "/nothing/",
        **{f"broken {name}": f"/broken/{name}/" for name in ("400", "403", "500", "old", "locked")},
        "administration": "/admin/",
        "audit in the administration": "/admin/gpu_sessions/auditevent/",
    }


@pytest.fixture
def open_pages(owner: AbstractUser) -> dict[str, str]:
    link = signin_path(make_user("grace"))
    return {"sign in": "/login/", "link": link, "dead link": "/login/MQ/x-y/"}


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


def prepare(page: Page, name: str, url: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(url)
    assert page.url == url  # and not the sign-in page
    if name in OPENED:
        OPENED[name](page)
    page.evaluate(AXE)
    page.evaluate(STILL)


def looked_at(page: Page, name: str, scheme: str, other: str) -> list[str]:
    """Everything in one colour scheme, the contrasts in the other; and nothing to scroll to."""
    width = page.viewport_size["width"]
    wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    found = [f"{name}: {wider} px wider than {width} px"] if wider > 0 else []
    found += problems(page, f"{name}, {width}, {scheme}")
    page.emulate_media(color_scheme=other)
    return found + problems(page, f"{name}, {width}, {other}", only=["color-contrast"])


@pytest.mark.parametrize("device", ["desk", "phone"])
def test_no_page_keeps_anybody_out(
    live_server, pages, open_pages, cookie, browser: Browser, device: str
) -> None:
    size, *schemes = {"desk": (WIDE, "light", "dark"), "phone": (NARROW, "dark", "light")}[device]
    found: list[str] = []
    for group, signed_in in ((pages, True), (open_pages, False)):
        context = browser.new_context(viewport=size, reduced_motion="reduce")
        if signed_in:
            context.add_cookies([cookie | {"url": live_server.url}])
        page = context.new_page()
        for name, path in group.items():
            prepare(page, name, live_server.url + path, schemes[0])
            found += looked_at(page, name, *schemes)
        context.close()
    assert not found, "\n".join(found)


HEAD = """() => {
    const boxes = [...document.querySelectorAll("nav.main a, .strip > *, .ask, .menu summary")]
        .filter(e => e.checkVisibility() && getComputedStyle(e).display !== "contents")
        .map(e => e.getBoundingClientRect());
    const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1
        || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
    return {
        overlaps: boxes.some((a, i) => boxes.slice(i + 1).some(b => !apart(a, b))),
        height: document.querySelector("header.top").offsetHeight,
        wider: document.documentElement.scrollWidth - innerWidth,
    };
}"""


def test_the_head_fits_on_every_width(live_server, pages, cookie, browser: Browser) -> None:
    """With all that can stand there: trouble, money, an end, and no connection."""
    context = browser.new_context()
    context.add_cookies([cookie | {"url": live_server.url}])
    page = context.new_page()
    page.goto(live_server.url + "/keys/")
    page.locator("#connection").wait_for()
    for width in (320, 390, 700, 861, 1000, 1100, 1240, 1366, 1440, 1600, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        head = page.evaluate(HEAD)
        assert (head["overlaps"], head["wider"]) == (False, 0), (width, head)
        assert head["height"] <= 90, (width, head)


def test_tables_fit_on_every_width(live_server, pages, cookie, browser: Browser) -> None:
    """Also where rows turn into cards and columns go."""
    context = browser.new_context()
    context.add_cookies([cookie | {"url": live_server.url}])
    page = context.new_page()
    for name in ("offers filtered", "offers by GPU", "launch", "providers"):
        page.goto(live_server.url + pages[name])
        for width in (320, 641, 861, 1041, 1201, 1341):
            page.set_viewport_size({"width": width, "height": 800})
            wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wider <= 0, (name, width, wider)
