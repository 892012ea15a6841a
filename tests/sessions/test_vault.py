"""Sealed texts open with any configured key, in their own place, and nowhere else."""

import pytest
from cryptography.fernet import Fernet

from sessions import vault


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
