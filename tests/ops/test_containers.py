"""The image and compose.yaml, as far as reading them tells: variables, accounts, commands."""

import re
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands

from gpubroker.env import VARIABLES

ROOT = Path(settings.CHECKOUT)
NAMES = {variable.name for variable in VARIABLES}
FILES = {f"{variable.name}_FILE" for variable in VARIABLES if variable.secret}
OURS = ("web", "worker")


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def dockerfile() -> dict[str, list[str]]:
    """Instruction -> its arguments, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, rest = line.split(None, 1)
            found.setdefault(word, []).append(rest)
    return found


def test_every_variable_in_a_container_exists(compose: dict, dockerfile: dict) -> None:
    for name in OURS:
        assert set(compose["services"][name]["environment"]) <= NAMES | FILES
    in_image = set(re.findall(r"(\w+)=", dockerfile["ENV"][0]))
    assert {name for name in in_image if name.startswith("GPUBROKER")} <= NAMES


def test_no_secret_stands_in_the_file(compose: dict) -> None:
    """Secrets come from files; each of those is declared and given to the container."""
    secrets = {variable.name for variable in VARIABLES if variable.secret}
    for name in OURS:
        service = compose["services"][name]
        assert not secrets & set(service["environment"])
        for variable, path in service["environment"].items():
            if variable.endswith("_FILE"):
                assert path.removeprefix("/run/secrets/") in service["secrets"]
    used = {each for service in compose["services"].values() for each in service["secrets"]}
    assert used == set(compose["secrets"])


@pytest.mark.parametrize("name", OURS)
def test_containers_may_do_little(compose: dict, dockerfile: dict, name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["init"] is True
    for user in (service["user"], *dockerfile["USER"]):
        assert int(user.split(":")[0]) > 0
    assert "useradd" in dockerfile["RUN"][0]


@pytest.mark.parametrize("name", OURS)
def test_the_command_exists(compose: dict, name: str) -> None:
    program, command, *_ = compose["services"][name]["command"]
    assert program == "django-admin"
    assert get_commands()[command] == "gpubroker"


def test_web_and_worker_share_keys_and_identity(compose: dict, dockerfile: dict) -> None:
    mounts = {tuple(compose["services"][name]["volumes"]) for name in OURS}
    assert mounts == {("data:/data",)}
    assert "GPUBROKER_DATA_DIR=/data" in dockerfile["ENV"][0]
    assert set(compose["volumes"]) == {"data", "postgres"}


def test_the_health_check_asks_the_port_that_is_bound(compose: dict) -> None:
    web = compose["services"]["web"]
    assert "127.0.0.1:8080/healthz" in web["healthcheck"]["test"][-1]
    assert web["ports"] == ["127.0.0.1:${GPUBROKER_PORT:-8080}:8080"]
    compile(web["healthcheck"]["test"][-1], "healthcheck", "exec")


def test_all_that_the_wheel_needs_reaches_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    assert let_in >= {"pyproject.toml", "README.md", "LICENSE", "templates", "static"}
    assert let_in >= {"gpubroker", "sessions", "providers"}
