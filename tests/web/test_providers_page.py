"""What the providers page says in each state, and the test that answers through its card."""

import json
import re
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone
from django.utils.html import strip_tags

from providers import catalog, jobs, registry, stats
from providers.base import Account, AuthRefused, Instance, InstanceState, Listing, NotSent
from providers.jobs import Reading
from providers.models import CallHour, Lane, ProviderHealth
from providers.stats import Verdict
from sessions import identity, labels
from sessions.provider_cards import cards
from sessions.stages import Stages, stages
from tests.factories import make_attempt, make_health, make_session, make_user

pytestmark = pytest.mark.django_db
VERIFIED = {"problems": [], "gpus": []}


def words(page, path: str = "/providers/") -> str:
    """The text that people read, in one line."""
    text = page.get(path).content.decode().replace("<", " <")
    return " ".join(strip_tags(text).split())


def machine(number: str, label: str, price: str | None, **fields) -> Instance:
    return Instance(
        provider="vastai",
        instance_id=number,
        label=label,
        state=InstanceState.RUNNING,
        price_per_hour=None if price is None else Decimal(price),
        **fields,
    )


def listed(*instances: Instance, at: datetime | None = None) -> None:
    at = at or timezone.now()
    listing = Listing(instances=instances, account_id="1001")
    catalog.store_listing("vastai", listing, started_at=at, now=at)


def our_label(number: int = 1, code: str = "c" * 16) -> str:
    return labels.make(identity.current(), "vastai", "1001", code, number)


# what the card says


def test_before_the_first_reading_nothing_is_claimed(page, db) -> None:
    identity.ensure()
    text = words(page)
    assert "key not checked yet" in text and "Balance not read yet" in text
    assert "Machines not listed yet" in text and "No call came back" in text
    assert "Our tries in the last 30 days None yet." in text


def test_a_refused_key_says_since_when_and_what_to_set(page, installed) -> None:
    make_health(auth_error="invalid key", auth_refused_at=timezone.now() - timedelta(minutes=7))
    text = words(page)
    assert "key refused for 7 min" in text.replace("\xa0", " ")
    assert "“invalid key”" in text and "VASTAI_API_KEY" in text and "canary-key" not in text


def test_a_marketplace_without_a_key_names_its_variable_and_what_is_misspelt(
    page, installed, settings
) -> None:
    settings.CONFIG_PROBLEMS = [
        "TENSORDOCK_API_KEY is not a variable of gpubroker; the right name is X.",
        "VAST_KEY is not a variable of gpubroker.",
    ]
    text = page.get("/providers/").content.decode()
    connected, missing = text.split('class="panel pad provider off"')
    assert "TENSORDOCK_API_TOKEN" in missing and "TENSORDOCK_API_KEY is not" in missing
    card = connected[connected.index('id="provider-vastai"') :]
    assert "VAST_KEY is not" in card and "VAST_KEY" not in missing


def test_the_balance_lasts_as_long_as_all_machines_of_the_account_let_it(page, installed) -> None:
    make_health(balance=Decimal("10"))
    assert "nothing is being spent" not in words(page)  # never listed: nobody knows
    listed()
    assert "nothing is being spent" in words(page)
    session = make_session("running")
    make_attempt(session, label=our_label(), instance_id="1", resolution="created")
    listed(machine("1", our_label(), "0.5"), machine("2", "theirs", "2"))
    assert "$10.00 4 h left at $2.500/h" in words(page)


def test_unmanaged_machines_are_counted_priced_and_left_alone(page, installed, client) -> None:
    session, over = make_session("running"), make_session("ended")
    make_attempt(session, label=our_label(1), instance_id="1", resolution="created")
    make_attempt(over, label=our_label(2), instance_id="2", resolution="gone")
    listed(
        machine("1", our_label(1), "0.5"),
        machine("2", our_label(2), "0.5"),
        machine("3", "<b>theirs</b>", "1.25"),
        machine("4", our_label(1).replace("-1-", "-3-"), "0.75"),  # a forged label is not ours
        machine("5", "", None),
    )
    text = words(page)
    assert "1 for open sessions" in text and "1 without a session" in text
    assert "3 machines at $2.000/h and more" in text and "gpubroker never touches them" in text
    assert "Which ones?" not in text
    client.force_login(
        make_user("boss", is_staff=True), backend="django.contrib.auth.backends.ModelBackend"
    )
    raw = client.get("/providers/").content.decode()
    assert "&lt;b&gt;theirs&lt;/b&gt;" in raw and "<b>theirs" not in raw


def test_a_failed_listing_shows_the_last_good_one_with_its_age(page, installed) -> None:
    listed(machine("3", "theirs", "1"), at=timezone.now() - timedelta(hours=1))
    now = timezone.now()
    catalog.store_listing("vastai", None, started_at=now, now=now, error="HTTP 502")
    make_health(listing_error="HTTP 502", listing_failures=3)
    text = words(page).replace("\xa0", " ")
    assert re.search("listed 1 h( 1 min)? ago old", text)
    assert "last listing failed 3× in a row “HTTP 502”" in text
    assert "1 machine at $1.000/h" in text


@pytest.mark.parametrize(
    ("reason", "way_out"),
    [
        (f"{catalog.OTHER_ACCOUNT} 7; ours are in 1001.", "when the key of our account is back"),
        ("the listing lacks 3 of 5 live instances at once", "complete listing shows them again"),
        ("9 instances without a session appeared at once", "has to look at the account"),
    ],
    ids=["account", "missing", "orphans"],
)
def test_a_freeze_says_what_it_holds_back_and_what_ends_it(
    page, installed, reason: str, way_out: str
) -> None:
    make_health(frozen_reason=reason)
    text = words(page)
    assert "Automatic destroys are held back" in text and way_out in text
    assert reason[1:] in text


def test_each_kind_of_call_has_its_circuit_and_figures(page, installed) -> None:
    now = timezone.now()
    later, before = now + timedelta(minutes=5), now - timedelta(minutes=5)
    lanes = {"create": (5, later), "offers": (5, before), "read": (4, later), "list": (2, None)}
    for name, (failures, until) in lanes.items():
        Lane.objects.create(
            provider="vastai", operation=name, next_at=now, failures=failures, open_until=until
        )
    (card,) = cards(now)
    circuits = {operation.name: operation.circuit for operation in card.operations}
    assert circuits == {
        "Offers": "half-open",
        "List machines": "closed",
        "Account": "closed",
        "Create": "open",
        "Install a key": "closed",
        "Read a machine": "half-open",  # a trial is under way
        "Destroy": "never held back",
    }
    text = words(page)
    assert "circuit open" in text and "2 failed in a row" in text


def test_rates_of_the_last_hour_and_day(page, installed) -> None:
    now = timezone.now()
    for hours, verdict in ((0, "answered"), (0, "error"), (20, "rate_limited"), (30, "error")):
        stats.note("vastai", "list", 0.4, Verdict(verdict), now - timedelta(hours=hours))
    stats.note("tensordock", "list", 9, Verdict.ERROR, now)
    (card,) = cards(now)
    assert (card.hour.calls, card.hour.error_rate, card.hour.rate_limited) == (2, 0.5, 0)
    assert (card.day.calls, card.day.errors, card.day.rate_limited) == (3, 1, 1)
    assert "50.0 %" in words(page) and "33.3 %" in words(page)


def test_how_far_our_tries_came() -> None:
    now = timezone.now()

    def tried(state: str, came: dict, attempt: dict, **fields) -> None:
        make_attempt(make_session(state, **came, **fields), **attempt)

    ready = {"resolution": "gone", "outcome": "created", "ready_at": now}
    logged_in = {"ssh_key_at": now}
    whole = logged_in | {"verified_at": now, "found": VERIFIED}
    tried("ended", whole, ready)
    tried("running", whole, ready | {"resolution": "created"})
    tried("ended", whole | {"found": {"problems": ["another GPU"]}}, ready)
    tried("ended", {}, ready | {"ready_at": None})
    tried("ended", {}, {"resolution": "not_created", "outcome": "offer_gone"})
    tried("ended", {}, {"resolution": "not_created", "outcome": "offer_gone"}, reason="user")
    tried("ended", whole, ready, reason="user")
    # these say nothing: under way, stopped early, never sent, too often, long ago
    tried("booting", {}, {"resolution": "created"})
    tried("ended", logged_in, ready, reason="user")
    tried("ended", {}, {"resolution": "not_created", "outcome": "not_sent"})
    tried("ended", {}, {"resolution": "not_created", "outcome": "rate"})
    tried("ended", whole, ready | {"sent_at": None})
    tried("ended", whole, ready | {"sent_at": now - timedelta(days=31)})
    expected = Stages(tries=7, provisioned=4, ssh=4, verified=3)
    assert stages(now) == {"vastai": expected}


def test_queries_do_not_grow_with_machines_sessions_and_calls(
    page, installed, django_assert_max_num_queries
) -> None:
    now = timezone.now()

    def grow(first: int, last: int) -> None:
        for number in range(first, last):
            session = make_session("running")
            label = our_label(number)
            make_attempt(session, label=label, instance_id=str(number), resolution="created")
            stats.note("vastai", "list", 1, Verdict.ANSWERED, now - timedelta(hours=number))
        present = [machine(str(number), our_label(number), "1") for number in range(1, last)]
        listed(*present, machine("x", "theirs", "1"))

    def count() -> int:
        with django_assert_max_num_queries(60) as seen:
            page.get("/providers/")
        return len(seen)

    grow(1, 3)
    few = count()
    grow(3, 20)
    assert count() == few


# "test now"


class Answers:
    """The marketplace at the other end of the worker."""

    def __init__(self, answer: Account | Exception) -> None:
        self.answer = answer
        self.asked = 0

    def account(self) -> Account:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def work(answer: Account | Exception, monkeypatch) -> int:
    """What the worker does in its next turn -> how often the account was read."""
    market = Answers(answer)
    monkeypatch.setattr(registry, "get", lambda name: market)
    now = timezone.now()
    for call in jobs.claim(9, now):
        if call.kind == "account":
            jobs.finish(call, jobs.perform(call), timezone.now())
    return market.asked


def ask(page):
    return page.post("/providers/vastai/test/", headers={"HX-Request": "true"})


def poll(page):
    return page.get("/providers/vastai/", headers={"HX-Request": "true"})


ME = Account(account_id="1001", balance=Decimal("7.5"))


def test_the_answer_comes_at_once_and_the_result_by_itself(page, installed, monkeypatch) -> None:
    assert work(ME, monkeypatch) == 0  # nothing was due
    text = ask(page).content.decode()
    assert text.lstrip().startswith("<section") and 'hx-trigger="every 1s"' in text
    assert "Testing…" in text and "HX-Trigger" not in poll(page)
    assert work(ME, monkeypatch) == 1
    answer = poll(page)
    assert "every 1s" not in answer.content.decode() and "$7.50" in answer.content.decode()
    news = json.loads(answer["HX-Trigger"])["toast"]
    assert news == {"level": "success", "text": "Vast.ai accepts the key."}
    assert work(ME, monkeypatch) == 0  # once was enough
    counted = CallHour.objects.get(provider="vastai", operation="account")
    assert (counted.calls, counted.errors, sum(counted.latencies)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("problem", "said", "shown"),
    [
        (AuthRefused("invalid key"), "refuses the key", "key refused"),
        (NotSent("nobody there"), "did not answer as it should", "last try failed"),
    ],
    ids=["refused", "away"],
)
def test_a_bad_result_is_one_too(page, installed, monkeypatch, problem, said, shown) -> None:
    ask(page)
    assert work(problem, monkeypatch) == 1
    answer = poll(page)
    assert said in json.loads(answer["HX-Trigger"])["toast"]["text"]
    assert shown in answer.content.decode() and str(problem) in answer.content.decode()


def test_the_time_of_the_first_refusal_stays_until_the_key_is_good_again(
    page, installed, monkeypatch
) -> None:
    def refused_at() -> datetime | None:
        return ProviderHealth.objects.get().auth_refused_at

    def test(answer: Account | Exception) -> None:
        ask(page)
        Lane.objects.update(next_at=timezone.now())
        assert work(answer, monkeypatch) == 1

    test(AuthRefused("no"))
    before = refused_at()
    test(AuthRefused("no, and in other words"))
    assert before and refused_at() == before
    test(ME)
    assert refused_at() is None


def test_a_worker_that_is_not_there_ends_the_waiting(page, installed, monkeypatch) -> None:
    ask(page)
    ProviderHealth.objects.update(account_asked_at=timezone.now() - timedelta(seconds=61))
    answer = poll(page)
    text = answer.content.decode()
    assert "every 1s" not in text and "no answer within a minute" in text
    assert json.loads(answer["HX-Trigger"])["toast"]["level"] == "warning"
    assert "every 1s" in ask(page).content.decode()  # and it can be tried again


def test_who_asks_while_another_waits_waits_with_them(page, installed) -> None:
    ask(page)
    first = ProviderHealth.objects.get().account_asked_at
    ask(page)
    assert ProviderHealth.objects.get().account_asked_at == first


def test_a_reading_that_began_before_is_not_the_answer(page, installed) -> None:
    started = timezone.now()
    ask(page)
    call = jobs.Call(provider="vastai", kind="account")
    jobs.finish(call, Reading(started_at=started, found=ME), timezone.now())
    assert "every 1s" in poll(page).content.decode()


def test_without_scripts_the_page_comes_back_and_strangers_names_are_unknown(
    page, installed
) -> None:
    assert page.post("/providers/vastai/test/")["Location"] == "/providers/"
    assert page.get("/providers/vastai/test/").status_code == 405
    for path in ("/providers/tensordock/test/", "/providers/nobody/test/"):
        assert page.post(path).status_code == 404
    assert page.get("/providers/nobody/").status_code == 404
