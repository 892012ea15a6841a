"""manage.py worker: everything that runs in the background, on this machine."""

import os
from argparse import ArgumentParser

from django.core.management.base import BaseCommand

from gpubroker.supervise import StopSignal


class Command(BaseCommand):
    help = (
        "Runs and guards the background worker until SIGTERM. `manage.py up` runs one; more may "
        "run on other machines with the same DATABASE_URL and keys."
    )
    requires_system_checks: list[str] = []  # `make lint` runs them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--cluster",
            action="store_true",
            help="only for the guard: the django-q2 cluster itself",
        )

    def handle(self, *args: str, cluster: bool, **options: object) -> None:
        os.umask(0o077)
        # Each form loads only what it needs: the guard stays small, the cluster is patched.
        if cluster:
            from gpubroker.cluster import run

            run()
        else:
            from gpubroker.worker import Worker

            Worker(StopSignal()).run()
