"""Sealed texts open with any configured key, in their own place, and nowhere else."""

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from sessions import identity, vault
from sessions.models import AuditEvent, Deployment, Session
from sessions.states import State
from tests.factories import make_session


def fresh() -> str:
    return Fernet.generate_key().decode()


def test_a_secret_comes_back_and_is_not_readable_meanwhile() -> None:
    sealed = vault.seal("a private key, ünï", "checker:1")
    assert vault.unseal(sealed, "checker:1") == "a private key, ünï"
    assert "private" not in sealed
    assert vault.seal("same", "c") != vault.seal("same", "c")


@pytest.mark.parametrize("context", ["checker:2", "generated:1", "", "checker:1 "])
def test_a_sealed_text_cannot_be_moved_elsewhere(context: str) -> None:
    with pytest.raises(vault.VaultError):
        vault.unseal(vault.seal("secret", "checker:1"), context)


def test_old_keys_still_open_and_the_newest_seals(settings) -> None:
    old, new = fresh(), fresh()
    settings.ENCRYPTION_KEYS = (old,)
    sealed = vault.seal("secret", "c")
    settings.ENCRYPTION_KEYS = (new, old)
    assert vault.unseal(sealed, "c") == "secret"
    again = vault.seal("secret", "c")
    settings.ENCRYPTION_KEYS = (new,)
    assert vault.unseal(again, "c") == "secret"
    with pytest.raises(vault.VaultError):
        vault.unseal(sealed, "c")


@pytest.mark.parametrize("damage", ["", "x", "gAAAAA", "ünï"])
def test_damaged_text_has_a_named_error(damage: str) -> None:
    with pytest.raises(vault.VaultError):
        vault.unseal(damage, "c")


def test_no_keys_is_a_named_error(settings) -> None:
    settings.ENCRYPTION_KEYS = ()
    with pytest.raises(vault.VaultError, match="ENCRYPTION_KEY"):
        vault.seal("secret", "c")


@pytest.fixture
def sealed(db, settings) -> tuple[str, str, Session]:
    """Under the old of two keys: an identity, and a session with both of its keys."""
    old, new = fresh(), fresh()
    settings.ENCRYPTION_KEYS = (old,)
    identity.ensure()
    session, ended = make_session(State.RUNNING), make_session(State.ENDED)
    session.checker_key = vault.seal("ours", f"checker:{session.pk}")
    session.generated_key = vault.seal("theirs", f"generated:{session.pk}")
    session.save()
    assert ended.checker_key == ""
    settings.ENCRYPTION_KEYS = (new, old)
    return old, new, session


def test_after_a_rotation_the_old_key_is_needed_no_more(sealed, settings, capsys) -> None:
    old, new, session = sealed
    before = identity.current()
    call_command("rotate_keys")
    assert "3 secrets" in capsys.readouterr().out
    settings.ENCRYPTION_KEYS = (new,)
    session.refresh_from_db()
    assert vault.unseal(session.checker_key, f"checker:{session.pk}") == "ours"
    assert vault.unseal(session.generated_key, f"generated:{session.pk}") == "theirs"
    assert identity.current() == before and not before.read_only
    told = AuditEvent.objects.get(action="vault.rekeyed")
    assert (told.actor, told.data) == ("operator", {"texts": 3})
    settings.ENCRYPTION_KEYS = (old,)
    with pytest.raises(vault.VaultError):
        vault.unseal(session.checker_key, f"checker:{session.pk}")


def test_a_rotation_that_cannot_open_something_changes_nothing(sealed, settings) -> None:
    old, new, session = sealed
    Session.objects.filter(pk=session.pk).update(generated_key="gAAAAA")
    secret = Deployment.objects.get().secret
    with pytest.raises(CommandError, match=f"generated:{session.pk}.*Nothing was changed"):
        call_command("rotate_keys")
    assert Deployment.objects.get().secret == secret
    assert not AuditEvent.objects.filter(action="vault.rekeyed").exists()
