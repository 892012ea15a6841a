"""manage.py simulator: the marketplaces without the marketplaces."""

import asyncio
from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from providers.simulator import server


class Command(BaseCommand):
    help = (
        "Runs simulated GPU marketplaces with a real SSH server per instance; for trying and "
        "testing. Example: manage.py simulator --data-dir /tmp/market --tensordock-port 9902"
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        server.add_arguments(parser)

    def handle(self, *args: object, **options: object) -> None:
        try:
            asyncio.run(server.run(server.options_of(options)))
        except ValueError as problem:
            raise CommandError(str(problem)) from None
