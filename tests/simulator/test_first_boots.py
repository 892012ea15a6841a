"""Cloud-init of a TensorDock machine: real commands in a private root, and who may log in then."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import asyncssh
import pytest

from providers.cloud_init import key_commands
from providers.simulator.cloud_init import Boot, Machines
from providers.simulator.first_boots import carry_out
from sessions.keys import KeyRefused, parse_public

from .conftest import Json, Simulator, wait_for
from .dock import KEY, Dock
from .test_ssh import login, try_login

FILE = "/home/user/.ssh/authorized_keys"
PREPARE = "mkdir -p /root/.ssh /home/user/.ssh"
ADD = f"echo '{KEY}' >> {FILE}"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Machines:
    found = Machines(tmp_path_factory.mktemp("machines"))
    assert found.works
    return found


def boot(machines: Machines, *commands: str, **more: object) -> Boot:
    return machines.boot("box", {"runcmd": list(commands), **more})


# the shell


def test_lines_are_one_script_of_a_posix_shell(machines: Machines) -> None:
    found = boot(machines, "x=1", "[ $x = 1 ] && echo kept", "false", "echo on", "[[ a ]]", "id -u")
    assert found.log.split("\n")[:2] == ["kept", "on"]
    assert "[[: not found" in found.log and found.log.endswith("\n0\n")


def test_an_open_quote_spoils_the_lines_after_it(machines: Machines) -> None:
    found = boot(machines, PREPARE, "echo it's", ADD)
    assert found.keys == []
    assert boot(machines, PREPARE, "exit 0", ADD).keys == []


def test_commands_cannot_leave_their_root(machines: Machines, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    found = boot(
        machines,
        f"cat {secret}",
        "ls /proc/self",
        "echo x > /usr/bin/sh",
        "ls -d /../../etc/shadow",
    )
    assert "of the host" not in found.log and "No such file" in found.log
    assert boot(machines, "echo alive").log == "alive\n"


def test_what_takes_too_long_is_ended(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.simulator.cloud_init.SECONDS", 2)
    found = boot(machines, "echo begun", "sleep 61.5 & sleep 61.5")
    assert found.log.endswith("the time is over\n")
    wait_for(lambda: "61.5" not in subprocess.check_output(["ps", "-eo", "args"], text=True))


def test_where_nothing_can_be_run_the_key_is_installed(tmp_path: Path) -> None:
    nowhere = Machines(tmp_path)
    nowhere.works = False
    details = {"ssh_key": KEY, "cloud_init": {"runcmd": [PREPARE, ADD]}}
    instance = SimpleNamespace(details=details)
    assert carry_out(nowhere, instance).keys == [("user", KEY)]


# write_files


def test_files_are_written_before_accounts_and_folders_exist(machines: Machines) -> None:
    files = [
        {"path": "/etc/a", "content": "aGk=", "encoding": "b64", "permissions": "0600"},
        {"path": FILE, "content": KEY},
        {"path": "/bin/sh", "content": "spoilt"},
        {"path": "/../../escaped", "content": "x"},
        {"path": "/etc/b", "content": "x", "owner": "user:user"},
        {"path": "/etc/c", "content": "x"},
    ]
    found = boot(machines, "cat /etc/a", "ls -l /etc/a | cut -c1-10", "ls /etc", write_files=files)
    assert f"{FILE}: No such file" in found.log and "unknown user user:user" in found.log
    assert found.keys == []
    files.pop(2)
    found = boot(machines, "cat /etc/a", "ls -l /etc/a | cut -c1-10", "ls /etc", write_files=files)
    assert "aGk=-rw-------" in found.log and "\nb\n" in found.log and "\nc\n" not in found.log


# who may log in


@pytest.mark.parametrize(
    "commands, accounts",
    [
        ([PREPARE, ADD], ["user"]),
        ([PREPARE, f"{ADD}; cp {FILE} /root/.ssh/"], ["root", "user"]),
        ([PREPARE, ADD, f"chmod 600 {FILE}"], []),  # root's, and nobody else may read it
        ([PREPARE, ADD, f"chmod 600 {FILE}", f"chown user:user {FILE}"], ["user"]),
        ([PREPARE, ADD, "chmod 700 /home/user/.ssh"], []),
        ([PREPARE, ADD, "chmod 700 /home/user/.ssh", "chown -R user /home/user/.ssh"], ["user"]),
        ([PREPARE, ADD, f"chmod 666 {FILE}"], []),
        ([PREPARE, ADD, "chmod 777 /home/user/.ssh"], []),
        ([PREPARE, f"echo '{KEY}' > /tmp/k", f"ln -s /tmp/k {FILE}"], []),
        ([PREPARE, f"mkfifo {FILE}; mkdir {FILE}"], []),
        ([PREPARE, ADD, f"chown nobody {FILE}; chown user {FILE}x"], ["user"]),
        ([f"install -d -o user -m 700 /home/user/.ssh; {ADD}"], ["user"]),
        ([f"echo '{KEY}' >> ~/.ssh/authorized_keys"], []),  # nobody has a home at first boot
        ([PREPARE, "sudo -u user mkdir -p /x", f"sudo sh -c \"echo '{KEY}' >> {FILE}\""], ["user"]),
    ],
)
def test_sshd_believes_what_has_the_right_owner_and_mode(
    machines: Machines, commands: list[str], accounts: list[str]
) -> None:
    assert [account for account, _ in boot(machines, *commands).keys] == accounts


def comments(random: Random, count: int) -> Iterator[str]:
    parts = [
        "'", '"', "\\", "`touch /pwned`", "$(touch /pwned)", "${IFS}", ";", "&&", "|", ">", "<",
        "#", "!", "*", "?", "[a]", "~", "\t", "\n", "\r", "\0", "\x1b[2J", "%s", "%n", "\\n", "-n",
        "é", "日本", "\u202e", "\u2028", "a b", "$HOME", "$$", "{a,b}", "^", "a@example.org", " ",
    ]  # fmt: skip
    for _ in range(count):
        yield "".join(random.choices(parts, k=random.randrange(9)))


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_every_key_is_refused_or_lets_in_and_touches_no_other_file(machines: Machines) -> None:
    """2000 keys with hostile comments, a hundred to a machine."""
    random = Random(7)
    lines: list[str] = []
    for comment in comments(random, 2_000):
        data = asyncssh.import_private_key(PRIVATE[random.randrange(len(PRIVATE))])
        kind, body = data.export_public_key().decode().split()[:2]
        try:
            parse_public(f"{kind} {body} {comment}")
        except KeyRefused:
            continue
        lines.append(f"{kind} {body} {comment}".strip())  # as pasted: worse than what is kept
    assert 200 < len(lines) < 2_000
    boot(machines, "true")
    before = tree(machines.root("box"))
    for start in range(0, len(lines), 100):
        some = lines[start : start + 100]
        found = boot(machines, *key_commands(some))
        assert found.keys == [(account, line) for account in ("root", "user") for line in some]
        assert found.log == ""
        after = tree(machines.root("box"))
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        assert changed == {
            "root/.ssh/authorized_keys", "home/user/.ssh/authorized_keys",
            "var/lib/cloud/instance/scripts/runcmd", "var/lib/simulator/owners",
        }  # fmt: skip


PRIVATE = [
    asyncssh.generate_private_key(kind).export_private_key()
    for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256")
]


# on the marketplace


@pytest.fixture
def dock(simulator: Simulator) -> Dock:
    return Dock(simulator)


def line(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


def rent(dock: Dock, key: asyncssh.SSHKey, *commands: str, **more: object) -> tuple[str, int]:
    number = dock.rent(ssh_key=line(key), cloud_init={"runcmd": list(commands)}, **more)
    port = dock.truth(number)["ssh_port"]
    wait_for(lambda: try_login(port, key) != "closed", "sshd")
    return number, port


def booted(dock: Dock, number: str) -> Json:
    return wait_for(lambda: dock.truth(number)["booted"], "first boot")


def test_both_accounts_are_let_in_when_cloud_init_is_done(dock: Dock, key: asyncssh.SSHKey) -> None:
    number, port = rent(dock, key, *key_commands([line(key)]))
    wait_for(lambda: dock.truth(number)["keys_working"], "keys")
    for user in ("user", "root"):
        said = login(port, key, "whoami", "nvidia-smi -L", "cloud-init status", user=user)
        assert said[0]["out"] == f"{user}\n" and "GPU 0" in said[1]["out"]
        assert said[2]["out"] == "status: done\n"
    with pytest.raises(asyncssh.PermissionDenied):
        login(port, key, "whoami", user="ubuntu")


def test_the_ssh_key_alone_lets_nobody_in_unless_switched(dock: Dock, key: asyncssh.SSHKey) -> None:
    number, port = rent(dock, key)
    booted(dock, number)
    assert try_login(port, key) == "denied" and dock.truth(number)["keys"] == []
    dock.turn(ssh_key_installs=True)
    try:
        number, port = rent(dock, key)
    finally:
        dock.turn(ssh_key_installs=False)
    assert login(port, key, "whoami", user="user")[0]["out"] == "user\n"
    assert try_login(port, key) == "denied"


@pytest.mark.parametrize(
    "fault, refused, let_in", [("root_only", "user", "root"), ("user_only", "root", "user")]
)
def test_one_account_may_be_closed(
    dock: Dock, key: asyncssh.SSHKey, fault: str, refused: str, let_in: str
) -> None:
    dock.fault("create", fault)
    number, port = rent(dock, key, *key_commands([line(key)]))
    wait_for(lambda: dock.truth(number)["keys_working"], "keys")
    assert login(port, key, "whoami", user=let_in)[0]["out"] == f"{let_in}\n"
    with pytest.raises(asyncssh.PermissionDenied):
        login(port, key, "whoami", user=refused)


def test_commands_can_be_ignored_or_find_dpkg_locked(dock: Dock, key: asyncssh.SSHKey) -> None:
    dock.fault("create", "commands_ignored")
    ignored, port = rent(dock, key, *key_commands([line(key)]))
    booted(dock, ignored)
    assert try_login(port, key) == "denied"
    dock.fault("create", "dpkg_locked")
    after = f"apt-get update && {PREPARE} && touch {FILE}"
    locked, port = rent(dock, key, *key_commands([line(key)]), after)
    wait_for(lambda: dock.truth(locked)["keys_working"], "keys")
    (said,) = login(port, key, "apt-get install -y curl")
    assert said["status"] == 100 and "Could not get lock" in said["err"]
