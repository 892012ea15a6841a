"""manage.py doctor: is it configured, running, and accepted by the marketplaces?"""

import json
import sys
from argparse import ArgumentParser

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from gpubroker.health import readiness
from gpubroker.start import join_simulator
from providers import registry
from providers.base import ProviderError

Finding = dict[str, object]  # {"name", "ok", "detail"}


class Command(BaseCommand):
    help = "Checks configuration, database, worker and credentials. Exit status 1 = a problem."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object for machines")

    def handle(self, *args: str, **options: object) -> None:
        join_simulator()
        findings = [*configuration(), *parts(), *credentials()]
        ok = all(finding["ok"] for finding in findings)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": ok, "findings": findings}, indent=2))
        else:
            for finding in findings:
                mark = "ok     " if finding["ok"] else "PROBLEM"
                self.stdout.write(f"{mark} {finding['name']}: {finding['detail']}")
        sys.exit(0 if ok else 1)


def configuration() -> list[Finding]:
    problems = [finding("configuration", False, text) for text in settings.CONFIG_PROBLEMS]
    return problems or [finding("configuration", True, "every variable is known and readable")]


def parts() -> list[Finding]:
    return [
        finding(name, bool(part["ok"]), ", ".join(f"{k} {v}" for k, v in part.items() if k != "ok"))
        for name, part in readiness(timezone.now()).items()
    ]


def credentials() -> list[Finding]:
    """One cheap call per marketplace, made now and from here."""
    return [credential(name) for name in registry.names()]


def credential(name: str) -> Finding:
    try:
        account = registry.get(name).account()
    except ProviderError as error:
        return finding(f"credential {name}", False, f"{type(error).__name__}: {error}")
    balance = "unknown" if account.balance is None else f"${account.balance:.2f}"
    return finding(f"credential {name}", True, f"accepted, balance {balance}")


def finding(name: str, ok: bool, detail: str) -> Finding:
    return {"name": name, "ok": ok, "detail": detail or "fine"}
