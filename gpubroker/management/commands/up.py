"""manage.py up: the whole of gpubroker on one machine, in one process tree."""

import os
from argparse import ArgumentParser

from django.conf import settings
from django.core.management.base import BaseCommand

from gpubroker import start
from gpubroker.supervise import Child, StopSignal, child_environment, django_command, stop_all

PAUSE = 0.2  # seconds between looks at the children
GRACE = 8.5  # seconds for an orderly stop; the promise is 10


class Command(BaseCommand):
    help = (
        "Runs all of gpubroker until Ctrl-C: database, web, worker; without any key simulated "
        "marketplaces, which cost nothing. Example: manage.py up --host 127.0.0.1 --port 8000"
    )
    requires_system_checks: list[str] = []  # `make lint` runs them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--host",
            default=settings.HOST,
            help="address to listen on, 0.0.0.0 = any (default: GPUBROKER_HOST, %(default)s)",
        )
        parser.add_argument(
            "--port", type=int, default=settings.PORT, help="(default: GPUBROKER_PORT, %(default)s)"
        )
        parser.add_argument(
            "--web-only",
            action="store_true",
            help="no worker and no simulator: they run elsewhere on the same database",
        )

    def handle(self, *args: str, host: str, port: int, web_only: bool, **options: object) -> None:
        os.umask(0o077)  # database and keys are for this account alone
        stop = StopSignal()
        start.require_free_port(host, port)
        for problem in settings.CONFIG_PROBLEMS:
            self.say(f"Configuration: {problem}")
        start.prepare_database()
        start.prepare_static()
        children = self.children(host, port, web_only)
        for child in children:
            child.ensure()
        self.say(f"gpubroker listens on {start.address(host, port)} (Ctrl-C stops it)")
        self.say(start.signin_line(start.first_admin(), start.address(host, port)))
        while not stop:
            for child in children:
                child.ensure()
            stop.sleep(PAUSE)
        self.say("Stopping.")
        stop_all(children, GRACE)

    def children(self, host: str, port: int, web_only: bool) -> list[Child]:
        environment: dict[str, str] = {"GPUBROKER_HOST": host, "GPUBROKER_PORT": str(port)}
        children = []
        if not web_only and start.wants_simulator():
            self.say("No provider key is set: simulated marketplaces start, nothing costs money.")
            simulator, simulated = start.simulator()
            environment |= simulated
            children.append(simulator)
        children.append(start.web(host, port, environment))
        if not web_only:
            worker = django_command("worker")
            children.append(Child("worker", worker, child_environment(environment)))
        return children

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
