"""What a new machine runs at its first start: people's keys, then the startup script. Pure.

The commands go out as data inside JSON; only the shell needs quoting, and shlex does it.
"""

from collections.abc import Iterable, Mapping
from shlex import quote
from types import MappingProxyType

HOMES: Mapping[str, str] = MappingProxyType({"root": "/root", "user": "/home/user"})
SCRIPT = "/root/gpubroker-startup"
LOG = "/root/gpubroker-startup.log"
SHELL = "#!/bin/bash\n"  # of a script that names none


def cloud_init(keys: Iterable[str], script: str = "") -> dict[str, object]:
    """Only runcmd: other ways to install keys ran too early or were ignored."""
    commands = key_commands(keys)
    if script.strip():
        commands += script_commands(script)
    return {"package_update": False, "package_upgrade": False, "runcmd": commands}


def key_commands(keys: Iterable[str], homes: Mapping[str, str] = HOMES) -> list[str]:
    """The same keys for every account; the empty line parts them from a last line without end."""
    lines = " ".join(quote(key) for key in keys)
    return [command for user, home in homes.items() for command in _install(lines, user, home)]


def _install(lines: str, user: str, home: str) -> list[str]:
    folder = quote(f"{home}/.ssh")
    file = quote(f"{home}/.ssh/authorized_keys")
    return [
        f"mkdir -p {folder}",
        f"echo >> {file}",
        f"printf '%s\\n' {lines} >> {file}",
        f"chmod 700 {folder}",
        f"chmod 600 {file}",
        f"chown -R {quote(user)} {folder}",
    ]


def script_commands(script: str, path: str = SCRIPT, log: str = LOG) -> list[str]:
    """A file of its own: whatever the script does to its shell, the keys are there already."""
    text = script if script.startswith("#!") else SHELL + script
    file = quote(path)
    return [
        f"printf '%s\\n' {quote(text)} > {file}",
        f"chmod 700 {file}",
        f"{file} > {quote(log)} 2>&1",
    ]
