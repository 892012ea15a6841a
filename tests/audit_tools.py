"""What tests may do to the audit trail and nobody else: empty it, and forge it.

The fixtures are imported by tests/conftest.py. Django's flush after a `transaction=True` test
must empty a table whose triggers refuse exactly that, and an anchor in the data directory must
not outlive the rows that a test rolled back.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.core.management.commands.flush import Command as Flush
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from sessions import audit_triggers


@contextmanager
def suspended(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Without the triggers that protect the trail."""
    present = not audit_triggers.missing(connection)
    with connection.cursor() as cursor:
        for statement in audit_triggers.removal(connection.vendor):
            cursor.execute(statement)
    try:
        yield
    finally:
        if present:
            with connection.cursor() as cursor:
                for statement in audit_triggers.installation(connection.vendor):
                    cursor.execute(statement)


@pytest.fixture(autouse=True, scope="session")
def flushable_audit() -> Iterator[None]:
    """Django's own flush, which ends every `transaction=True` test, may empty the trail."""
    handle = Flush.handle

    def allowed(self: Flush, **options: object) -> None:
        with suspended(connections[str(options["database"])]):
            handle(self, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flush, "handle", allowed)
        yield


@pytest.fixture(autouse=True)
def no_old_anchor() -> None:
    (settings.DATA_DIR / "audit-anchor").unlink(missing_ok=True)
