"""The world outlives the process: kill -9, start again, and nothing answered is lost."""

import signal
from pathlib import Path

import asyncssh
import pytest

from .conftest import ROOT, Simulator, wait_for
from .test_ssh import attach, login, open_port, try_login


def test_kill_dash_nine_loses_nothing(tmp_path: Path, key: asyncssh.SSHKey) -> None:
    simulator = Simulator(tmp_path)
    simulator.start(("manage.py", "simulator") if (ROOT / "manage.py").exists() else ())
    nonce = simulator.nonce
    kept, gone = simulator.rent(disk=33), simulator.rent()
    attach(simulator, kept["id"], key)
    port = open_port(simulator, kept["id"])
    host_key = login(port, key, "true")[0]["host_key"]
    simulator.fault("account", "http_500", times=2)
    simulator.fault("ssh", "no_driver", label=kept["label"])
    simulator.destroy(gone["id"])
    wire = simulator.ask("/wire")["requests"]
    bill = simulator.bill(gone["id"])
    fresh = simulator.rent()
    simulator.end(signal.SIGKILL)
    assert try_login(port, key) == "closed"

    simulator.start()
    try:
        assert simulator.nonce == nonce
        labels = {row["label"] for row in simulator.listing()["instances"]}
        assert labels == {kept["label"], fresh["label"]}
        assert simulator.read(kept["id"])["disk_space"] == 33
        assert simulator.bill(gone["id"]) == bill
        assert simulator.ask("/wire")["requests"][: len(wire)] == wire
        assert simulator.call("GET", "/api/v0/users/current/").status_code == 500
        answer = wait_for(lambda: _answer(port, key), "SSH on the same port")
        assert answer["host_key"] == host_key
        assert "command not found" in answer["err"]
        later = simulator.rent()
        assert later["id"] > fresh["id"]
    finally:
        simulator.end()
    simulator.start()
    try:
        assert simulator.listing()["total_instances"] == 3
    finally:
        simulator.end()


def _answer(port: int, key: asyncssh.SSHKey) -> dict | None:
    return login(port, key, "nvidia-smi")[0] if try_login(port, key) == "root\n" else None


def test_a_torn_last_line_is_forgotten(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path)
    simulator.start()
    made = simulator.rent()
    simulator.end(signal.SIGKILL)
    with (tmp_path / "world.jsonl").open("a") as file:
        file.write('{"kind": "instance", "key": "vas')
    simulator.start()
    try:
        assert simulator.read(made["id"])["label"] == made["label"]
    finally:
        simulator.end()


@pytest.mark.parametrize("arguments", [("--clock", "0"), ("--clock", "101"), ("--account", "a=b")])
def test_senseless_arguments_are_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    simulator = Simulator(tmp_path, arguments)
    with pytest.raises(AssertionError):
        simulator.start()
    assert simulator.process is not None
    assert simulator.process.wait(60) == 1


def test_prices_drift_and_offers_come_and_go(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path, ("--clock", "100"))
    simulator.start()
    try:

        def look() -> dict[int, float]:
            found = simulator.search(limit=64, order=[["id", "asc"]])
            return {offer["id"]: offer["dph_base"] for offer in found}

        before = look()
        wait_for(lambda: set(look()) != set(before), "an offer to leave")
        wait_for(lambda: any(look().get(n, p) != p for n, p in before.items()), "a new price")
        simulator.tell("/market", steady=True)
        still = look()
        assert look() == still
    finally:
        simulator.end()
