"""The way out of read-only mode after a deliberate restore or move."""

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessions import identity


class Command(BaseCommand):
    help = (
        "Declares this database and this data directory to be the one true installation. "
        "Only when no other copy runs: two would destroy each other's machines. "
        "Without --yes it says what is in doubt, and changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--yes", action="store_true", help="Really: no other copy of it runs.")

    def handle(self, *args: object, yes: bool, **options: object) -> None:
        doubt = identity.current().read_only
        if not doubt:
            self.stdout.write("Nothing to adopt: the identity is in order.")
            return
        if not yes:
            raise CommandError(f"{doubt}\n{self.help}\nRepeat with --yes when no other copy runs.")
        try:
            deployment_id = identity.adopt("operator")
        except identity.CannotAdopt as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"Adopted: this installation is deployment {deployment_id}.")
