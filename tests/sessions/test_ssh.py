"""The SSH check against a real OpenSSH server, and against peers that mean harm."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from paramiko.common import MSG_CHANNEL_SUCCESS

from sessions import keys, ssh
from sessions.ssh import Check, FoundGPU, Target, check
from tests.sessions.conftest import SSHServer

OUTSIDER = keys.generate()


def target(server: SSHServer, **fields: object) -> Target:
    """Deadlines for a busy machine; tests of silence set their own."""
    values = {
        "host": "127.0.0.1",
        "port": server.port,
        "user": server.user,
        "private_pem": server.key.private_pem,
        "allow_loopback": True,
        "connect_timeout": 30,
        "command_timeout": 30,
    }
    return Target(**values | fields)


def at(port: int, **fields: object) -> Target:
    values = {
        "host": "127.0.0.1",
        "port": port,
        "user": "root",
        "private_pem": OUTSIDER.private_pem,
        "allow_loopback": True,
        "connect_timeout": 0.5,
        "command_timeout": 0.5,
    }
    return Target(**values | fields)


def test_the_gpu_is_found_and_the_host_key_remembered(sshd: SSHServer) -> None:
    found = check(target(sshd))
    assert found == Check(
        stage="gpu",
        host_key=sshd.host_key(),
        gpus=(FoundGPU(name="NVIDIA GeForce RTX 4090", memory_mb=24564),),
        driver="570.86.15",
        cuda="12.8",
        load=0,
        memory_used_mb=1,
        message="1 x NVIDIA GeForce RTX 4090, driver 570.86.15, CUDA 12.8",
    ), sshd.log()
    assert check(target(sshd, host_key=found.host_key)) == found


def test_a_host_name_is_looked_up(sshd: SSHServer) -> None:
    assert check(target(sshd, host="localhost")).stage == "gpu"


@pytest.mark.parametrize("server_keeps_old_kind", [True, False])
def test_behind_another_host_key_nothing_is_run(
    sshd: SSHServer, tmp_path: Path, server_keeps_old_kind: bool
) -> None:
    sshd.command(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    pin = sshd.host_key("other")
    if not server_keeps_old_kind:
        pin = (
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGsX0fLhLEJH+"
            "Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU="
        )
    answer = check(target(sshd, host_key=pin, also=f"touch {tmp_path}/ran"))
    assert (answer.stage, answer.host_key_changed, answer.refused) == ("open", True, False)
    assert answer.host_key == sshd.host_key()
    assert "nothing was run" in answer.message
    assert not (tmp_path / "ran").exists()


def test_a_key_that_is_not_there_yet_is_a_refusal_and_pins_nothing(sshd: SSHServer) -> None:
    answer = check(target(sshd, private_pem=OUTSIDER.private_pem))
    assert (answer.stage, answer.refused, answer.host_key) == ("open", True, "")
    assert "does not accept" in answer.message


@pytest.mark.parametrize(
    "extra", ["AuthenticationMethods publickey,password", "PubkeyAuthentication no"]
)
def test_a_server_that_wants_something_else_is_a_refusal(sshd: SSHServer, extra: str) -> None:
    config = (sshd.directory / "config").read_text()
    allowing = config.replace("PasswordAuthentication no", "PasswordAuthentication yes")
    sshd.write("config", f"{extra}\n{allowing}")
    answer = check(target(sshd))
    assert (answer.stage, answer.refused) == ("open", True), (answer, sshd.log())


@pytest.mark.parametrize(
    ("rows", "status", "words"),
    [
        ("", 0, "nothing that can be read"),
        ("No devices were found\n", 6, "status 6"),
        ("NVIDIA RTX 4090, [N/A], 570.1, 0, 1\n", 0, "nothing that can be read"),
        ("\x1b]0;owned\x07NVIDIA RTX 4090, 24564, 570.1, 0, 1\n", 0, "nothing that can be read"),
        ("NVIDIA RTX 4090, 24564, 570.1, 0, 1, more\n", 0, "nothing that can be read"),
        ("NVIDIA RTX 4090, 99999999, 570.1, 0, 99999999\n", 0, "nothing that can be read"),
        ("Keine Geräte gefunden \udcff\n", 0, "nothing that can be read"),
        pytest.param(
            "NVIDIA RTX 4090, 24564, 570.1, 0, 1\n" * 65, 0, "nothing that can be read", id="many"
        ),
        pytest.param("x" * 10_000_000, 0, "far more", id="ten-megabytes"),
    ],
)
def test_odd_answers_of_nvidia_smi(sshd: SSHServer, rows: str, status: int, words: str) -> None:
    sshd.machine("", status=status)
    (sshd.directory / "rows").write_bytes(rows.encode(errors="surrogateescape"))
    answer = check(target(sshd))
    assert (answer.stage, answer.gpus) == ("key", ()), answer
    assert words in answer.message
    assert answer.host_key == sshd.host_key()
    assert answer.message.isprintable()


@pytest.mark.parametrize(
    ("figures", "load", "used"),
    [
        (["0, 1", "97, 20000"], 97, 20001),
        (["100, 81559", "0, 0"], 100, 81559),
        (["[N/A], 1", "97, 20000"], None, 20001),
        (["0, [N/A]", "0, 1"], 0, None),
        (["[Not Supported], [Unknown Error]", "0, 1"], None, None),
        (["101, 1", "0, 81560"], None, None),
        (["-1, 1", "0, 1e3"], None, None),
    ],
)
def test_load_and_memory_in_use_are_figures_or_unknown(
    sshd: SSHServer, figures: list[str], load: int | None, used: int | None
) -> None:
    sshd.machine("".join(f"NVIDIA H100 80GB HBM3, 81559, 580.1, {text}\n" for text in figures))
    answer = check(target(sshd))
    assert (answer.stage, answer.load, answer.memory_used_mb) == ("gpu", load, used)


def test_greetings_and_several_gpus(sshd: SSHServer) -> None:
    sshd.machine(
        "Welcome to your machine, friend\n" + "NVIDIA H100 80GB HBM3, 81559, 580.1, 0, 1\n" * 8
    )
    answer = check(target(sshd))
    assert answer.stage == "gpu"
    assert answer.gpus == (FoundGPU(name="NVIDIA H100 80GB HBM3", memory_mb=81559),) * 8


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "#!/bin/sh\nkill -9 $PPID; kill -9 $(cat /proc/$PPID/stat | cut -d' ' -f4)\n",
            "no answer",
        ),
        ("#!/bin/sh\nexec sleep 60\n", "did not finish within 0.5 s"),
    ],
)
def test_commands_that_do_not_end(sshd: SSHServer, script: str, words: str) -> None:
    sshd.command(script)
    quick = {"command_timeout": 0.5} if "sleep" in script else {}
    answer = check(target(sshd, **quick))
    assert answer.stage == "key"
    assert words in answer.message


def test_a_machine_without_nvidia_smi(sshd: SSHServer) -> None:
    (sshd.directory / "bin" / "nvidia-smi").unlink()
    assert check(target(sshd)).message == "There is no nvidia-smi on the machine."


@pytest.mark.parametrize("status", [0, 9])
def test_another_command_is_run_after_the_look(sshd: SSHServer, status: int) -> None:
    sshd.machine("NVIDIA GeForce RTX 4090, 24564, 570.86.15, 0, 1\n", status=status)
    found = check(target(sshd, also="sh -c 'echo said; exit 3'"))
    assert (found.stage, found.also) == ("gpu" if status == 0 else "key", "said\n")
    assert check(target(sshd)).also is None


def test_another_command_that_hangs_or_prints_too_much_spoils_no_look(sshd: SSHServer) -> None:
    for also in ("sleep 60", "yes"):
        found = check(target(sshd, also=also, command_timeout=3))
        assert (found.stage, found.also) == ("gpu", None)


def test_only_unsafe_methods(sshd: SSHServer) -> None:
    sshd.configure("Ciphers aes128-cbc\n")
    answer = check(target(sshd))
    assert (answer.stage, answer.refused) == ("open", False)
    assert "no longer safe" in answer.message


def test_nothing_of_the_local_ssh_set_up_takes_part(
    sshd: SSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ProxyCommand, a key that would be accepted, and an agent: none is touched."""
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "config").write_text(f"Host *\n  ProxyCommand touch {tmp_path}/ran\n  User nobody\n")
    (home / "id_ed25519").write_text(sshd.key.private_pem)
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    assert check(target(sshd, private_pem=OUTSIDER.private_pem)).refused
    assert check(target(sshd)).stage == "gpu"
    assert not (tmp_path / "ran").exists()


def silent(connection: socket.socket) -> None:
    connection.recv(1000)  # the client's greeting
    connection.recv(1)  # until it hangs up


def dripping(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"S")
        time.sleep(0.1)


def endless_banner(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * 65536)


def half_ssh(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    while connection.recv(4096):
        pass


def web_server(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)


def hanging_up(connection: socket.socket) -> None:
    connection.close()


@pytest.mark.parametrize(
    ("serve", "stage", "words"),
    [
        (silent, "", "not as an SSH server"),
        (dripping, "", "not as an SSH server"),
        (endless_banner, "", "not as an SSH server"),
        (web_server, "", "not as an SSH server"),
        (hanging_up, "", "not as an SSH server"),
        (half_ssh, "open", "fell silent"),
    ],
)
def test_peers_that_never_come_to_a_login(
    peer: Callable[..., int], serve: Callable, stage: str, words: str
) -> None:
    answer = check(at(peer(serve)))
    assert (answer.stage, answer.refused, answer.host_key) == (stage, False, "")
    assert words in answer.message


def test_a_closed_port() -> None:
    with socket.socket() as bound:  # bound, and not listening: nobody else gets it meanwhile
        bound.bind(("127.0.0.1", 0))
        answer = check(at(bound.getsockname()[1]))
    assert answer == Check(message="The port is closed (connection refused).")


def test_no_thread_and_no_socket_is_left_behind(sshd: SSHServer, peer: Callable[..., int]) -> None:
    check(target(sshd))
    ports = [peer(serve) for serve in (silent, half_ssh)]

    def ours() -> int:
        names = [type(thread).__name__ for thread in threading.enumerate()]
        return names.count("Quiet") + names.count("Timer")

    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        check(target(sshd))
        check(target(sshd, private_pem=OUTSIDER.private_pem))
        for port in ports:
            check(replace(at(port), connect_timeout=0.2))
    end = time.monotonic() + 30
    while (ours() or len(os.listdir("/proc/self/fd")) > before + 4) and time.monotonic() < end:
        time.sleep(0.05)
    assert ours() == 0
    assert len(os.listdir("/proc/self/fd")) <= before + 4


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.8.8.8", "::1", "localhost", "0.0.0.0", "::", "10.0.0.7", "172.16.0.1",
        "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_not_connected_to(host: str) -> None:
    """The guard on sockets in tests/conftest.py would raise on any attempt."""
    answer = check(at(22, host=host, allow_loopback=False))
    assert (answer.stage, "not a public one" in answer.message) == ("", True), answer


@pytest.mark.parametrize("host", ["10.0.0.7", "169.254.169.254", "fe80::1", "::ffff:10.0.0.1"])
def test_a_simulation_opens_loopback_and_nothing_else(host: str) -> None:
    assert "not a public one" in check(at(22, host=host)).message


@pytest.mark.parametrize(
    "host",
    ["", "-oProxyCommand=id", "a;rm -rf /", "0x7f.1", "127.1", "a b", "a\nb", "[::1]", "\ud800"],
)
def test_hosts_that_are_no_hosts(host: str) -> None:
    assert "neither a host name" in check(at(22, host=host)).message


@pytest.mark.parametrize("port", [0, -1, 65536, 22.5, "22 -o", True])
def test_ports_that_are_no_ports(port: object) -> None:
    assert "not a port number" in check(at(port)).message  # type: ignore[arg-type]


@pytest.mark.parametrize("user", ["", "-oA", "a b", "root\n", "a" * 33, "\ud800", "$(id)"])
def test_users_that_are_no_users(user: str) -> None:
    assert "user name" in check(at(22, user=user)).message


def test_a_name_is_looked_up_once_and_only_its_checked_address_is_used(
    peer: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def rebinding(host: str, *args: object, **kwargs: object) -> list:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.7"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    port = peer(hanging_up)
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda h, *a, **k: (rebinding if "example" in h else real)(h, *a, **k),
    )
    answer = check(at(port, host="gpu.example.org"))
    assert "not as an SSH server" in answer.message
    assert asked == ["gpu.example.org"]


def test_a_name_that_is_unknown_or_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not known" in check(at(22, host="nowhere.invalid", connect_timeout=30)).message
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: release.wait(60) and [])
    assert "looked up in time" in check(at(22, host="slow.example.org")).message
    release.set()


def test_a_damaged_key_or_pin_is_an_answer_too(
    sshd: SSHServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        assert "check itself failed" in check(target(sshd, private_pem="x")).message
        assert "check itself failed" in check(target(sshd, host_key="ssh-ed25519 x")).message


def test_the_private_key_is_not_in_the_repr() -> None:
    assert OUTSIDER.private_pem not in repr(at(22))


def test_the_deadline_cuts_a_peer_that_stalls_after_the_login(
    sshd: SSHServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may never answer the request to run something; nothing else bounds that."""
    monkeypatch.setattr(Target, "deadline", property(lambda self: 3.0))
    handlers = ssh.paramiko.Transport._channel_handler_table
    monkeypatch.setitem(handlers, MSG_CHANNEL_SUCCESS, lambda *args: None)
    answer = check(target(sshd))
    assert answer.stage == "key"
    assert "ran no command" in answer.message
