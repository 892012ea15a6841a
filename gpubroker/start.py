"""What `manage.py up` does before and around its children."""

import os
import random
import socket
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.core.management import call_command
from django.core.management.base import CommandError

from sessions.models import Session

from .accounts import signin_path
from .env import read_environment
from .supervise import Child, child_environment, django_command

SIMULATED_KEY = "simulated-key-owner"
PORTS = range(15_000, 20_000)  # the kernel gives none of them to a connection before it is bound


def address(host: str = "", port: int = 0) -> str:
    """Where a person opens the dashboard."""
    host = host or settings.HOST
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port or settings.PORT}"


def require_free_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandError(
                f"Cannot listen on {host} port {port}: {error.strerror}. Is gpubroker running "
                "already? Choose another with --port or GPUBROKER_PORT."
            ) from error


def prepare_database() -> None:
    call_command("migrate", interactive=False, verbosity=0)


def prepare_static() -> None:
    """Collect again only when a source file is newer than the last collection."""
    stamp = settings.STATIC_ROOT / ".collected"
    newest = max((path.stat().st_mtime for path in static_sources()), default=0)
    if stamp.exists() and stamp.stat().st_mtime > newest:
        return
    call_command("collectstatic", interactive=False, verbosity=0)
    stamp.touch()


def static_sources() -> list[Path]:
    roots = [Path(root) for root in settings.STATICFILES_DIRS]
    return [settings.PACKAGE / "settings.py"] + [
        path for root in roots for path in [root, *root.rglob("*")]
    ]


def first_admin() -> AbstractUser:
    """The first administrator; made without a password, for one-time links only."""
    users = get_user_model().objects
    admin = users.filter(is_superuser=True).order_by("pk").first()
    return admin or users.create_superuser("admin", password=None)


def signin_line(user: AbstractUser, base: str) -> str:
    return f"Sign in: {base}{signin_path(user)}"


def wants_simulator() -> bool:
    """No provider key. Refused where real machines may still be rented: it would hide them."""
    if settings.PROVIDERS:
        return False
    real = Session.objects.open().exists() and not simulator_directory().exists()
    if real:
        raise CommandError(
            "No provider key is set, but this database holds open sessions of a real account. "
            "Set the key again (see .env.example); the simulator starts only without them."
        )
    return True


def simulator_directory() -> Path:
    return settings.DATA_DIR / "simulator"


def simulator() -> tuple[Child, dict[str, str]]:
    """The simulator as a child, and what the other children need to talk to it."""
    directory = simulator_directory()
    directory.mkdir(mode=0o700, exist_ok=True)
    vastai_port, control_port, tensordock_port = kept_ports(directory / "ports", 3)
    command = django_command(
        "simulator",
        f"--vastai-port={vastai_port}",
        f"--tensordock-port={tensordock_port}",
        f"--control-port={control_port}",
        f"--data-dir={directory}",
        f"--clock={settings.TIME_SCALE:g}",  # one factor for both, or the rules would not fit
    )
    environment = simulated_environment(vastai_port, tensordock_port)
    return Child("simulator", command, child_environment(environment)), environment


def simulated_environment(vastai_port: int, tensordock_port: int) -> dict[str, str]:
    return {
        "VASTAI_API_KEY": SIMULATED_KEY,
        "VASTAI_BASE_URL": f"http://127.0.0.1:{vastai_port}",
        "TENSORDOCK_API_TOKEN": SIMULATED_KEY,
        "TENSORDOCK_BASE_URL": f"http://127.0.0.1:{tensordock_port}",
        "GPUBROKER_SIMULATED": "true",
    }


def join_simulator() -> None:
    """For a command beside a running `up`, whose simulator only its own children know."""
    ports = simulator_directory() / "ports"
    if not settings.PROVIDERS and ports.exists():
        vastai_port, _, tensordock_port = map(int, ports.read_text().split())
        environment = simulated_environment(vastai_port, tensordock_port)
        settings.PROVIDERS = read_environment(environment, Path(os.devnull)).providers
        settings.SIMULATED = True


def kept_ports(path: Path, count: int) -> list[int]:
    """The same ports as last time if they are free, else new ones."""
    ports = [int(text) for text in path.read_text().split()] if path.exists() else []
    if len(ports) != count or not all(is_free(port) for port in ports):
        ports = free_ports(count)
        path.write_text(" ".join(map(str, ports)))
    return ports


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Different ones."""
    untried = iter(random.sample(PORTS, len(PORTS)))
    return [next(port for port in untried if is_free(port)) for _ in range(count)]


def web(host: str, port: int, environment: dict[str, str]) -> Child:
    # Verbosity 0 = no access log: it would hold one-time links, unredacted.
    command = ["daphne", "--bind", host, "--port", str(port), "--no-server-name", "-v", "0"]
    command += ["--ping-interval", "10", "--ping-timeout", "10", "gpubroker.asgi:application"]
    return Child("web", [*django_command()[:2], *command], child_environment(environment))
