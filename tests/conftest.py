"""The surroundings of every test: no network but this machine's own (see also settings.py)."""

import os
import shutil
import socket
from collections.abc import Iterator

import pytest

from tests.audit_tools import flushable_audit, no_old_anchor  # noqa: F401  fixtures of every test

LOOPBACK = ("127.", "::1", "localhost")
LONGEST_FIRST = (  # groups of tests, so that none of them is left alone at the end
    "lost-answers", "drills", "dead-man", "many", "accessibility", "failure pages", "livetest",
    "browser", "flows", "page flows", "doubt", "reconnect", "kills", "idle", "postgresql", "engine",
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups before all the short tests, which fill what the groups leave of each process."""
    items.sort(key=place)


def place(item: pytest.Item) -> int:
    marker = item.get_closest_marker("xdist_group")
    if marker is None:
        return len(LONGEST_FIRST)
    group = marker.args[0]
    return LONGEST_FIRST.index(group) if group in LONGEST_FIRST else 0


def pytest_configure(config: pytest.Config) -> None:
    """pytest 9.1 forgets the fixtures of a folder that it comes back to from a file above it."""
    config.args.sort()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures that tests have measured; they assert none of them."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(str(value))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names also travel as an environment variable: megabytes there end every child process."""
    long = isinstance(val, str | bytes) and len(val) > 80
    return f"{argname}-of-{len(val)}" if long else None


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["GPUBROKER_DATA_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Iterator[None]:
    """A test that reaches for the internet fails at once and says where it wanted to go."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(instance: socket.socket, address: object) -> None:
        if instance.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])  # type: ignore[index]
            if not host.startswith(LOOPBACK):
                raise RuntimeError(f"a test tried to reach {host}")

    def guarded_connect(self: socket.socket, address: object) -> None:
        check(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: object) -> int:
        check(self, address)
        return connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield
