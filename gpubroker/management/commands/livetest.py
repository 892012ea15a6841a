"""manage.py livetest: rents the cheapest machine of each marketplace, tries it, gives it back."""

import json
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import FrameType

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from gpubroker import livetests
from gpubroker.start import join_simulator
from providers import registry
from sessions import livetest_report
from sessions.livetest import Allowance, Engine, LiveTest, gpu_name
from sessions.livetest_markdown import markdown


def dollars(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text} is not an amount of dollars") from None
    if not amount.is_finite() or amount <= 0:
        raise ArgumentTypeError("must be more than nothing")
    return amount


class Command(BaseCommand):
    help = (
        "Rents, checks, logs in and gives back on each marketplace. This costs real money. "
        "Ctrl-C gives everything back. Exit status 1 = not all passed. "
        "Example: manage.py livetest --max-price 0.50 --max-spend 1.00"
    )
    requires_system_checks: list[str] = []  # `make lint` runs them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--provider",
            default="all",
            choices=["all", *registry.ADAPTERS],
            help="all = every one that has a key (default)",
        )
        parser.add_argument(
            "--max-price",
            type=dollars,
            required=True,
            metavar="USD",
            help="per hour with the disk, such as 0.50: no dearer offer is rented",
        )
        parser.add_argument(
            "--max-spend",
            type=dollars,
            required=True,
            metavar="USD",
            help="in all, such as 1.00: near it everything is given back",
        )
        parser.add_argument("--gpu", default="", help='such as "RTX 4090" (default: any)')
        parser.add_argument("--json", action="store_true", help="the report as one JSON object")
        parser.add_argument("--lock", type=int, help="only for the page: a lock that it has taken")
        parser.add_argument("--report", metavar="FILE", type=Path, help="write it there as well")

    def handle(self, *args: str, **options: object) -> None:
        join_simulator()
        providers = self.providers(str(options["provider"]))
        with livetests.only_one(options["lock"]) as progress:
            self.progress = progress
            report = self.test(providers, options)
        sys.exit(0 if report.ok else 1)

    def test(self, providers: list[str], options: dict[str, object]) -> livetest_report.Report:
        allowance = Allowance(
            max_price=options["max_price"],
            max_spend=options["max_spend"],
            gpu=gpu_name(str(options["gpu"])),
        )
        test = LiveTest(allowance, Engine(), self.say)
        stoppable(test)
        test.run(providers)
        report = livetest_report.make(test, providers)
        text = markdown(report)
        livetests.keep(text, report.started_at)
        if options["json"]:
            text = json.dumps(report.data(), default=str, indent=2) + "\n"
        if options["report"]:
            options["report"].write_text(text)
        self.stdout.write(text)
        return report

    def providers(self, wanted: str) -> list[str]:
        names = registry.names() if wanted == "all" else [wanted]
        missing = set(names) - set(registry.names())
        if missing or not names:
            raise CommandError("No key is set for it. `manage.py doctor` says what is missing.")
        return names

    def say(self, line: str) -> None:
        """Progress goes to stderr and to the page, the report to stdout."""
        self.progress.write(f"{timezone.now():%H:%M:%S} {line}\n")
        self.progress.flush()
        self.stderr.write(line, self.style.NOTICE)
        self.stderr.flush()


def stoppable(test: LiveTest) -> None:
    """The first Ctrl-C or SIGTERM gives everything back; the second leaves at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if test.interrupted:
            raise KeyboardInterrupt
        test.interrupted = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
