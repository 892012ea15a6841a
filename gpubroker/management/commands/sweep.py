"""manage.py sweep --dry-run: whose machines stand on the accounts, and what the sweep would do."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from gpubroker.start import join_simulator
from providers import registry
from providers.base import Instance
from sessions.survey import Survey, rate, survey


class Command(BaseCommand):
    help = (
        "Shows the machines of the newest listing: of open sessions, orphans, foreign ones; each "
        "with its id, state, USD per hour and label. Changes nothing, asks no marketplace. "
        "Example: manage.py sweep --dry-run"
    )
    requires_system_checks: list[str] = []  # `make lint` runs them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="required: it only ever looks")

    def handle(self, *args: str, dry_run: bool, **options: object) -> None:
        if not dry_run:
            raise CommandError(
                "The worker sweeps by itself, after every complete listing: two looks, a fresh "
                "read, then the destroy. To see what it sees, add --dry-run."
            )
        join_simulator()
        for name in registry.names():
            self.show(survey(name))

    def show(self, seen: Survey) -> None:
        title = registry.title(seen.provider)
        if seen.read_at is None:
            self.stdout.write(f"{title}: not listed yet (is the worker running?)")
            return
        whole = "complete" if seen.complete else "NOT complete"
        self.stdout.write(f"{title}, listed {seen.read_at:%Y-%m-%d %H:%M:%S} UTC, {whole}")
        if seen.error:
            self.stdout.write(f"  the newest try failed: {seen.error}")
        self.group("of open sessions, kept", seen.known)
        self.group("ours without a session, to be destroyed", seen.orphans)
        self.group("foreign, never touched", seen.foreign)

    def group(self, what: str, instances: tuple[Instance, ...]) -> None:
        self.stdout.write(f"  {len(instances)} {what}, ${rate(instances):.3f}/h")
        for instance in instances:
            price = "" if instance.price_per_hour is None else f"${instance.price_per_hour:.3f}/h"
            words = [instance.instance_id, str(instance.state), price, repr(instance.label)]
            self.stdout.write("    " + "  ".join(filter(None, words)))
