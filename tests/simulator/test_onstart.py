"""The start script of a machine at Vast.ai: what it is given, what stays, and whom it reaches."""

import os
import subprocess
from pathlib import Path

import asyncssh
import pytest

from providers.simulator.onstart import Ask, understood

from .conftest import Json, Simulator, wait_for
from .test_ssh import login, try_login

IMAGE = "example/image:1"
DESTROY = (
    'curl -fsSm 60 -X DELETE -H "Authorization: Bearer $CONTAINER_API_KEY" '
    "-H 'Content-Type: application/json' -d '{{}}' {base}/api/v0/instances/{number}/"
)


def machine(simulator: Simulator, key: asyncssh.SSHKey, onstart: str) -> tuple[int, int]:
    """A running machine that one can log in to, and its port."""
    made = simulator.rent(onstart=onstart, runtype="ssh_direct")
    public = key.export_public_key().decode()
    simulator.call("POST", f"/api/v0/instances/{made['id']}/ssh/", {"ssh_key": public})
    simulator.running(made["id"])
    port = simulator.truth(made["id"])["ssh_port"]
    wait_for(lambda: try_login(port, key) == "root\n", "sshd")
    return made["id"], port


def says(port: int, key: asyncssh.SSHKey, command: str) -> str:
    return login(port, key, f"sh -c '{command}'")[0]["out"]


def test_it_is_given_its_number_and_a_key_of_its_own(
    simulator: Simulator, key: asyncssh.SSHKey
) -> None:
    number, port = machine(simulator, key, "env | grep -E 'CONTAINER|VAST' | sort >/root/given")
    wait_for(lambda: "LABEL" in says(port, key, "cat /root/given"), "the script")
    given = dict(line.split("=", 1) for line in says(port, key, "cat /root/given").splitlines())
    assert given["CONTAINER_ID"] == str(number) and given["VAST_CONTAINERLABEL"] == f"C.{number}"
    own = {"key": given["CONTAINER_API_KEY"]}
    assert simulator.call("GET", f"/api/v0/instances/{number}/", **own).status_code == 200
    other = simulator.rent()["id"]
    assert simulator.call("DELETE", f"/api/v0/instances/{other}/", {}, **own).status_code == 401
    assert simulator.call("GET", "/api/v1/instances/", **own).status_code == 401
    assert simulator.truth(other)["state"] != "gone"


def test_a_machine_destroys_itself_with_its_own_key(
    simulator: Simulator, key: asyncssh.SSHKey
) -> None:
    last = simulator.ask("/wire")["last"]
    destroy = DESTROY.format(base=simulator.vastai, number="$CONTAINER_ID")
    made = simulator.rent(onstart=f"( ( sleep 0.2; {destroy} ) >/dev/null & ); exit 3")
    wait_for(lambda: simulator.truth(made["id"])["state"] == "gone", "its own end")
    [asked] = [
        entry for entry in simulator.ask(f"/wire?since={last}")["requests"]
        if entry["operation"] == "destroy"
    ]  # fmt: skip
    assert (asked["own_key"], asked["label"], asked["status"]) == (True, made["label"], 200)
    assert asked["account"] == "4711" and asked["effect"]


def test_it_can_ask_nobody_else(simulator: Simulator, key: asyncssh.SSHKey) -> None:
    other = simulator.rent()["id"]
    foreign = DESTROY.format(base=simulator.vastai, number=other)
    script = [
        f"{foreign} >/root/said; echo $? >/root/1",
        f"curl {simulator.control}/ledger; echo $? >/root/2",
        "curl --proxy x y; echo $? >/root/3",
    ]
    _, port = machine(simulator, key, "\n".join(script))
    wait_for(lambda: says(port, key, "cat /root/3"), "the script")
    assert says(port, key, "cat /root/1 /root/2 /root/3").split() == ["22", "7", "2"]
    assert "auth_error" in says(port, key, "cat /root/said")
    assert simulator.truth(other)["state"] != "gone"


def processes(mark: str) -> int:
    listed = subprocess.check_output(["ps", "-eo", "args"], text=True)
    return listed.count(f"sleep {mark}")


def test_what_it_leaves_behind_lives_until_the_container_stops(
    simulator: Simulator, key: asyncssh.SSHKey
) -> None:
    script = "echo start >>/root/starts; ( sleep 86397 & )"
    number, port = machine(simulator, key, script)
    wait_for(lambda: processes("86397") == 1, "the background")
    assert says(port, key, "cat /root/starts") == "start\n"
    simulator.call("PUT", f"/api/v0/instances/{number}/", {"state": "stopped"})
    wait_for(lambda: processes("86397") == 0, "the stop")
    simulator.call("PUT", f"/api/v0/instances/{number}/", {"state": "running"})
    wait_for(lambda: processes("86397") == 1, "the next start")
    wait_for(lambda: try_login(port, key) == "root\n", "sshd")
    assert says(port, key, "cat /root/starts") == "start\nstart\n", "its disk was kept"
    simulator.destroy(number)
    wait_for(lambda: processes("86397") == 0, "the end")


def test_it_cannot_reach_the_host_through_what_it_leaves(
    simulator: Simulator, key: asyncssh.SSHKey, tmp_path: Path
) -> None:
    """A container that starts again writes through no link that its script has made."""
    mine = tmp_path / "mine"
    mine.write_text("of the host")
    mine.chmod(0o666)
    paths = f"/root/onstart.sh /tmp/.curl /usr/bin/curl; do ln -sf {mine} $p"
    number, _ = machine(simulator, key, f"for p in {paths}; done; ( sleep 86395 & )")
    wait_for(lambda: processes("86395") == 1, "the script")
    simulator.call("PUT", f"/api/v0/instances/{number}/", {"state": "stopped"})
    wait_for(lambda: processes("86395") == 0, "the stop")
    simulator.call("PUT", f"/api/v0/instances/{number}/", {"state": "running"})
    simulator.running(number)
    assert mine.read_text() == "of the host"


def test_its_processes_die_with_the_simulator(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path)
    simulator.start()
    simulator.rent(onstart="( sleep 86396 & )")
    wait_for(lambda: processes("86396") == 1, "the background")
    simulator.end(9)
    wait_for(lambda: processes("86396") == 0, "the end")
    simulator.start()
    wait_for(lambda: processes("86396") == 1, "it goes on after a restart")
    simulator.end()
    wait_for(lambda: processes("86396") == 0, "the end")
    assert os.listdir(tmp_path / "machines")


def test_a_script_may_name_its_own_program(simulator: Simulator, key: asyncssh.SSHKey) -> None:
    script = '#!/usr/bin/awk -f\nBEGIN { print "it\'s awk" >"/root/said" }'
    _, port = machine(simulator, key, script)
    assert wait_for(lambda: says(port, key, "cat /root/said"), "the script") == "it's awk\n"


@pytest.mark.parametrize(
    ("words", "ask"),
    [
        (["http://a/b"], {"method": "GET"}),
        (["-d", "x", "http://a/b"], {"method": "POST", "data": "x"}),
        (["-sfm", "5", "-H", "A: b: c", "http://a/b"], {"headers": {"A": "b: c"}, "fails": True}),
        ([], None),
        (["--insecure", "http://a/b"], None),
        (["http://a", "http://b"], None),
    ],
)
def test_what_a_call_of_curl_means(words: list[str], ask: Json | None) -> None:
    plain = {"method": "GET", "url": "http://a/b", "headers": {}, "data": "", "fails": False}
    assert understood(words) == (None if ask is None else Ask(**plain | ask))
