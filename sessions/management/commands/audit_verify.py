"""Is the audit trail whole? Exit status 1 when it is not."""

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from sessions import audit, audit_triggers


class Command(BaseCommand):
    help = (
        "Checks every event of the audit trail, and the trail against its anchor. Changes "
        "nothing. Exit status 1 = it is not whole, or the database does not protect it."
    )

    def handle(self, *args: object, **options: object) -> None:
        missing = audit_triggers.missing(connection)
        if missing:
            raise CommandError(f"The database does not protect the trail: {', '.join(missing)}")
        verdict = audit.verify()
        if not verdict.ok:
            raise CommandError(f"{verdict.problem} ({verdict.checked} events before it are whole)")
        anchor = audit.read_anchor()
        held = f"anchored at {anchor.sequence}" if anchor else "not anchored yet"
        self.stdout.write(f"The audit trail is whole: {verdict.checked} events, {held}.")
