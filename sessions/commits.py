"""How a web process hears that others committed: SQLite counts commits, PostgreSQL tells of them.

On PostgreSQL a trigger sends the notice in the writer's own transaction, so that it comes with
the commit or not at all. A notice may be lost with its connection: a look follows anyway.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from django.apps.registry import Apps
from django.db import connection
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

LOOK_SECONDS = 0.05
SAFETY_SECONDS = 2.0  # between two looks when no notice comes
CHANNEL = "gpubroker_sessions"
TABLE, TRIGGER, FUNCTION = "gpu_sessions_session", "session_notice", "gpu_sessions_notice"
# A dead connection is found within a minute, and opened anew by whoever listens.
ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

News = Callable[[], Awaitable[bool]]  # waits a moment; whether somebody may have committed


@asynccontextmanager
async def listening() -> AsyncIterator[News]:
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "postgresql":
        async with await listener() as link:
            yield lambda: told(link)
    elif "memory" in name:  # of tests: one connection, and nobody counts
        yield passed
    else:
        look = counter(name)
        yield lambda: looked(look)


async def passed() -> bool:
    await asyncio.sleep(SAFETY_SECONDS)
    return True


def counter(database: str) -> Callable[[], bool]:
    """A look that says whether any other connection committed since the last one (SQLite)."""
    link = sqlite3.connect(f"file:{database}?mode=rw", uri=True, isolation_level=None)
    link.execute("PRAGMA query_only = 1")
    last = -1

    def look() -> bool:
        nonlocal last
        before, last = last, link.execute("PRAGMA data_version").fetchone()[0]
        return last != before

    return look


async def looked(look: Callable[[], bool]) -> bool:
    await asyncio.sleep(LOOK_SECONDS)
    return look()


async def listener() -> psycopg.AsyncConnection:
    """A connection of its own, beside Django's: it does nothing but listen."""
    link = await psycopg.AsyncConnection.connect(**parameters(), autocommit=True)
    try:
        await link.execute(f"LISTEN {CHANNEL}")
    except BaseException:
        await link.close()
        raise
    return link


def parameters() -> dict[str, Any]:
    ours = {"context", "cursor_factory", "prepare_threshold"}  # of Django's own connection
    given = connection.get_connection_params().items()
    return ALIVE | {name: value for name, value in given if name not in ours}


async def told(link: psycopg.AsyncConnection) -> bool:
    """At the first notice, or when it is time to look without one."""
    async for _ in link.notifies(timeout=SAFETY_SECONDS, stop_after=1):
        pass
    return True


# ---- the trigger, for a migration


def install(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Each write of what people see moves `version`; claims of the engine do not."""
    if schema_editor.connection.vendor != "postgresql":
        return
    remove(apps, schema_editor)
    schema_editor.execute(
        f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql "
        f"AS $$ BEGIN PERFORM pg_notify('{CHANNEL}', ''); RETURN NULL; END $$",
        params=None,
    )
    schema_editor.execute(
        f"CREATE TRIGGER {TRIGGER} AFTER INSERT OR UPDATE OF version ON {TABLE} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {FUNCTION}()",
        params=None,
    )


def remove(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {TRIGGER} ON {TABLE}", params=None)
