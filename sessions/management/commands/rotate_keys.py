"""Seals all secrets anew under the first of GPUBROKER_ENCRYPTION_KEY."""

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from sessions import rekey, vault


class Command(BaseCommand):
    help = (
        "Seals everything anew under the newest encryption key. Put a new key in front of the old "
        "one everywhere, restart, run this, and only then drop the old one."
    )

    def handle(self, *args: object, **options: object) -> None:
        try:
            count = rekey.rekey("operator", timezone.now())
        except vault.VaultError as error:
            raise CommandError(f"{error}. Nothing was changed.") from None
        self.stdout.write(f"{count} secrets are sealed under the newest key; older ones can go.")
