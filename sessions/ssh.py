"""One look at an instance over SSH; the only module that imports fabric and paramiko.

The other side is hostile until proven otherwise: its address is checked and used as checked,
nothing of the local user's SSH set-up takes part, every step and the whole have a deadline, and
nothing is run where the host key is another one than before.
"""

import ipaddress
import logging
import re
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import StringIO
from queue import Empty, SimpleQueue

import fabric
import paramiko
from invoke.exceptions import CommandTimedOut, ThreadException

from providers import clean

from .hardware import FoundGPU

__all__ = ["Check", "FoundGPU", "Target", "check"]
logger = logging.getLogger(__name__)

COMMAND = (
    "nvidia-smi --query-gpu=name,memory.total,driver_version,utilization.gpu,memory.used"
    " --format=csv,noheader,nounits && nvidia-smi"
)
LONGEST_OUTPUT = 64 * 1024
MOST_GPUS = 64
FIELDS = (
    r"([A-Za-z0-9][\w ()/+.-]{0,79}), *([1-9][0-9]{1,6}), *([0-9][0-9.]{0,30})"
    r", *([ -+\--~]{1,40}), *([ -+\--~]{1,40})"  # load and memory in use, or why not
)
ROW = re.compile(FIELDS, re.A)
FIGURE = re.compile(r"[0-9]{1,8}", re.A)
CUDA = re.compile(r"CUDA Version: *([0-9]{1,3}\.[0-9]{1,3})\b", re.A)
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
WEAK = {
    "ciphers": ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"],
    "macs": ["hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"],
}
NAME = "instance"  # for the host key only; the socket is connected already
REFUSED = "Authentication failed."  # paramiko's words for that, and for nothing else
NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, kw_only=True)
class Target:
    host: str
    port: int
    user: str
    private_pem: str = field(repr=False)
    host_key: str = ""  # the pinned `type base64`; empty on first contact
    allow_loopback: bool = False
    connect_timeout: float = 5.0  # seconds: name, TCP; then handshake; then login
    command_timeout: float = 10.0
    also: str = ""  # one more command, run after the look; what it prints is kept

    @property
    def deadline(self) -> float:
        """Seconds that everything after the TCP connect may take."""
        return 2 * self.connect_timeout + self.command_timeout * (2 if self.also else 1)


@dataclass(frozen=True, kw_only=True)
class Check:
    stage: str = ""  # the farthest step: "" nothing, "open" an SSH server, "key", "gpu"
    host_key: str = ""  # `type base64` of who accepted our key, or of who is not the pinned one
    host_key_changed: bool = False
    refused: bool = False  # our key is not accepted (yet)
    gpus: tuple[FoundGPU, ...] = ()
    driver: str = ""
    cuda: str = ""
    load: int | None = None  # per cent, of the busiest GPU; None = not every one told
    memory_used_mb: int | None = None  # on all GPUs
    message: str = ""  # one sentence for people
    also: str | None = None  # the output of Target.also; None = it was not run to its end


class Unreachable(Exception):
    """No TCP connection; the message is for people."""


class TooMuch(Exception):
    """More output than anybody needs."""


def check(target: Target) -> Check:
    """As far as one visit gets. Never raises, and always comes back (see Target.deadline)."""
    try:
        sock = _dial(target)
    except Unreachable as error:
        return Check(message=str(error))
    try:
        with _visit(target, sock) as (connection, witness):
            return _login(connection, witness, target)
    except Exception as error:  # a network thread must come back with an answer
        logger.exception("an SSH check broke")
        return Check(message=f"The check itself failed ({type(error).__name__}).")
    finally:
        sock.close()


def _dial(target: Target) -> socket.socket:
    """A TCP connection to the very address that was checked."""
    if not clean.port(target.port):
        raise Unreachable(f"{target.port!r} is not a port number.")
    if not clean.host(target.host):
        raise Unreachable("The address is neither a host name nor an IP address.")
    if not USER.fullmatch(target.user):
        raise Unreachable("The user name is not one that SSH can be given.")
    address = _resolved(target)
    try:
        return socket.create_connection((address, target.port), target.connect_timeout)
    except TimeoutError:
        raise Unreachable("The port does not answer (no connection in time).") from None
    except ConnectionRefusedError:
        raise Unreachable("The port is closed (connection refused).") from None
    except OSError as error:
        raise Unreachable(f"The network does not reach it ({error.strerror}).") from None


def _resolved(target: Target) -> str:
    """Asked once, so that a name cannot point elsewhere after the check."""
    addresses = _look_up(target.host, target.connect_timeout)
    for address in addresses:
        if _allowed(address, target.allow_loopback):
            return address
    raise Unreachable("The address is not a public one; gpubroker does not connect there.")


def _look_up(host: str, timeout: float) -> list[str]:
    """In a thread of its own: the resolver has no deadline."""
    answers: SimpleQueue[list[str] | OSError] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            answers.put([str(entry[4][0]) for entry in found])
        except (OSError, UnicodeError) as error:
            answers.put(OSError(str(error)))

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except Empty:
        raise Unreachable("The host name could not be looked up in time.") from None
    if isinstance(answer, OSError):
        raise Unreachable("The host name is not known.")
    return answer


def _allowed(text: str, allow_loopback: bool) -> bool:
    """Public unicast addresses; also when they are wrapped in another kind of address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # with a zone, so local to a link
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        address = inner or address
    if address.is_loopback:
        return allow_loopback
    return address.is_global and not address.is_multicast and not address.is_reserved


class WantsMore(paramiko.AuthenticationException):
    """The key is right, and still not enough."""


class Quiet(paramiko.Transport):
    """Never asks the person at the terminal, as paramiko does when a server wants more."""

    def auth_interactive_dumb(self, *args: object, **kwargs: object) -> None:
        raise WantsMore


class Witness(paramiko.MissingHostKeyPolicy):
    """First contact: takes the key and remembers it."""

    key: paramiko.PKey | None = None

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        self.key = key


@contextmanager
def _visit(target: Target, sock: socket.socket) -> Iterator[tuple[fabric.Connection, Witness]]:
    """A connection that is cut at its deadline, whatever it hangs in."""
    connection, witness = _connection(target, sock), Witness()
    _pin(connection, target, witness)
    watchdog = threading.Timer(target.deadline, _cut, [sock])
    watchdog.daemon = True
    watchdog.start()
    try:
        yield connection, witness
    finally:
        watchdog.cancel()
        _cut(sock)
        _close(connection.client)


def _connection(target: Target, sock: socket.socket) -> fabric.Connection:
    pem = StringIO(target.private_pem)
    return fabric.Connection(
        NAME,
        user=target.user,
        port=target.port,
        config=fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True),  # no ~/.ssh/config
        connect_timeout=target.connect_timeout,
        connect_kwargs={
            "sock": sock,
            "pkey": paramiko.Ed25519Key.from_private_key(pem),
            "look_for_keys": False,
            "allow_agent": False,
            "banner_timeout": target.connect_timeout,
            "auth_timeout": target.connect_timeout,
            "channel_timeout": target.connect_timeout,
            "disabled_algorithms": WEAK,
            "transport_factory": Quiet,
        },
    )


def _pin(connection: fabric.Connection, target: Target, witness: Witness) -> None:
    client = connection.client
    if not target.host_key:
        client.set_missing_host_key_policy(witness)
        return
    kind, _, encoded = target.host_key.partition(" ")
    pin = paramiko.PKey.from_type_string(kind, b64decode(encoded))
    name = NAME if target.port == 22 else f"[{NAME}]:{target.port}"
    client.get_host_keys().add(name, pin.get_name(), pin)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())


def _cut(sock: socket.socket) -> None:
    """Whatever waits for the other side sees its end."""
    with suppress(OSError):  # it has hung up already
        sock.shutdown(socket.SHUT_RDWR)


def _close(client: paramiko.SSHClient) -> None:
    """Also what fabric's own close leaves behind: a half-open transport and its timer."""
    transport = client.get_transport()
    if transport is not None:
        transport.packetizer.complete_handshake()
    client.close()


def _login(connection: fabric.Connection, witness: Witness, target: Target) -> Check:
    try:
        connection.open()
        if not connection.client.get_transport().is_authenticated():
            raise WantsMore
    except paramiko.BadHostKeyException as error:
        return Check(
            stage="open",
            host_key=_line(error.key),
            host_key_changed=True,
            message="The host key is another one than before: nothing was run there.",
        )
    except Exception as error:  # paramiko passes on whatever a hostile server makes it raise
        return _no_login(connection, error)
    key = target.host_key or (_line(witness.key) if witness.key else "")
    found = _look(connection, key, target)
    return replace(found, also=_also(connection, target)) if target.also else found


def _no_login(connection: fabric.Connection, error: Exception) -> Check:
    transport = connection.client.get_transport()
    if transport is None or not transport.remote_version:
        return Check(message="Something answers there, but not as an SSH server.")
    refused, text = False, "The SSH server broke off or fell silent before the login."
    if isinstance(error, WantsMore | paramiko.BadAuthenticationType):
        refused, text = True, "The SSH server wants something else than a key."
    elif isinstance(error, paramiko.AuthenticationException) and str(error) == REFUSED:
        refused, text = True, "The SSH server does not accept gpubroker's key (yet)."
    elif isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        text = "The SSH server offers only methods that are no longer safe."
    return Check(stage="open", refused=refused, message=text)


def _look(connection: fabric.Connection, host_key: str, target: Target) -> Check:
    """The one command that is always run."""
    capped = Capped()
    try:
        result = _run(connection, COMMAND, capped, target)
    except CommandTimedOut:
        text = f"nvidia-smi did not finish within {target.command_timeout:g} s."
    except ThreadException:
        text = "nvidia-smi did not come to an end, or broke off."
        if capped.size > LONGEST_OUTPUT:
            text = "nvidia-smi printed far more than it ever does."
    except Exception as error:  # paramiko passes on whatever a hostile server makes it raise
        logger.info("the command on %s did not run: %s", target.host, type(error).__name__)
        text = "The login works, but the server ran no command for us."
    else:
        return _judged(result, host_key)
    return Check(stage="key", host_key=host_key, message=text)


def _run(
    connection: fabric.Connection, command: str, capped: "Capped", target: Target
) -> fabric.Result:
    return connection.run(
        command,
        hide=True,
        warn=True,
        in_stream=False,
        pty=False,
        encoding="utf-8",
        out_stream=capped,
        err_stream=capped,
        timeout=target.command_timeout,
    )


def _also(connection: fabric.Connection, target: Target) -> str | None:
    try:
        return _run(connection, target.also, Capped(), target).stdout
    except Exception as error:  # as above; what the look has found counts all the same
        logger.info("the second command on %s: %s", target.host, type(error).__name__)
        return None


class Capped:
    """A stream that keeps nothing, and ends a command that prints too much."""

    size = 0

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > LONGEST_OUTPUT:
            raise TooMuch

    def flush(self) -> None:
        """Nothing is held back."""


def _judged(result: fabric.Result, host_key: str) -> Check:
    found = _parsed(result.stdout) if result.exited == 0 else None
    if found is None:
        return Check(stage="key", host_key=host_key, message=_why_no_gpu(result))
    gpu = f"{len(found.gpus)} x {found.gpus[0].name}"
    counted = f"{gpu}, driver {found.driver}, CUDA {found.cuda or 'unknown'}"
    return replace(found, stage="gpu", host_key=host_key, message=counted)


def _parsed(output: str) -> Check | None:
    """From lines that are exactly what was asked for; greetings around them do not matter."""
    rows = [match for line in output.splitlines() if (match := ROW.fullmatch(line.strip()))]
    if not 0 < len(rows) <= MOST_GPUS:
        return None
    cuda = CUDA.search(output)
    loads = [_figure(row[4], 100) for row in rows]
    used = [_figure(row[5], int(row[2])) for row in rows]
    return Check(
        gpus=tuple(FoundGPU(name=row[1].strip(), memory_mb=int(row[2])) for row in rows),
        driver=rows[0][3],
        cuda=cuda[1] if cuda else "",
        load=None if None in loads else max(loads),
        memory_used_mb=None if None in used else sum(used),
    )


def _figure(text: str, most: int) -> int | None:
    """None for "[N/A]" and whatever else is no number that can be."""
    value = int(text) if FIGURE.fullmatch(text.strip()) else None
    return value if value is not None and value <= most else None


def _why_no_gpu(result: fabric.Result) -> str:
    words = clean.clean(f"{result.stdout[:500]} {result.stderr[:500]}", 160)
    if result.exited < 0:
        return "nvidia-smi gave no answer before the connection was closed."
    if result.exited == 127:
        return "There is no nvidia-smi on the machine."
    if result.exited:
        return f"nvidia-smi failed (status {result.exited}): {words}"
    return f"nvidia-smi said nothing that can be read: {words}"


def _line(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"
