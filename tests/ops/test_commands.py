"""What `manage.py NAME --help` says of our own commands."""

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from tests.factories import make_user

OURS = {"gpubroker", "providers", "sessions"}
NAMES = sorted(name for name, app in get_commands().items() if app in OURS)


@pytest.mark.parametrize("name", NAMES)
def test_the_help_explains_the_command_and_each_option(name: str) -> None:
    command = load_command_class(get_commands()[name], name)
    parser = command.create_parser("manage.py", name)
    assert len(command.help) > 40
    assert [action.dest for action in parser._actions if not action.help] == []
    assert "None" not in parser.format_help()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("names", "words"), [(["bob"], "active user called bob"), ([], "active administrator")]
)
def test_there_is_no_link_for_nobody(names: list[str], words: str) -> None:
    make_user("boss", is_superuser=True, is_active=False)
    with pytest.raises(CommandError, match=f"There is no {words}"):
        call_command("signin_link", *names)
