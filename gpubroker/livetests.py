"""The live test in the browser, for administrators: start it, watch it, read past reports.

It runs as the same command in a process of its own, which goes on when the web server restarts.
A lock in the data directory lets only one run on this machine at a time.
"""

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TextIO

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.management.base import CommandError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from providers import registry

from .supervise import child_environment, django_command

SHOWN = 30  # past reports
LAST_LINES = 200  # of the progress


class Start(forms.Form):
    """What the command asks for, with its own words."""

    provider = forms.ChoiceField(label="Marketplace")
    max_price = forms.DecimalField(
        label="At most, $ per hour",
        min_value=Decimal("0.01"),
        max_value=100,
        decimal_places=2,
        initial=Decimal("0.50"),
    )
    max_spend = forms.DecimalField(
        label="At most, $ in all",
        min_value=Decimal("0.01"),
        max_value=1000,
        decimal_places=2,
        initial=Decimal("1.00"),
    )
    gpu = forms.RegexField(
        r"^[A-Za-z0-9][A-Za-z0-9 ]*$", label="Only this GPU", required=False, max_length=60
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        names = [(name, registry.title(name)) for name in registry.names()]
        self.fields["provider"].choices = [("all", "all of them"), *names]

    def arguments(self) -> list[str]:
        """Each as --name=value, so that no value can be read as another option."""
        given = {name.replace("_", "-"): value for name, value in self.cleaned_data.items()}
        return [f"--{name}={value}" for name, value in given.items() if value]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    if not request.user.is_superuser:  # it spends the account's money
        raise PermissionDenied
    form = Start(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if not start(form.arguments()):
            messages.warning(request, "A live test runs already.")
        return redirect("livetests")
    names = [path.stem for path in reports()]
    wanted = request.GET.get("report") or (names[0] if names else "")
    if wanted and wanted not in names:
        raise Http404
    context = {
        "form": form,
        "running": running(),
        "progress": progress(),
        "names": names,
        "shown": wanted,
        "report": (directory() / f"{wanted}.md").read_text() if wanted else "",
    }
    status = 422 if form.errors else 200
    return render(request, "gpubroker/livetests.html", context, status=status)


def start(arguments: list[str]) -> bool:
    """False = one runs already. In a session of its own, and with the lock from the beginning."""
    with lock_file() as lock:
        if not _locked(lock):
            return False
        launch([*arguments, f"--lock={lock.fileno()}"], lock.fileno())
    return True


def launch(arguments: list[str], lock: int) -> None:
    (directory() / "progress.txt").write_text("")
    with (directory() / "output.log").open("wb") as log:
        subprocess.Popen(
            django_command("livetest", *arguments),
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock],
        )


def directory() -> Path:
    path = settings.DATA_DIR / "livetests"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def reports() -> list[Path]:
    """Newest first."""
    return sorted(directory().glob("*.md"), reverse=True)[:SHOWN]


def keep(text: str, started_at: datetime) -> None:
    (directory() / f"{started_at:%Y%m%d-%H%M%S}.md").write_text(text)


def progress() -> str:
    path = directory() / "progress.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return "\n".join(lines[-LAST_LINES:])


@contextmanager
def only_one(inherited: int | None = None) -> Iterator[TextIO]:
    """The file for progress, while no other live test runs. Raises CommandError."""
    with lock_file(inherited) as lock:
        if not _locked(lock):
            raise CommandError("Another live test runs on this machine.")
        with (directory() / "progress.txt").open("w") as file:
            yield file


def running() -> bool:
    with lock_file() as lock:
        return not _locked(lock)


def lock_file(inherited: int | None = None) -> TextIO:
    return (directory() / "lock").open("a") if inherited is None else open(inherited, "a")  # noqa: SIM115


def _locked(lock: TextIO) -> bool:
    """The kernel gives it back with the process, however that ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
