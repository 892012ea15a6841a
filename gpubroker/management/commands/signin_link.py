"""manage.py signin_link: a fresh one-time link for somebody who cannot sign in."""

from argparse import ArgumentParser

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from gpubroker.accounts import LINK_LIFETIME
from gpubroker.start import address, first_admin, signin_line


class Command(BaseCommand):
    help = (
        "Prints a sign-in link for somebody who cannot sign in. It works once, and for "
        f"{LINK_LIFETIME.total_seconds() / 3600:.0f} hours."
    )
    requires_system_checks: list[str] = []  # `make lint` runs them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "username", nargs="?", help="such as ada (default: the first administrator)"
        )

    def handle(self, *args: str, username: str | None, **options: object) -> None:
        users = get_user_model().objects
        user = users.filter(username=username).first() if username else first_admin()
        if not user or not user.is_active:
            called = f"user called {username}" if username else "administrator"
            raise CommandError(f"There is no active {called}.")
        self.stdout.write(signin_line(user, address()))
