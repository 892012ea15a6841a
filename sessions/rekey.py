"""Everything that is sealed, sealed anew under the newest key, so that older keys can go."""

from collections.abc import Iterator
from datetime import datetime

from django.db import transaction
from django.db.models import Model

from . import audit, identity, vault
from .models import Deployment, Session

Place = tuple[Model, str, str]  # the row, its column, and the context that it is sealed for


def rekey(actor: str, now: datetime) -> int:
    """How many texts there were. Raises VaultError for one that no key opens; nothing is changed
    then. A session that ends meanwhile has erased its own."""
    with transaction.atomic():
        count = sum(_reseal(*place) for place in _places())
        audit.append("vault.rekeyed", actor=actor, data={"texts": count}, now=now)
    return count


def _places() -> Iterator[Place]:
    for row in Deployment.objects.all():
        yield row, "secret", identity.CONTEXT
    for session in Session.objects.only("pk", "checker_key", "generated_key"):
        yield session, "checker_key", vault.checker(session.pk)
        yield session, "generated_key", vault.generated(session.pk)


def _reseal(row: Model, column: str, context: str) -> int:
    sealed = getattr(row, column)
    if not sealed:
        return 0
    again = vault.seal(vault.unseal(sealed, context), context)
    same = type(row).objects.filter(pk=row.pk, **{column: sealed})
    return same.update(**{column: again})
