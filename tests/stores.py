"""Databases as tests see them from outside: rows in one form, whatever keeps them."""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from .postgresql import Cluster, programs

FILE = "gpubroker.sqlite3"


class Store(Protocol):
    """`environment`: how a process of the product finds it. SQL has `?` for values."""

    name: str
    environment: dict[str, str]

    def rows(self, sql: str, *values: object) -> list[dict]: ...
    def write(self, sql: str, *values: object) -> None: ...
    def contents(self) -> Iterator[tuple[str, bytes]]: ...
    def remove(self) -> None: ...


class Sqlite:
    name = "sqlite"

    def __init__(self, data: Path) -> None:
        self.path = data / FILE
        self.environment: dict[str, str] = {}

    def rows(self, sql: str, *values: object) -> list[dict]:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=20)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(sql, values)]
        finally:
            connection.close()

    def write(self, sql: str, *values: object) -> None:
        connection = sqlite3.connect(self.path, timeout=20)
        with connection:
            connection.execute(sql, values)
        connection.close()

    def contents(self) -> Iterator[tuple[str, bytes]]:
        for path in self.path.parent.glob(f"{FILE}*"):
            yield path.name, path.read_bytes()

    def copy_to(self, data: Path) -> "Sqlite":
        shutil.copy(self.path, data)
        return Sqlite(data)

    def remove(self) -> None:
        for path in self.path.parent.glob(f"{FILE}*"):
            path.unlink()


class Postgresql:
    name = "postgresql"

    def __init__(self, cluster: Cluster, database: str) -> None:
        self.cluster, self.database = cluster, database
        self.environment = {"DATABASE_URL": cluster.url(database)}

    def rows(self, sql: str, *values: object) -> list[dict]:
        with self.connection() as connection:
            found = connection.execute(sql.replace("?", "%s"), values).fetchall()
        return [{name: plain(value) for name, value in row.items()} for row in found]

    def write(self, sql: str, *values: object) -> None:
        with self.connection() as connection:
            connection.execute(sql.replace("?", "%s"), values)

    def connection(self) -> psycopg.Connection[dict]:
        return psycopg.connect(self.environment["DATABASE_URL"], row_factory=dict_row)

    def contents(self) -> Iterator[tuple[str, bytes]]:
        dump = [str(programs() / "pg_dump"), self.environment["DATABASE_URL"]]
        yield "dump", subprocess.run(dump, check=True, capture_output=True, timeout=120).stdout

    def copy_to(self, data: Path) -> "Postgresql":
        """A copy with the last words of the directory as its name."""
        name = "-".join(data.parts[-4:])[-60:]
        self.cluster.create(name, self.database)
        return Postgresql(self.cluster, name)

    def remove(self) -> None:
        self.cluster.drop(self.database)


def plain(value: object) -> object:
    """As SQLite keeps it: ids as 32 digits, JSON as text."""
    if isinstance(value, UUID):
        return value.hex
    return json.dumps(value) if isinstance(value, dict | list) else value
