"""Who we are, and whether we may act (I2).

The deployment row and the file `installation` in the data directory name each other. A restored
or copied database does not fit the file beside it, and everything stays read-only until an
operator says that this installation is the true one (adopt_identity).
"""

import os
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from . import audit, vault
from .models import Deployment

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
CONTEXT = "deployment"
ADOPT = "If this is meant to be the only running copy, run: manage.py adopt_identity --yes"


class CannotAdopt(Exception):
    """The message says what must be put right first."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    deployment_id: str
    secret: str = field(repr=False)  # signs our labels
    read_only: str = ""  # a sentence why nothing may be created or destroyed; empty = act


def ensure() -> None:
    """At start: a database without an identity gets one. Never touches an existing one."""
    if Deployment.objects.exists():
        return
    installation_id = _file() or _make_file()
    with transaction.atomic():
        defaults = {
            "deployment_id": _random(10),
            "secret": vault.seal(secrets.token_hex(32), CONTEXT),
            "installation_id": installation_id,
            "created_at": timezone.now(),
        }
        row, made = Deployment.objects.get_or_create(id=1, defaults=defaults)
        if made:
            data = {"deployment_id": row.deployment_id}
            audit.append("identity.created", actor="system", data=data)


def current() -> Identity:
    """Read afresh each time: another process may have adopted it meanwhile."""
    row = Deployment.objects.first()
    if row is None:
        text = "This installation has no identity yet: it gets one when the worker starts."
        return Identity(deployment_id="", secret="", read_only=text)
    try:
        secret = vault.unseal(row.secret, CONTEXT)
    except vault.VaultError:
        text = "The deployment's secret cannot be read: restore GPUBROKER_ENCRYPTION_KEY."
        return Identity(deployment_id=row.deployment_id, secret="", read_only=text)
    return Identity(deployment_id=row.deployment_id, secret=secret, read_only=_doubt(row))


def adopt(actor: str, now: datetime | None = None) -> str:
    """Bind this database to this data directory, whatever they said before -> deployment id."""
    now = now or timezone.now()
    row, who = Deployment.objects.first(), current()
    if row is None or not who.secret:
        raise CannotAdopt(who.read_only)
    if _unconfirmed(row):
        raise CannotAdopt(_unconfirmed(row))
    doubt, installation_id = who.read_only, _random(32)
    with transaction.atomic():
        Deployment.objects.filter(pk=row.pk).update(installation_id=installation_id)
        data = {"deployment_id": row.deployment_id}
        audit.append("identity.adopted", actor=actor, reason=doubt, data=data, now=now)
    audit.write_file(_path(), installation_id)
    audit.replace_anchor(now)
    return row.deployment_id


def _doubt(row: Deployment) -> str:
    if _unconfirmed(row):
        return _unconfirmed(row)
    if _file() != row.installation_id:
        return (
            "The database and the data directory do not belong together, as after restoring a "
            f"backup or copying an installation. {ADOPT}"
        )
    problem = audit.anchor_problem()
    return f"{problem} {ADOPT}" if problem else ""


def _unconfirmed(row: Deployment) -> str:
    if settings.DEPLOYMENT_ID in ("", row.deployment_id):
        return ""
    return (
        f"DEPLOYMENT_ID is {settings.DEPLOYMENT_ID}, but this database belongs to deployment "
        f"{row.deployment_id}. Correct the one that is wrong."
    )


def _path() -> Path:
    return settings.DATA_DIR / "installation"


def _file() -> str:
    try:
        return _path().read_text().strip()
    except FileNotFoundError:
        return ""


def _make_file() -> str:
    """The first process to get here decides, when several start together."""
    temporary = _path().with_name(f".installation.{_random(10)}")
    audit.write_file(temporary, _random(32))
    try:
        os.link(temporary, _path())
    except FileExistsError:
        pass  # then its text counts
    finally:
        temporary.unlink()
    return _file()


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
