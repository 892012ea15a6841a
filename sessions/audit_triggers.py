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
    remove(apps, schema_editor)
    if schema_editor.connection.vendor == "sqlite":
        for name, when in SQLITE.items():
            body = f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
            schema_editor.execute(f"CREATE TRIGGER {name} {when} {body}", params=None)
        return
    schema_editor.execute(
        f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql "
        f"AS $$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$",
        params=None,
    )
    for name, when in POSTGRESQL.items():
        schema_editor.execute(
            f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {FUNCTION}()", params=None
        )


def remove(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "sqlite":
        for name in SQLITE:
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}", params=None)
        return
    for name in POSTGRESQL:
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {name} ON {TABLE}", params=None)


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
