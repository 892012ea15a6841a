"""Secrets at rest: Fernet under settings.ENCRYPTION_KEYS, newest first; old keys still open."""

import json
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class VaultError(Exception):
    """Sealed with a key that is not here, for another place, or damaged."""


def checker(session_id: UUID) -> str:
    """The context of the key by which gpubroker itself logs in."""
    return f"checker:{session_id}"


def generated(session_id: UUID) -> str:
    """The context of the key that was made for a person."""
    return f"generated:{session_id}"


def seal(text: str, context: str) -> str:
    """`context` names the row and column, so that sealed texts cannot be swapped."""
    return _fernet().encrypt(json.dumps([context, text]).encode()).decode()


def unseal(sealed: str, context: str) -> str:
    """Raises VaultError."""
    try:
        plain = _fernet().decrypt(sealed.encode())
    except InvalidToken:
        raise VaultError(f"{context}: sealed with a key that is not here, or damaged") from None
    found, text = json.loads(plain)
    if found != context:
        raise VaultError(f"{context}: sealed for another place")
    return text


def _fernet() -> MultiFernet:
    if not settings.ENCRYPTION_KEYS:
        raise VaultError("GPUBROKER_ENCRYPTION_KEY is not set")
    return MultiFernet([Fernet(key) for key in settings.ENCRYPTION_KEYS])
