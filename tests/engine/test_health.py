"""Health as seen from outside, and the doctor."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from gpubroker import polls, start
from gpubroker.health import readiness
from providers.base import Account, AuthRefused
from sessions import identity
from sessions.models import Heartbeat, Slot
from tests.factories import make_health, make_session

pytestmark = pytest.mark.django_db


@pytest.fixture
def vastai(settings) -> None:
    settings.PROVIDERS = {"vastai": {"api_key": "hush-hush-123", "base_url": "http://127.0.0.1:9"}}


def make_everything_well() -> None:
    identity.ensure()
    make_health("vastai", offers_read_at=timezone.now())
    Heartbeat.objects.create(name="worker", at=timezone.now())
    Slot.objects.create(number=0, generation=1, beat_at=timezone.now())


def broken_parts() -> set[str]:
    return {name for name, part in readiness(timezone.now()).items() if not part["ok"]}


def test_healthz_needs_no_login_and_no_database(client: Client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert client.post("/healthz").status_code == 405


def test_a_fresh_installation_without_providers_says_what_is_missing(client: Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert parts["database"]["ok"]
    assert not parts["worker"]["ok"]
    assert parts["providers"]["detail"] == "no provider has a key"


def test_everything_well_is_ready_and_tells_no_secret(client: Client, vastai: None) -> None:
    make_everything_well()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert "hush" not in answer.content.decode()


def test_the_log_tells_of_changes_and_not_of_polls(
    client: Client, vastai: None, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(polls.told, "failing", set())

    def told(times: int = 3) -> list[str]:
        caplog.clear()
        for _ in range(times):
            client.get("/readyz")
        return caplog.messages

    make_everything_well()
    assert told() == []
    Heartbeat.objects.update(at=timezone.now() - timedelta(minutes=1))
    assert told() == ["not ready: worker"]
    make_health("vastai", auth_error="401")
    assert told() == ["not ready: providers; worker"]
    Heartbeat.objects.update(at=timezone.now())
    make_health("vastai", auth_error="")
    assert told() == ["ready again"]
    client.get("/no-such-page/")
    assert caplog.messages[-1] == "Not Found: /no-such-page/"  # everything else is still told


def test_each_part_can_be_the_one_that_is_down(vastai: None, settings) -> None:
    make_everything_well()
    assert broken_parts() == set()
    long_ago = timezone.now() - timedelta(hours=1)
    Heartbeat.objects.update(at=long_ago)
    assert broken_parts() == {"worker"}
    Slot.objects.update(beat_at=long_ago)
    assert broken_parts() == {"worker", "slices"}
    make_health("vastai", offers_read_at=long_ago)
    assert broken_parts() == {"worker", "slices", "providers"}
    settings.DEPLOYMENT_ID = "another000"
    assert broken_parts() == {"worker", "slices", "providers", "identity"}


@pytest.mark.parametrize("trouble", [{"auth_error": "401"}, {"frozen_reason": "other account"}])
def test_a_refused_or_frozen_provider_is_not_ready(vastai: None, trouble: dict[str, str]) -> None:
    make_everything_well()
    make_health("vastai", offers_read_at=timezone.now(), **trouble)
    assert broken_parts() == {"providers"}


def test_a_key_that_nothing_can_use_is_not_silent(vastai: None, settings) -> None:
    make_everything_well()
    settings.PROVIDERS = settings.PROVIDERS | {"nobody": {"api_key": "k", "base_url": "b"}}
    assert broken_parts() == {"providers"}


class Marketplace:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def account(self) -> Account:
        if self.error:
            raise self.error
        return Account(account_id="1001", balance=None)


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--json")
    return ended.value.code, json.loads(capsys.readouterr().out)


def test_the_doctor_asks_the_marketplaces(
    vastai: None,
    settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_everything_well()
    monkeypatch.setattr("providers.registry.get", lambda name: Marketplace())
    assert doctor(capsys)[0] == 0
    monkeypatch.setattr("providers.registry.get", lambda name: Marketplace(AuthRefused("401")))
    settings.CONFIG_PROBLEMS = ["GPUBROKER_XYZZY is not a variable"]
    status, report = doctor(capsys)
    bad = {finding["name"] for finding in report["findings"] if not finding["ok"]}
    assert (status, bad) == (1, {"configuration", "credential vastai"})


def test_the_simulator_never_hides_real_machines(settings, tmp_path) -> None:
    settings.DATA_DIR = tmp_path
    assert start.wants_simulator()
    make_session()
    with pytest.raises(start.CommandError, match="open sessions of a real account"):
        start.wants_simulator()
    (tmp_path / "simulator").mkdir()
    assert start.wants_simulator()


def test_a_link_signs_the_first_admin_in_once(client: Client, settings) -> None:
    admin = start.first_admin()
    assert admin == start.first_admin()
    assert not admin.has_usable_password()
    line = start.signin_line(admin, "http://127.0.0.1:8080")
    path = line.removeprefix("Sign in: http://127.0.0.1:8080")
    assert client.post(path).status_code == 302
    assert client.session["_auth_user_id"] == str(admin.pk)
    assert Client().post(path).status_code != 302


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("gpus", "gpus")]
)
def test_the_printed_address_can_be_opened(host: str, shown: str) -> None:
    assert start.address(host, 80) == f"http://{shown}:80"
