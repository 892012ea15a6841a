"""The live test in the browser: who may start it, what is run, what is shown."""

import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from gpubroker import livetests
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def apart(settings, tmp_path) -> None:
    settings.DATA_DIR = tmp_path
    settings.PROVIDERS = {"vastai": {"api_key": "hush-hush-123", "base_url": "http://127.0.0.1:9"}}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of each start; nothing runs."""
    found: list[list[str]] = []
    monkeypatch.setattr(livetests, "launch", lambda arguments, lock: found.append(arguments))
    return found


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


FIELDS = {"provider": "all", "max_price": "0.50", "max_spend": "1", "gpu": ""}


def test_only_those_who_may_do_anything_may_spend(started: list[list[str]]) -> None:
    client = Client()
    client.force_login(make_user(is_staff=True))
    assert client.get("/livetests/").status_code == 403
    assert client.post("/livetests/", FIELDS).status_code == 403
    assert started == []


def test_it_starts_with_the_terms_of_the_form(admin: Client, started: list[list[str]]) -> None:
    assert admin.post("/livetests/", FIELDS | {"gpu": "RTX 4090"}).status_code == 302
    [[*terms, lock]] = started
    assert terms == ["--provider=all", "--max-price=0.50", "--max-spend=1", "--gpu=RTX 4090"]
    assert lock.startswith("--lock=")


def test_the_lock_goes_over_to_the_process_without_a_gap(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something that only waits stands for the command: the page says running at once."""
    waiting = [sys.executable, "-c", "input()"]
    monkeypatch.setattr(livetests, "django_command", lambda *arguments: waiting)
    processes = []

    def popen(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        options["stdin"] = subprocess.PIPE
        processes.append(real(*arguments, **options))
        return processes[-1]

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    admin.post("/livetests/", FIELDS)
    admin.post("/livetests/", FIELDS)
    assert livetests.running()
    [process] = processes
    process.communicate(b"\n", timeout=60)
    assert not livetests.running()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_price": "0"},
        {"max_price": "NaN"},
        {"max_spend": "-1"},
        {"max_spend": ""},
        {"provider": "elsewhere"},
        {"gpu": "--report=/etc/passwd"},
        {"gpu": "x\ny"},
    ],
    ids=str,
)
def test_what_makes_no_sense_starts_nothing(
    admin: Client, started: list[list[str]], wrong: dict[str, str]
) -> None:
    assert admin.post("/livetests/", FIELDS | wrong).status_code == 422
    assert started == []


def test_one_at_a_time(admin: Client, started: list[list[str]]) -> None:
    with livetests.only_one() as progress:
        progress.write("12:00:00 Vast.ai: <b>Booting</b>\n")
        progress.flush()
        text = admin.get("/livetests/").content.decode()
        assert 'hx-trigger="every 2s"' in text
        assert "&lt;b&gt;Booting" in text
        assert admin.post("/livetests/", FIELDS).status_code == 302
        assert started == []
        with pytest.raises(CommandError, match="Another live test"):
            call_command("livetest", "--max-price=1", "--max-spend=1")
    assert "hx-trigger" not in admin.get("/livetests/").content.decode()


def test_past_reports_can_be_read_and_nothing_else(admin: Client) -> None:
    livetests.keep("# Live Test Report <script>", timezone.now())
    (livetests.directory() / "secret_key").write_text("hush-hush-123")
    text = admin.get("/livetests/").content.decode()
    assert "# Live Test Report &lt;script&gt;" in text
    assert "hush" not in text
    for name in ("secret_key", "../secret_key", "/etc/passwd"):
        assert admin.get("/livetests/", {"report": name}).status_code == 404
