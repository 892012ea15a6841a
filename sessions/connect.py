"""What a person needs to log in: command, host key, ssh config. Nothing from a provider is
trusted to be a plain word: what could be read as an option or as shell is not shown."""

import base64
import hashlib
import ipaddress
import re
from binascii import Error as Base64Error
from dataclasses import dataclass

from .models import Attempt, Session

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True, kw_only=True)
class Connect:
    command: str
    config: str
    alias: str
    known_hosts: str = ""  # empty before first contact
    fingerprint: str = ""
    editor: str = ""  # address that opens VS Code on the machine, by the alias
    forget: str = ""  # command that removes another machine's key at this address
    copy: str = ""  # command that copies a file there, by the alias


def connect(session: Session, attempt: Attempt | None) -> Connect | None:
    """None as long as there is no address that can be shown."""
    way = next(filter(usable, ways(session, attempt)), None) if attempt else None
    if attempt is None or way is None or attempt.is_closed:
        return None
    host, port, user = way["host"], int(way["port"]), way["user"]
    key_file = f"~/.ssh/{alias(session)}" if session.generated_key else ""
    identity = f"-i {key_file} -o IdentitiesOnly=yes " if key_file else ""
    return Connect(
        command=f"ssh {identity}-p {port} {user}@{host}",
        config=config_block(session, host, port, user, key_file),
        alias=alias(session),
        known_hosts=known_hosts_line(host, port, session.host_key),
        fingerprint=fingerprint(session.host_key),
        editor=f"vscode://vscode-remote/ssh-remote+{alias(session)}{home(user)}",
        forget=f"ssh-keygen -R '{known_host(host, port)}'",
        copy=f"scp results.tar.gz {alias(session)}:{home(user)}/",
    )


def ways(session: Session, attempt: Attempt) -> list[dict]:
    """The one that let gpubroker in comes first, as long as the marketplace still names it."""
    proven = [session.ssh_way] if session.ssh_way in attempt.endpoints else []
    return proven + attempt.endpoints


def usable(way: dict) -> bool:
    host, port, user = way.get("host"), way.get("port"), way.get("user")
    if not isinstance(host, str) or not isinstance(user, str) or not isinstance(port, int):
        return False
    named = HOST_NAME.fullmatch(host) or _is_address(host)
    return bool(named and USER_NAME.fullmatch(user) and 0 < port < 65536)


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def alias(session: Session) -> str:
    """What the machine is called in ssh's files, and the file of its generated key."""
    return f"gpu-{session.code[:6]}"


def place_key(session: Session) -> str:
    """Command that puts the downloaded key where ssh is told to look; empty where none was made."""
    name = alias(session)
    command = f"mkdir -p ~/.ssh && mv ~/Downloads/{name} ~/.ssh/ && chmod 600 ~/.ssh/{name}"
    return command if session.generated_key else ""


def config_block(session: Session, host: str, port: int, user: str, key_file: str) -> str:
    lines = [f"HostName {host}", f"Port {port}", f"User {user}", "ServerAliveInterval 30"]
    if key_file:
        lines += [f"IdentityFile {key_file}", "IdentitiesOnly yes"]
    return "\n  ".join([f"Host {alias(session)}", *lines])


def known_hosts_line(host: str, port: int, host_key: str) -> str:
    if not host_key:
        return ""
    return f"{known_host(host, port)} {host_key}"


def known_host(host: str, port: int) -> str:
    """How known_hosts names an address."""
    return host if port == 22 else f"[{host}]:{port}"


def home(user: str) -> str:
    return "/root" if user == "root" else f"/home/{user}"


def fingerprint(host_key: str) -> str:
    """SHA256:... as ssh shows it; empty for what is no key."""
    _, _, blob = host_key.partition(" ")
    try:
        raw = base64.b64decode(blob.split(" ")[0], validate=True)
    except (Base64Error, ValueError):
        return ""
    digest = base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
    return f"SHA256:{digest}" if raw else ""
