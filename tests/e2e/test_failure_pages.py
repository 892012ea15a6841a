"""Each failure that can be injected ends in a page that says what happened, what it cost and what
comes next: on a desk, on a phone, in the lists, and where somebody has to do something.

All are met at the same time in one world; the pages are looked at in a real browser one by one.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from uuid import UUID

import pytest
import requests

from sessions import explain
from tests.browser import Watched, chromium, let_in
from tests.e2e.failures import (
    BAD,
    ENDED,
    FAILURES,
    FLOWS,
    NOT_HERE,
    NOTHING,
    REFUSED,
    RUNNING,
    STILL,
    Failure,
    Stand,
)
from tests.invariants import instants
from tests.world import ACCOUNT, World, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("failure pages")]

CLOCK = 15
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
CENT, ROUNDED = 0.01, 0.00006  # USD
NOT_BILLED = ("outbid", "offline")  # while it is away, and nobody tells us
# Everything that a page tells, at one moment: what is pushed meanwhile comes whole or not at all.
PAGE = """() => {
    const one = (where, from = document) => from.querySelector(where)?.innerText.trim() ?? "";
    const all = where => [...document.querySelectorAll(where)].map(found => found.innerText);
    const figure = document.querySelector(".session .cost .big");
    return {
        title: document.title, pill: one(".pill.state"), name: one(".session h1"),
        notice: one(".session .alert"), headline: one(".session .alert h2"),
        flow: one(".session .alert .flow"), attempts: all(".tries > li"),
        quotes: all(".tries q"), elements: document.querySelectorAll(".tries q *").length,
        cost: Number(figure?.dataset.cost ?? figure?.innerText.replace(/[$,]/g, "")),
        figure: figure?.innerText, billing: one(".session .cost dd .pill"),
        connect: one(".session .connect"), timeline: one(".session .timeline"),
        stop: !!document.querySelector("#stop-button"),
        extend: !!document.querySelector("#extend-button"),
        again: document.querySelector("#again")?.getAttribute("href") ?? "",
        steps: all(".stepper .step"),
    };
}"""
# Too wide for the screen, or what one would have to guess: text cut off without a sign.
FITS = "document.documentElement.scrollWidth <= innerWidth"
ROWS = """() => [...document.querySelectorAll(".rental")].map(row => ({
    path: row.querySelector("a.what").getAttribute("href"),
    pill: row.querySelector(".state .pill").innerText,
    line: row.querySelector(".state .soft").innerText,
    spent: row.querySelector(".spent b").innerText,
    needs: !!row.closest(".attention"),
}))"""
ALERTS = """() => [...document.querySelectorAll(".alerts > li")].map(alert => ({
    path: alert.querySelector("a")?.getAttribute("href") ?? "", text: alert.innerText,
}))"""


@pytest.fixture(scope="module")
def stand(world: World) -> Stand:
    """Those that must run go first; the broken machines come when these have been struck."""
    stand = Stand(world)
    for name in (*RUNNING, *REFUSED):
        stand.launch(name)
    ran = [stand.pks[name] for name in RUNNING]
    until("those that must run", lambda: stand.tend() or started(world, ran))
    for name in BAD:
        stand.launch(name)
    return stand


def started(world: World, pks: list[str]) -> bool:
    """Or over, which is somebody else's to judge."""
    states = world.states()
    return all(states[pk] in ("running", "stopping", "ended") for pk in pks)


@pytest.fixture(scope="module")
def visit(world: World) -> Iterator[Watched]:
    with chromium(f"127.0.0.1:{world.port}", viewport=DESK) as watched:
        let_in(watched.page.context, world)
        yield watched


@pytest.fixture(autouse=True)
def clean(visit: Watched) -> Iterator[None]:
    """Whatever a page shows, it shows it without a complaint of the browser."""
    yield
    troubles, visit.troubles[:] = list(visit.troubles), []
    assert troubles == []


def path_of(pk: str) -> str:
    return f"/sessions/{UUID(pk)}/"


def look(visit: Watched, world: World, path: str, what: str) -> object:
    """At a desk, then by phone: the same page, and nothing of it beyond the edge."""
    page = visit.page
    page.set_viewport_size(DESK)
    page.goto(world.base + path)
    seen = page.evaluate(what)
    assert page.evaluate(FITS), "too wide for a desk"
    page.set_viewport_size(PHONE)
    assert page.evaluate(FITS), "too wide for a phone"
    return seen


@pytest.mark.parametrize("name", FAILURES)
def test_page_tells_what_happened_what_it_cost_and_what_comes_next(
    world: World, stand: Stand, visit: Watched, name: str
) -> None:
    failure, pk = FAILURES[name], stand.wait(name)
    seen = look(visit, world, path_of(pk), PAGE)
    what_happened(failure, seen)
    what_it_cost(failure, seen, world, pk)
    what_comes_next(failure, seen, world)
    nothing_contradictory(failure, seen)


def what_happened(failure: Failure, seen: dict) -> None:
    assert seen["headline"] == failure.title
    assert seen["pill"] == failure.pill and seen["title"].startswith(f"{failure.pill} · ")
    assert re.search(failure.said, seen["notice"], re.DOTALL), seen["notice"]
    attempts = "\n".join(seen["attempts"])
    assert re.search(failure.tried, attempts, re.DOTALL), attempts
    quoted = seen["quotes"]
    assert not failure.words or any(re.search(failure.words, text) for text in quoted), quoted
    assert seen["elements"] == 0, "somebody's words became elements"


def what_it_cost(failure: Failure, seen: dict, world: World, pk: str) -> None:
    assert re.search(failure.money, seen["flow"]), seen["flow"]
    attempts = instants(world.attempts(pk), "sent_at", "gone_at", "destroy_accepted_at",
                        "first_absence_at")  # fmt: skip
    ledger = {r["label"]: r for r in world.ledger() if r["label"] in {a["label"] for a in attempts}}
    billed = sum(row["billed_usd"] for row in ledger.values())
    assert seen["cost"] > billed - CENT
    assert seen["cost"] < billed + CENT or failure.strike[1] in NOT_BILLED
    if failure.money == NOTHING:
        assert (seen["cost"], billed) == (0, 0)
    if failure.money == ENDED:
        pairs = [(a, ledger[a["label"]]) for a in attempts if a["label"] in ledger]
        least, most = (sum(f(*pair) for pair in pairs) for f in (least_cost, most_cost))
        assert least - ROUNDED <= seen["cost"] <= most + ROUNDED
        assert seen["figure"] in seen["flow"]
    if failure.money in (FLOWS, STILL):
        assert seen["cost"] > 0 and "billing" in seen["billing"]
        assert re.search(r"\$\d+\.\d+ an hour until", seen["flow"])


def least_cost(attempt: dict, row: dict) -> float:
    """The life of the machine at the rate; the marketplace's boots and ends cost less."""
    return rate(attempt) * hours(row["created_at"], row["gone_at"])


def most_cost(attempt: dict, row: dict) -> float:
    """From the request to the end that was proven."""
    end = attempt["destroy_accepted_at"] or attempt["first_absence_at"]
    return rate(attempt) * hours(attempt["sent_at"], end)


def rate(attempt: dict) -> float:
    return float(attempt["actual_price_per_hour"] or attempt["price_per_hour"])


def hours(since: datetime, until: datetime) -> float:
    return (until - since).total_seconds() / 3600


def what_comes_next(failure: Failure, seen: dict, world: World) -> None:
    assert re.search(failure.next, seen["notice"]), seen["notice"]
    if seen["again"]:
        form = until("an offer that is still there", lambda: launch_form(world, seen["again"]))
        assert form.ok and "/launch/" in form.url and 'name="max_price_per_hour"' in form.text


def launch_form(world: World, path: str) -> requests.Response | None:
    """None when the offer went between the choice and the look at it; then one chooses anew."""
    form = world.http.get(world.base + path, timeout=30)
    return form if form.status_code != 410 else None


def nothing_contradictory(failure: Failure, seen: dict) -> None:
    """It runs and can be stopped, or it is over and can be launched again; never both."""
    runs = failure.state == "running"
    assert (seen["stop"], seen["extend"], not seen["again"]) == (runs, runs, runs)
    assert ("ssh -i" in seen["connect"]) is runs
    assert any("in use" in text for text in seen["attempts"]) is runs
    assert bool(seen["billing"]) is (failure.money in (FLOWS, STILL))
    assert ("Running" in seen["pill"]) <= runs
    over = [text for text in seen["steps"] if "failed here" in text]
    assert len(over) == (failure.pill == "Failed")
    assert ("nothing is left" in seen["timeline"]) is (failure.state == "ended")
    assert "None" not in seen["notice"]


def test_each_reason_was_met() -> None:
    met = {failure.reason for failure in FAILURES.values()} - {""}
    assert met | set(NOT_HERE) == set(explain.REASONS)
    assert not met & set(NOT_HERE)


def test_lists_tell_the_same(world: World, stand: Stand, visit: Watched) -> None:
    pks = {name: stand.wait(name) for name in FAILURES}
    rows = {row["path"]: row for path in pages_of_sessions(world, visit) for row in path}
    for name, failure in FAILURES.items():
        row = rows[path_of(pks[name])]
        assert row["pill"] == failure.pill, name
        assert row["needs"] is bool(failure.alert and failure.pill != "Running"), name
        if failure.state == "ended":
            said = failure.title.removeprefix("Failed: ")
            assert row["line"].lower() == said.lower(), name
            assert (row["spent"] == "$0.00") is (failure.money not in (ENDED,)), name


def pages_of_sessions(world: World, visit: Watched) -> Iterator[list[dict]]:
    yield look(visit, world, "/sessions/", ROWS)
    for number in count(1):
        page = look(visit, world, f"/sessions/?show=ended&days=0&page={number}", ROWS)
        yield page
        if not visit.page.locator(".pages a[rel=next]").count():
            return


def test_who_looks_after_it_all_is_told(world: World, stand: Stand, visit: Watched) -> None:
    """Of each that needs a person, and of nothing that is over."""
    pks = {name: stand.wait(name) for name in FAILURES}
    alerts = look(visit, world, "/attention/", ALERTS)
    about = {alert["path"]: alert["text"] for alert in alerts}
    for name, failure in FAILURES.items():
        told = about.get(path_of(pks[name]), "")
        assert bool(told) is bool(failure.alert) and re.search(failure.alert, told), (name, told)
    [late] = stand.sighted("late machine")
    assert any(f"machine {late['instance_id']} belongs to no session" in t for t in about.values())
    assert "<b>gb1-" in visit.page.locator("#unmanaged").inner_text()


def test_marketplaces_in_trouble(world: World, stand: Stand, visit: Watched) -> None:
    """Another account's key at one, no lists at the other: what is stopped then is not gone."""
    held, unproven = "offline after too many requests", "port closed after a lost answer"
    pks = [stand.wait(name) for name in (held, unproven)]
    world.fault("*", "other_account", provider="vastai", times=0)
    world.fault("list", "http_503", provider="tensordock", times=0)
    frozen = "SELECT 1 FROM providers_providerhealth WHERE frozen_reason LIKE '%account%'"
    until("the other account is noticed", lambda: world.rows(frozen))
    for pk in pks:
        world.ask_to_stop(pk)
    until("it is held", lambda: world.attempts(pks[0])[-1]["destroy_message"])
    until("it is accepted", lambda: world.attempts(pks[1])[-1]["destroy_accepted_at"])
    waits = ("cannot be destroyed just now.*belongs to another account", "it counts only once")
    for pk, says in zip(pks, waits, strict=True):
        seen = look(visit, world, path_of(pk), PAGE)
        assert seen["pill"] == "Stopping" and seen["flow"].startswith(STILL)
        assert re.search(says, seen["notice"], re.DOTALL), seen["notice"]
    told(world, visit, "automatic destroys are held back", "TensorDock: no complete list")
    world.fault("*", "auth_401", provider="tensordock", times=0)
    told(world, visit, "TensorDock refuses the key")
    world.lift_faults()


def told(world: World, visit: Watched, *words: str) -> None:
    def all_told() -> bool:
        alerts = look(visit, world, "/attention/", ALERTS)
        return all(any(word in alert["text"] for alert in alerts) for word in words)

    until(f"it is told: {words}", all_told)


def test_a_balance_that_does_not_last_is_told_before_the_launch(
    world: World, stand: Stand, visit: Watched
) -> None:
    world.tell("/accounts", account=ACCOUNT, credit=5)
    dearest = world.offers()[-1]
    path = f"/launch/vastai/{dearest['offer_id']}/"

    def warned() -> bool:
        world.post("/providers/vastai/test/")
        visit.page.goto(world.base + path)
        return "may not last until the end" in visit.page.locator("#estimate").inner_text()

    until("the balance is known", warned)
    world.tell("/accounts", account=ACCOUNT, credit=50)


def test_a_marketplace_without_its_key(world: World, stand: Stand, visit: Watched) -> None:
    pk = stand.wait("destroy without effect")
    visit.page.goto("about:blank")
    restart_web(world, TENSORDOCK_API_TOKEN="")
    seen = look(visit, world, path_of(pk), PAGE)
    assert seen["headline"] == "The marketplace is no longer configured"
    assert "must restore the key" in seen["notice"] and seen["flow"].startswith(FLOWS)
    told(world, visit, "TensorDock has no key any more, but machines there are billed")
    visit.page.goto("about:blank")
    restart_web(world, TENSORDOCK_API_TOKEN=world.tensordock_key)


def restart_web(world: World, **environment: str) -> None:
    world.kill("web")
    world.environment |= environment
    world.start_web()
    until("the web server answers", world.answers)


def test_all_end_well_at_last(
    world: World, stand: Stand, visit: Watched, record_property: Callable[[str, object], None]
) -> None:
    """With the proof on record; of what was not billed all the time the sums may differ."""
    world.lift_faults()
    immortal = stand.label("destroy without effect")
    world.fault("instance", "immortal", label=immortal, seconds=0)
    last = [pk for pk, state in world.states().items() if state != "ended"]
    for pk in last:
        world.ask_to_stop(pk)
    for pk in last:
        world.wait_state(pk, "ended")
    for pk in last[:3]:
        seen = look(visit, world, path_of(pk), PAGE)
        assert seen["headline"] == "Confirmed gone" and ENDED in seen["flow"]
    until("the late machine is gone", lambda: stand.sighted("late machine")[0]["gone_at"])
    seen = look(visit, world, path_of(stand.pks["late machine"]), PAGE)
    assert any("came late, gone" in text for text in seen["attempts"])
    wrong = [text for text in world.violations() if not text.startswith("cost_agrees")]
    assert wrong == []
    if stand.again:
        record_property("figures", f"failures that were played again: {stand.again}")
