"""Identity: made once, bound to the data directory, and read-only whenever that is in doubt."""

from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection

from sessions import audit, identity
from sessions.models import AuditEvent, Deployment
from tests.audit_tools import suspended

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data_directory(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.DEPLOYMENT_ID = ""
    return tmp_path


def test_without_an_identity_nothing_may_be_done() -> None:
    assert identity.current().read_only
    assert not identity.current().secret


def test_the_first_start_makes_one_and_the_next_starts_keep_it(data_directory) -> None:
    identity.ensure()
    first = identity.current()
    identity.ensure()

    assert identity.current() == first
    assert first.read_only == ""
    assert len(first.deployment_id) == 10
    assert len(first.secret) == 64
    row = Deployment.objects.get()
    assert first.secret not in row.secret
    assert (data_directory / "installation").read_text().strip() == row.installation_id
    assert (data_directory / "installation").stat().st_mode & 0o077 == 0
    assert [event.action for event in AuditEvent.objects.all()] == ["identity.created"]
    assert first.secret not in repr(first)
    assert sorted(path.name for path in data_directory.iterdir()) == ["installation"]


@pytest.mark.parametrize("text", [None, "", "\n", "somebody else"])
def test_a_file_that_is_missing_or_does_not_match_makes_it_read_only(
    data_directory, text: str | None
) -> None:
    identity.ensure()
    path = data_directory / "installation"
    path.unlink()
    if text is not None:
        path.write_text(text)
    identity.ensure()
    assert "do not belong together" in identity.current().read_only


def test_a_first_start_that_broke_off_after_the_file_goes_on_with_it(data_directory) -> None:
    (data_directory / "installation").write_text("half a start\n")
    identity.ensure()
    assert identity.current().read_only == ""


def test_deployment_id_may_only_confirm(settings) -> None:
    identity.ensure()
    settings.DEPLOYMENT_ID = identity.current().deployment_id
    assert identity.current().read_only == ""
    settings.DEPLOYMENT_ID = "another"
    assert "another" in identity.current().read_only
    with pytest.raises(CommandError, match="DEPLOYMENT_ID"):
        call_command("adopt_identity", "--yes")


def test_a_lost_encryption_key_makes_it_read_only_without_a_secret(settings) -> None:
    identity.ensure()
    settings.ENCRYPTION_KEYS = (Fernet.generate_key().decode(),)
    assert "GPUBROKER_ENCRYPTION_KEY" in identity.current().read_only
    assert identity.current().secret == ""
    with pytest.raises(identity.CannotAdopt):
        identity.adopt("operator")


def test_a_restored_backup_is_read_only_until_it_is_adopted(data_directory) -> None:
    identity.ensure()
    event = audit.append("session.state", actor="worker")
    audit.write_anchor(event.at)
    with suspended(connection), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {AuditEvent._meta.db_table} WHERE sequence = 2")
    before = identity.current()
    assert "backup" in before.read_only

    call_command("adopt_identity", "--yes", stdout=StringIO())
    assert identity.current().read_only == ""
    assert audit.verify().ok


def test_adopting_needs_a_yes_binds_anew_and_is_audited(data_directory) -> None:
    identity.ensure()
    before = identity.current()
    (data_directory / "installation").write_text("of the machine it was copied from\n")

    with pytest.raises(CommandError, match="--yes"):
        call_command("adopt_identity")
    assert identity.current().read_only

    call_command("adopt_identity", "--yes", stdout=StringIO())
    assert identity.current() == before  # the same deployment: its machines stay its own
    last = AuditEvent.objects.last()
    assert (last.action, last.actor) == ("identity.adopted", "operator")
    assert "do not belong together" in last.reason

    out = StringIO()
    call_command("adopt_identity", "--yes", stdout=out)
    assert "Nothing to adopt" in out.getvalue()
