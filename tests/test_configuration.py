"""What people set, what they are told about it, and what never leaves: the secrets."""

import logging
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands

from gpubroker import redaction
from gpubroker.env import VARIABLES, Environment, kept_secret, read_environment

ROOT = Path(settings.CHECKOUT)
OURS = r"(?:GPUBROKER|VASTAI|TENSORDOCK)_[A-Z_]+|DATABASE_URL|DEPLOYMENT_ID"
NAMES = {variable.name for variable in VARIABLES}
SECRETS = {variable.name for variable in VARIABLES if variable.secret}
FILES = {f"{name}_FILE" for name in SECRETS}
FERNET = Fernet.generate_key().decode()
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\ndef\n-----END OPENSSH PRIVATE KEY-----"


def read(tmp_path: Path, dotenv: str = "", **environment: str) -> Environment:
    (tmp_path / ".env").write_text(dotenv)
    environment.setdefault("GPUBROKER_DATA_DIR", str(tmp_path / "data"))
    return read_environment(environment, tmp_path / ".env")


def test_the_example_lists_every_variable_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    shown = dict(line[1:].split("=", 1) for line in lines if re.match(r"#[A-Z]", line))
    assert shown == {variable.name: variable.default for variable in VARIABLES}


def test_the_readme_names_every_variable_and_no_other() -> None:
    named = set(re.findall(OURS, (ROOT / "README.md").read_text()))
    assert NAMES <= named <= NAMES | FILES


def test_the_readme_says_of_each_variable_what_its_definition_says() -> None:
    row = re.compile(r"\| `(\w+)`( 🔒)? \| (?:`(.*?)`|–) \| (.*) \|")
    rows = [row.fullmatch(line) for line in (ROOT / "README.md").read_text().splitlines()]
    shown = [(found[1], bool(found[2]), found[3] or "", found[4]) for found in rows if found]
    assert shown == [(each.name, each.secret, each.default, each.help) for each in VARIABLES]


def test_the_readme_names_commands_that_exist_and_files_that_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^\| `([a-z_]+)[ `]", text, re.M)) | set(
        re.findall(r"manage\.py ([a-z_]+)", text)
    )
    assert named >= {"up", "worker", "doctor", "livetest", "sweep", "adopt_identity"}
    assert named <= set(get_commands())
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / link).is_file(), link


def test_compose_sets_only_variables_that_exist() -> None:
    named = set(re.findall(OURS, (ROOT / "compose.yaml").read_text()))
    assert named <= NAMES | FILES


def test_settings_read_only_variables_that_exist() -> None:
    named = re.findall(r'ENV\["(\w+)"\]', (ROOT / "gpubroker/settings.py").read_text())
    assert named
    assert set(named) <= NAMES


def test_an_empty_environment_is_a_working_one(tmp_path: Path) -> None:
    env = read(tmp_path)
    assert env.problems == []
    assert env.providers == {}
    assert (env["GPUBROKER_PORT"], env["GPUBROKER_TIME_SCALE"]) == (8080, 1.0)
    assert (env["GPUBROKER_HTTPS"], env["GPUBROKER_TRUSTED_ORIGINS"]) == (False, [])
    assert env["GPUBROKER_ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert env.database["NAME"] == str(tmp_path / "data" / "gpubroker.sqlite3")
    assert env.database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_dotenv_is_read_and_the_real_environment_wins(tmp_path: Path) -> None:
    dotenv = "VASTAI_API_KEY='from-file'\nGPUBROKER_PORT=9000\nTENSORDOCK_API_TOKEN=td\n"
    env = read(tmp_path, dotenv, GPUBROKER_PORT="9001")
    assert env["GPUBROKER_PORT"] == 9001
    assert env.providers["vastai"]["api_key"] == "from-file"
    assert env.providers["tensordock"]["base_url"] == "https://dashboard.tensordock.com"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("TENSORDOCK_API_KEY", "TENSORDOCK_API_TOKEN"),
        ("VAST_API_KEY", "VASTAI_API_KEY"),
        ("GPUBROKER_DATADIR", "GPUBROKER_DATA_DIR"),
        ("GPUBROKER_SECRET_KEY_FIEL", "GPUBROKER_SECRET_KEY"),
    ],
)
def test_a_wrong_name_is_a_problem_that_names_the_right_one(
    tmp_path: Path, name: str, right: str
) -> None:
    (problem,) = read(tmp_path, **{name: "something"}).problems
    assert name in problem
    assert f"the right name is {right}" in problem


def test_a_strange_name_is_a_problem_even_without_a_suggestion(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, dotenv="GPUBROKER_XYZZY=1\n", PATH="/bin").problems
    assert "GPUBROKER_XYZZY" in problem


def test_half_a_provider_is_a_problem(tmp_path: Path) -> None:
    env = read(tmp_path, VASTAI_BASE_URL="https://vast.example.org")
    assert env.providers == {}
    assert "VASTAI_API_KEY is not" in env.problems[0]


def test_a_key_is_not_sent_in_clear_text(tmp_path: Path) -> None:
    far = {"VASTAI_API_KEY": "k", "VASTAI_BASE_URL": "http://vast.example.org"}
    env = read(tmp_path, **far)
    assert env.providers == {}
    assert "not https" in env.problems[0]
    near = read(tmp_path, VASTAI_API_KEY="k", VASTAI_BASE_URL="http://127.0.0.1:9/")
    assert near.providers == {"vastai": {"api_key": "k", "base_url": "http://127.0.0.1:9"}}
    assert read(tmp_path, GPUBROKER_SIMULATED="true", **far).problems == []


@pytest.mark.parametrize("name", sorted(SECRETS - {"DATABASE_URL"}))
def test_every_secret_can_come_from_a_file(tmp_path: Path, name: str) -> None:
    value = {"GPUBROKER_ENCRYPTION_KEY": FERNET, "GPUBROKER_SECRET_KEY": FERNET + "0123456789"}
    path = tmp_path / "secret"
    path.write_text(value.get(name, "the-secret") + "\n")
    env = read(tmp_path, **{f"{name}_FILE": str(path)})
    assert env.problems == []
    assert env[name] in (value.get(name, "the-secret"), [FERNET])


def test_a_secret_twice_and_an_unreadable_file_are_problems(tmp_path: Path) -> None:
    twice = read(tmp_path, VASTAI_API_KEY="k", VASTAI_API_KEY_FILE="/nowhere")
    assert "both set" in twice.problems[0]
    assert twice["VASTAI_API_KEY"] == "k"
    unreadable = read(tmp_path, VASTAI_API_KEY_FILE="/nowhere")
    assert "cannot be read" in unreadable.problems[0]
    assert unreadable.providers == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GPUBROKER_HTTPS", "yes"),
        ("GPUBROKER_SIMULATED", "1"),
        ("GPUBROKER_PORT", "http"),
        ("GPUBROKER_PORT", "70000"),
        ("GPUBROKER_TIME_SCALE", "0.5"),
        ("GPUBROKER_TIME_SCALE", "nan"),
        ("GPUBROKER_LOG_LEVEL", "LOUD"),
        ("GPUBROKER_ALLOWED_HOSTS", "gpus.example.org,*"),
        ("GPUBROKER_TRUSTED_ORIGINS", "gpus.example.org"),
        ("VASTAI_BASE_URL", "console.vast.ai"),
        ("VASTAI_BASE_URL", "https://user:pw@vast.example.org"),
        ("GPUBROKER_SECRET_KEY", "short"),
        ("GPUBROKER_ENCRYPTION_KEY", "not-a-fernet-key"),
    ],
)
def test_what_cannot_be_believed_stops_the_start(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=name) as error:
        read(tmp_path, **{name: value})
    assert (value in str(error.value)) == (name not in SECRETS)


def test_the_database_is_private_also_where_its_directory_is_not(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    name = Path(str(read(tmp_path).database["NAME"]))
    with sqlite3.connect(name) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (x)")
        assert {stat.S_IMODE(file.stat().st_mode) for file in name.parent.glob("*.sqlite3*")} == {
            0o600
        }
    read(tmp_path).database["NAME"]
    assert sqlite3.connect(name).execute("SELECT * FROM t").fetchall() == []


def test_behind_tls_nothing_is_left_to_complain_about(tmp_path: Path) -> None:
    """Cookies that never travel in clear text, and a name that binds them to this one host."""
    command = (
        "import django; django.setup()\n"
        "from django.conf import settings as s\n"
        "from django.core.management import call_command\n"
        "call_command('check', deploy=True, fail_level='WARNING')\n"
        "print(s.SESSION_COOKIE_NAME, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.DEBUG)"
    )
    own = {"DJANGO_SETTINGS_MODULE": "gpubroker.settings", "GPUBROKER_HTTPS": "true"}
    done = subprocess.run(
        [sys.executable, "-c", command], env=own | {"GPUBROKER_DATA_DIR": str(tmp_path / "data")},
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "__Host-gpubroker True True False"


@pytest.mark.parametrize(
    "url", ["mysql://localhost/x", "not an address", "postgres://u:p@h:port/x"]
)
def test_an_unknown_database_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL"):
        _ = read(tmp_path, DATABASE_URL=url).database


def test_postgres_connections_end_with_the_request(tmp_path: Path) -> None:
    database = read(tmp_path, DATABASE_URL="postgres://u:p%40ss@db.example.org:5433/g").database
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["HOST"], database["PASSWORD"], database["CONN_MAX_AGE"]) == (
        "db.example.org",
        "p@ss",
        0,
    )


def test_keys_are_made_once_privately_and_apart(tmp_path: Path) -> None:
    first, second = read(tmp_path), read(tmp_path)
    assert first.secret_key == second.secret_key
    assert first.encryption_keys == second.encryption_keys
    assert len(first.secret_key) >= 50
    assert first.secret_key not in first.encryption_keys
    assert stat.S_IMODE(first.data_dir.stat().st_mode) == 0o700
    for path in first.data_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_several_encryption_keys_keep_their_order(tmp_path: Path) -> None:
    older = Fernet.generate_key().decode()
    env = read(tmp_path, GPUBROKER_ENCRYPTION_KEY=f"{FERNET}, {older}")
    assert env.encryption_keys == (FERNET, older)


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    made = iter(range(1000))
    with ThreadPoolExecutor(16) as pool:
        texts = pool.map(
            lambda _: kept_secret(tmp_path / "key", lambda: f"key-{next(made)}"), range(64)
        )
    assert len(set(texts)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_an_empty_key_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    with pytest.raises(ImproperlyConfigured, match="backup"):
        kept_secret(tmp_path / "key", lambda: "new")


@pytest.fixture
def live_secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    secret = "s3cr3t/with+signs"
    monkeypatch.setattr(redaction, "_secrets", lambda: iter([secret]))
    redaction.live_secrets.cache_clear()
    yield secret
    redaction.live_secrets.cache_clear()


def logged(*arguments: object, exception: Exception | None = None) -> str:
    """What the console handler prints of such a record."""
    info = (type(exception), exception, exception.__traceback__) if exception else None
    record = logging.LogRecord("x", logging.ERROR, "f.py", 1, arguments[0], arguments[1:], info)
    assert redaction.Redact().filter(record)
    return logging.Formatter().format(record)


def test_live_secrets_are_masked_wherever_they_stand(live_secret: str) -> None:
    quoted = "s3cr3t%2Fwith%2Bsigns"
    try:
        raise ValueError(f"GET https://x.example.org/?k={quoted} with {live_secret}")
    except ValueError as error:
        text = logged("call %s failed for %r", live_secret, {"key": live_secret}, exception=error)
    assert live_secret not in text
    assert quoted not in text
    assert "ValueError" in text
    assert "failed for" in text


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer hush-hush-123",
        "GET /api?api_key=hush-hush-123&x=1",
        "{'api_key': 'hush-hush-123'}",
        '{"api_key": "hush-hush-123"}',
        "postgres://gpubroker:hush-hush-123@db.example.org/g",
        "POST /login/MQ/abc123-hush-hush-123-abcdefabcdefabcdef/",
        PEM.replace("abc", "hush-hush-123"),
        PEM.replace("abc", "hush-hush-123")[:60],
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    shown = logged("before %s after", text)
    assert "hush" not in shown
    assert shown.startswith("before")


def test_a_wrong_format_string_still_reaches_the_log() -> None:
    assert "broken" in logged("broken %d", "text")


def test_the_console_handler_redacts() -> None:
    assert settings.LOGGING["handlers"]["console"]["filters"] == ["redact"]
    live = set(redaction.live_secrets())
    assert {settings.SECRET_KEY, *settings.ENCRYPTION_KEYS} <= live
