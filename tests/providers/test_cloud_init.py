"""What a machine runs at its first start, run here by a real shell below a temporary folder."""

import getpass
import json
import random
import string
import subprocess
from pathlib import Path

from providers.cloud_init import SHELL, cloud_init, key_commands, script_commands

NASTY = string.printable.replace("\n", "").replace("\r", "") + "é€\u202e\N{ROCKET}"
TRAPS = ["$(touch pwned)", "`touch pwned`", "'; touch pwned; '", "-n", "%s\\n", "\\", "*", "$HOME"]


def shell(commands: list[str], where: Path) -> None:
    """cloud-init writes runcmd's lines into one script for sh."""
    text = "\n".join(json.loads(json.dumps(commands)))
    subprocess.run(["/bin/sh"], input=text.encode(), cwd=where, check=True, timeout=60)


def random_keys(count: int) -> list[str]:
    rng = random.Random(20260203)
    comments = ["".join(rng.choices(NASTY, k=rng.randrange(40))) for _ in range(count)]
    return [f"ssh-ed25519 AAAA{n:04}/+= {c}{rng.choice(TRAPS)}" for n, c in enumerate(comments)]


def test_keys_of_any_comment_arrive_for_every_account_unchanged(tmp_path: Path) -> None:
    me, home, second = getpass.getuser(), tmp_path / "it's a home", tmp_path / "second"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/authorized_keys").write_text("ssh-rsa AAAA of the image")  # no line end
    keys = random_keys(500)
    for part in range(0, 500, 50):
        for target in (home, second):
            shell(key_commands(keys[part : part + 50], {me: str(target)}), tmp_path)
    for target, before in ((home, ["ssh-rsa AAAA of the image"]), (second, [])):
        file = target / ".ssh/authorized_keys"
        lines = [line for line in file.read_text().split("\n") if line]
        assert lines == before + keys
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "pwned").exists()


def test_a_missing_account_does_not_keep_the_others_from_their_keys(tmp_path: Path) -> None:
    homes = {"no-such-account": str(tmp_path / "a"), getpass.getuser(): str(tmp_path / "b")}
    shell(key_commands(["ssh-ed25519 AAAA"], homes), tmp_path)
    assert (tmp_path / "b/.ssh/authorized_keys").read_text().split() == ["ssh-ed25519", "AAAA"]


def test_a_script_runs_as_written_under_its_own_interpreter(tmp_path: Path) -> None:
    script = (
        'echo "it\'s" $((1+1)) \'%d\' \\\\ > out\necho "${BASH_VERSION:+bash}" >> out\nexit 3\n'
    )
    paths = (str(tmp_path / "start up"), str(tmp_path / "the log"))
    shell([*script_commands(script, *paths), "touch after"], tmp_path)
    assert (tmp_path / "out").read_text() == "it's 2 %d \\\nbash\n"
    assert (tmp_path / "after").exists()
    assert SHELL not in script_commands("#!/usr/bin/python3\nprint(1)", *paths)[0]


def test_keys_come_before_the_script_and_only_runcmd_installs_anything() -> None:
    found = cloud_init(["ssh-ed25519 AAAA"], "echo hello")
    assert set(found) == {"package_update", "package_upgrade", "runcmd"}
    text = "\n".join(found["runcmd"])
    assert text.index("/root/.ssh") < text.index("/home/user/.ssh") < text.index("echo hello")
    assert "startup" not in "".join(cloud_init(["ssh-ed25519 AAAA"], " \n")["runcmd"])
