"""The database itself refuses to change the audit trail (I23). Used by a migration.

On SQLite a later migration that alters AuditEvent rebuilds the table and loses the triggers:
it must call `install` again. `INSERT OR REPLACE` deletes without any DELETE trigger there, so
inserting an existing sequence is refused as well.
"""

from django.apps.registry import Apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

TABLE = "gpu_sessions_auditevent"
REFUSAL = "the audit trail is append-only"

SQLITE = {
    "audit_no_update": f"BEFORE UPDATE ON {TABLE}",
    "audit_no_delete": f"BEFORE DELETE ON {TABLE}",
    "audit_no_replace": (
        f"BEFORE INSERT ON {TABLE} "
        f"WHEN EXISTS (SELECT 1 FROM {TABLE} WHERE sequence = NEW.sequence)"
    ),
}
POSTGRESQL = {
    "audit_no_change": f"BEFORE UPDATE OR DELETE ON {TABLE} FOR EACH ROW",
    "audit_no_truncate": f"BEFORE TRUNCATE ON {TABLE} FOR EACH STATEMENT",
}
FUNCTION = "gpu_sessions_audit_refuse"


def install(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    vendor = schema_editor.connection.vendor
    for statement in removal(vendor) + installation(vendor):
        schema_editor.execute(statement, params=None)


def remove(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for statement in removal(schema_editor.connection.vendor):
        schema_editor.execute(statement, params=None)


def installation(vendor: str) -> list[str]:
    if vendor == "sqlite":
        body = f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        return [f"CREATE TRIGGER {name} {when} {body}" for name, when in SQLITE.items()]
    function = (
        f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql "
        f"AS $$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$"
    )
    call = f"EXECUTE FUNCTION {FUNCTION}()"
    return [function] + [
        f"CREATE TRIGGER {name} {when} {call}" for name, when in POSTGRESQL.items()
    ]


def removal(vendor: str) -> list[str]:
    if vendor == "sqlite":
        return [f"DROP TRIGGER IF EXISTS {name}" for name in SQLITE]
    return [f"DROP TRIGGER IF EXISTS {name} ON {TABLE}" for name in POSTGRESQL]


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    """Names of the triggers that should be there and are not."""
    wanted, query = (
        (SQLITE, "SELECT name FROM sqlite_master WHERE type = 'trigger'")
        if connection.vendor == "sqlite"
        else (POSTGRESQL, "SELECT tgname FROM pg_trigger WHERE tgenabled <> 'D'")
    )
    with connection.cursor() as cursor:
        cursor.execute(query)
        present = {name for (name,) in cursor.fetchall()}
    return sorted(set(wanted) - present)
