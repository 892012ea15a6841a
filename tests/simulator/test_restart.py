"""The world outlives the process: kill -9, start again, and nothing answered is lost."""

import signal
import socket
import struct
import time
from pathlib import Path
from random import Random

import asyncssh
import pytest

from providers.cloud_init import key_commands
from providers.simulator.server import options_of
from providers.simulator.stock import build, drift
from providers.simulator.store import Store

from .conftest import OWNER, Simulator, wait_for
from .dock import Dock
from .test_first_boots import line
from .test_ssh import attach, login, open_port, try_login


def test_kill_dash_nine_loses_nothing(tmp_path: Path, key: asyncssh.SSHKey) -> None:
    simulator = Simulator(tmp_path)
    simulator.start(("manage.py", "simulator"))
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
    dock = Dock(simulator)
    docked = dock.rent(ssh_key=line(key), cloud_init={"runcmd": key_commands([line(key)])})
    wait_for(lambda: dock.truth(docked)["booted"], "first boot")
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
        wait_for(lambda: dock.truth(docked)["keys_working"], "keys")
        second = dock.truth(docked)["ssh_port"]
        wait_for(lambda: try_login(second, key) == "root\n", "login as root")
        assert login(second, key, "whoami", user="user")[0]["out"] == "user\n"
    finally:
        simulator.end()


def test_a_caller_that_dies_in_its_request_troubles_nobody(tmp_path: Path) -> None:
    with (tmp_path / "errors").open("w") as errors:
        simulator = Simulator(tmp_path / "data", errors=errors)
        simulator.start()
        offer = simulator.search()[0]["id"]
        cut_off(simulator.vastai, f"PUT /api/v0/asks/{offer}/", whole=100, sent=b'{"image": ')
        assert simulator.listing()["instances"] == []
        wire = simulator.ask("/wire")["requests"]
        simulator.end()
        assert "create" not in {request["operation"] for request in wire}
    assert (tmp_path / "errors").read_text() == ""


def cut_off(url: str, request: str, *, whole: int, sent: bytes) -> None:
    """Part of a body of so many bytes, then the end as by kill -9 with bytes on their way."""
    host, port = url.removeprefix("http://").split(":")
    head = f"{request} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {OWNER}\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as caller:
        caller.sendall(f"{head}Content-Length: {whole}\r\n\r\n".encode() + sent)
        time.sleep(0.2)  # until it waits for the rest
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _answer(port: int, key: asyncssh.SSHKey) -> dict | None:
    return login(port, key, "nvidia-smi")[0] if try_login(port, key) == "root\n" else None


def test_a_torn_last_line_is_forgotten(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("meta", "a", {"b": 1})
    store.put("meta", "a", {"b": 2})
    with (tmp_path / "world.jsonl").open("a") as file:
        file.write('{"kind": "meta", "key": "a", "val')
    again = Store(tmp_path)
    again.put("meta", "c", {"d": 3})
    assert Store(tmp_path).all("meta") == {"a": {"b": 2}, "c": {"d": 3}}


def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.simulator.store.SPARE_LINES", 10)
    store = Store(tmp_path)
    for number in range(1000):
        store.put("meta", "a", {"b": number})
    assert len((tmp_path / "world.jsonl").read_text().splitlines()) < 20
    assert Store(tmp_path).all("meta") == {"a": {"b": 999}}


@pytest.mark.parametrize("values", [{"clock": 0.5}, {"clock": 101}, {"account": ["a=b"]}])
def test_senseless_arguments_are_refused(tmp_path: Path, values: dict) -> None:
    with pytest.raises(ValueError, match="--"):
        options_of({"data_dir": tmp_path} | values)


def test_the_stock_is_drawn_from_its_seed_and_drifts() -> None:
    machines = build(5)
    assert machines == build(5)
    assert machines != build(6)
    before = {item.machine_id: (item.price, item.listed) for item in machines}
    dice = Random(1)
    rounds = [drift(machines, dice) for _ in range(50)]
    assert all(0 < len(changed) < len(machines) / 4 for changed in rounds)
    assert any(not item.listed for item in machines)
    assert any(item.price != before[item.machine_id][0] for item in machines)
    assert all(0.84 < item.price / item.base_price < 1.21 for item in machines)
