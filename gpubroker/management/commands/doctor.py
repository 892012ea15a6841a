"""manage.py doctor: is it configured, running, and accepted by the marketplaces?"""

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict

from django.core.management.base import BaseCommand
from django.utils import timezone

from gpubroker import doctor
from gpubroker.start import join_simulator


class Command(BaseCommand):
    help = (
        "Checks configuration, database, worker and credentials; each marketplace is asked once "
        "whether it accepts its key. Nothing is rented. Exit status 1 = a problem."
    )
    requires_system_checks: list[str] = []  # `make lint` runs them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json",
            action="store_true",
            help='for machines: {"ok": true, "findings": [{"name", "ok", "detail"}]}',
        )

    def handle(self, *args: str, **options: object) -> None:
        join_simulator()
        findings = [*doctor.stored(timezone.now()), *doctor.asked()]
        ok = all(finding.ok for finding in findings)
        if options["json"]:
            report = {"ok": ok, "findings": [asdict(finding) for finding in findings]}
            self.stdout.write(json.dumps(report, indent=2))
        else:
            for finding in findings:
                mark = "ok     " if finding.ok else "PROBLEM"
                self.stdout.write(f"{mark} {finding.name}: {finding.detail}")
        sys.exit(0 if ok else 1)
