"""The live test against the simulated marketplace, without a worker: it drives the lifecycle."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from sessions import livetest_report
from sessions.livetest import Allowance, Cut, Engine, LiveTest, Login, Trial
from sessions.livetest_markdown import cell, markdown
from sessions.models import Session
from sessions.ssh import Check
from tests.factories import make_attempt, make_health, make_offer, make_session
from tests.processes import until
from tests.world import ACCOUNT, World

pytestmark = pytest.mark.xdist_group("livetest")
LIMITS = ["--max-price=0.50", "--max-spend=1.00"]
PATIENCE = 600  # seconds: as long as a live test may take at most


class Markets(World):
    """Both marketplaces, TensorDock with the stale stock that it is known for; nothing else."""

    def start_simulator(self) -> None:
        self.environment |= {
            "TENSORDOCK_API_TOKEN": self.api_key,
            "TENSORDOCK_BASE_URL": f"http://127.0.0.1:{self.tensordock_port}",
        }
        part = self.run(
            "simulator", sys.executable, "-m", "providers.simulator", "--steady-market",
            f"--clock={self.clock}", f"--data-dir={self.directory / 'sim'}",
            f"--vastai-port={self.vastai_port}", f"--tensordock-port={self.tensordock_port}",
            f"--control-port={self.control_port}", f"--account={self.api_key}={ACCOUNT}",
        )  # fmt: skip
        until("the simulator is ready", lambda: "ready:" in part.text())


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Marketplaces and an empty, migrated database."""
    with Markets(tmp_path_factory.mktemp("livetest") / "w", clock=30) as world:
        world.start_simulator()
        assert world.django("migrate", "migrate", "-v0").process.wait(PATIENCE) == 0
        yield world


@pytest.fixture
def world(market: World) -> Iterator[World]:
    yield market
    market.lift_faults()


def start(world: World, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "django", "livetest", *LIMITS, *arguments]
    return subprocess.Popen(
        command, env=world.environment, cwd=world.directory, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def livetest(world: World, *arguments: str) -> tuple[int, str]:
    """Exit status and report; whatever it did, nothing is left on the account."""
    process = start(world, *arguments)
    out, err = process.communicate(timeout=PATIENCE)
    assert out, err
    assert "Traceback" not in err
    assert_nothing_is_left(world)
    return process.returncode, out


def assert_nothing_is_left(world: World) -> None:
    assert [row for row in world.ledger() if row["gone_at"] is None] == []
    assert set(world.states().values()) <= {"ended"}


@pytest.mark.e2e
def test_stale_stock_is_worked_around_and_both_are_operational(world: World) -> None:
    world.fault("create", "no_such_ask_404", provider="vastai", times=2)
    status, text = livetest(world, f"--report={world.directory / 'report.md'}")
    assert status == 0, text
    assert "| TensorDock | ✅ Works | ✅ Works | ✅ Works | ✅ Works | **FULLY" in text
    assert "Login as user by gpubroker's key:** ✅" in text
    assert "| Vast.ai | ✅ Works | ✅ Works | ✅ Works | ✅ Works | **FULLY OPERATIONAL** |" in text
    assert "| LOW | Vast.ai | Stale stock: a listed offer was not there | WORKED AROUND" in text
    assert "Login as root by a person's key:** ✅" in text
    assert "**Offers tried:** 3" in text
    parts = ["Bugs Found", "Warnings Observed", "Test Results", "Session Events"]
    places = [text.index(f"## {part}") for part in [*parts, "Recommendations", "Summary"]]
    assert places == sorted(places)
    assert (world.directory / "report.md").read_text() == text
    assert [path.read_text() for path in (world.data / "livetests").glob("*.md")] == [text]
    assert "PRIVATE KEY" not in text


@pytest.mark.e2e
def test_an_account_that_is_not_let_in_is_named(world: World) -> None:
    """As with `ssh_key` ignored and commands that reach root only."""
    world.fault("create", "root_only", provider="tensordock", times=0)
    status, text = livetest(world, "--provider=tensordock", "--json")
    report = json.loads(text)
    assert (status, report["ok"]) == (1, False)
    [bug] = [bug for bug in report["bugs"] if "for the account" in bug["description"]]
    assert bug["description"] == "SSH key not installed for the account `user`"
    assert (bug["severity"], bug["status"]) == ("HIGH", "OPEN")
    logins = {
        (login["account"], login["key"]): login["ok"] for login in report["results"][0]["logins"]
    }
    assert logins["root", "gpubroker's key"]


@pytest.mark.e2e
def test_ctrl_c_gives_everything_back(world: World) -> None:
    world.fault("create", "boot_never_ends", times=0)
    process = start(world, "--provider=vastai")
    until("a machine exists", lambda: [r for r in world.ledger() if r["gone_at"] is None])
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "(early: interrupted)" in out
    assert "absence proven" in out
    assert_nothing_is_left(world)


# -- the report alone


@pytest.fixture
def test(db: None, settings) -> LiveTest:
    settings.PROVIDERS = {"tensordock": {"api_key": "hush", "base_url": "http://127.0.0.1:9"}}
    allowance = Allowance(max_price=Decimal("0.5"), max_spend=Decimal(1))
    return LiveTest(allowance, Engine(), lambda line: None)


def good(account: str, by_person: bool = False) -> Login:
    return Login(account=account, by_person=by_person, check=Check(stage="gpu"), tries=1)


def trial(*logins: Login, **fields: object) -> Trial:
    """Verified, logged into and given back within minutes."""
    now = timezone.now()
    values = {"reason": "user", "verified_at": now, "stop_requested_at": now, "ended_at": now}
    session = make_session("ended", provider="tensordock", **values | fields)
    make_attempt(
        session, resolution="gone", instance_id="i-1", sent_at=now, ready_at=now, gone_at=now
    )
    return Trial(provider="tensordock", session=session, logins=list(logins))


def report(test: LiveTest, *trials: Trial) -> livetest_report.Report:
    test.trials = list(trials)
    return livetest_report.make(test, ["tensordock"])


def test_a_key_for_root_only_is_named_with_the_account(test: LiveTest) -> None:
    refused = replace(good("user"), check=Check(stage="open", refused=True, message="Refused."))
    found = report(test, trial(good("root"), refused, good("root", by_person=True)))
    assert not found.ok
    [bug] = found.bugs
    assert (bug.id, bug.severity, bug.status) == ("BUG-001", "HIGH", "OPEN")
    assert bug.description == "SSH key not installed for the account `user`"
    assert "| ✅ Works | ❌ Fails | ✅ Works | ✅ Works |" in markdown(found)


def test_a_key_that_nobody_takes_is_told_apart_from_a_dead_port(test: LiveTest) -> None:
    nowhere = {"verified_at": None, "ssh_attempts": 9}
    refused = trial(reason="ssh_refused", ssh_stage="open", ssh_message="Refused.", **nowhere)
    silent = trial(reason="ssh_timeout", ssh_stage="", ssh_message="Closed.", **nowhere)
    found = report(test, refused, silent)
    assert [bug.description.split(":")[0] for bug in found.bugs] == [
        "SSH key not installed",
        "SSH did not answer in time",
    ]
    assert "9 SSH attempts, last: Refused." in found.bugs[0].evidence
    assert "| ✅ Works | ❌ Fails | ❌ Fails | ✅ Works |" in markdown(found)


def test_what_is_not_proven_gone_is_the_worst_of_all(test: LiveTest) -> None:
    left = trial(good("root"), good("user"), good("root", by_person=True))
    left.session.attempts.update(resolution="created", gone_at=None)
    fine = trial(good("root"), good("user"), good("root", by_person=True))
    found = report(test, left, fine)
    assert (left.passed(), fine.passed(), found.ok) == (False, True, False)
    assert [(bug.severity, bug.status) for bug in found.bugs] == [("CRITICAL", "OPEN")]
    assert "NOT proven gone" in markdown(found)


def test_every_provider_must_pass(test: LiveTest) -> None:
    fine = trial(good("root"), good("user"), good("root", by_person=True))
    assert report(test, fine).ok
    assert not report(test).ok
    refused = Trial(provider="tensordock", refused="the key is not accepted: 401")
    found = report(test, refused)
    assert not found.ok
    assert "the key is not accepted: 401" in markdown(found)


def test_words_of_others_stay_in_their_cell(test: LiveTest) -> None:
    assert cell("a | b\n# c <img> [x](y) *z*") == r"a \| b \# c \<img\> \[x\](y) \*z\*"
    bad = trial(reason="boot_failed", reason_text="x |\n| BUG-999 | <script>", verified_at=None)
    text = markdown(report(test, bad))
    assert "\n| BUG-999" not in text
    assert "<script>" not in text


def test_money_that_may_still_flow_counts_before_it_is_spent(test: LiveTest) -> None:
    session = make_session("running", provider="tensordock")
    now = timezone.now()
    make_attempt(session, price_per_hour=Decimal("0.48"), sent_at=now - timedelta(hours=1))
    test.trials = [Trial(provider="tensordock", session=session)]
    test.require_budget(Decimal("0.40"))
    with pytest.raises(Cut, match=r"limit of \$1 is near"):
        test.require_budget(Decimal("0.50"))


def test_a_limit_that_one_launch_could_break_launches_nothing(test: LiveTest) -> None:
    """$0.50 an hour for five minutes is more than four cents."""
    make_health("tensordock")
    make_offer(provider="tensordock", disk_gb_max=500)
    test.allowance = replace(test.allowance, max_spend=Decimal("0.04"))
    test.run(["tensordock"])
    assert "the limit of $0.04 is near" in test.cut
    assert not Session.objects.exists()


def test_the_cheapest_acceptable_offer_is_taken(test: LiveTest) -> None:
    offers = {
        "dear": {"base_price_per_hour": Decimal("0.60")},
        "unlisted": {"base_price_per_hour": Decimal("0.01"), "listed": False},
        "evicted": {"evicted_until": timezone.now() + timedelta(hours=1)},
        "two": {"gpu_count": 2},
        "outbid": {"interruptible": True},
        "small": {"disk_gb_max": 5},
        "elsewhere": {"provider": "vastai"},
        "taken": {"base_price_per_hour": Decimal("0.20")},
        "other": {"base_price_per_hour": Decimal("0.15"), "gpu_name": "RTX 3060"},
    }
    for name, fields in offers.items():
        make_offer(
            **{"provider": "tensordock", "offer_id": name, "base_price_per_hour": 0} | fields
        )
    assert test.cheapest("tensordock").offer_id == "other"
    test.allowance = replace(test.allowance, gpu="RTX 4090")
    assert test.cheapest("tensordock").offer_id == "taken"
