"""Tampers with the audit of this environment's database, one change at a time, and takes each back.

    python -m tests.prove.tamper COUNT SEED      (on a copy: the triggers are taken away)

Prints one JSON object: how many changes were made and how many of them audit.verify() found.
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import django

django.setup()

from django.db import DatabaseError, connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from sessions import audit, audit_triggers  # noqa: E402
from sessions.models import AuditEvent  # noqa: E402

TABLE = AuditEvent._meta.db_table
COLUMNS = {field.column: field.db_type(connection) for field in AuditEvent._meta.fields}
Change = Callable[[], None]


class Undo(Exception):
    """Takes a change back."""


def execute(sql: str, *values: object) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


# -- what the database refuses


def forbidden() -> dict[str, str]:
    """name -> what nobody may do while the triggers are there."""
    row = f"INTO {TABLE} SELECT * FROM {TABLE} WHERE sequence = 2"
    upsert = f"INSERT {row} ON CONFLICT (sequence) DO UPDATE SET reason = 'x'"
    found = {
        "update": f"UPDATE {TABLE} SET reason = 'x' WHERE sequence = 2",
        "delete": f"DELETE FROM {TABLE} WHERE sequence = 2",
        "delete all": f"DELETE FROM {TABLE}",
        "insert or update": upsert,
    }
    if connection.vendor == "sqlite":
        return found | {
            "insert or replace": f"INSERT OR REPLACE {row}",
            "replace": f"REPLACE {row}",
        }
    return found | {
        "truncate": f"TRUNCATE {TABLE}",
        "truncate cascade": f"TRUNCATE {TABLE} CASCADE",
    }


def refused(sql: str) -> bool:
    try:
        with transaction.atomic():
            execute(sql)
            raise Undo
    except DatabaseError:
        return True
    except Undo:
        return False


# -- what audit.verify() finds


def found(change: Change) -> bool | None:
    """None = it changed nothing: the database keeps the value in its own form, or refuses it."""
    verdict = None
    try:
        with transaction.atomic():
            before = contents()
            change()
            verdict = None if contents() == before else audit.verify()
            raise Undo
    except DatabaseError:
        return None
    except Undo:
        return None if verdict is None else not verdict.ok


def contents() -> list[tuple]:
    """All of it, as bytes on SQLite: what is broken may not be text any more."""
    kind = "BLOB" if connection.vendor == "sqlite" else "TEXT"
    columns = ", ".join(f"CAST({column} AS {kind})" for column in COLUMNS)
    return execute(f"SELECT {columns} FROM {TABLE} ORDER BY sequence")


def flips(dice: random.Random, count: int, last: int) -> Iterator[tuple[str, Change]]:
    """One bit of one value: each column in turn, of events at random."""
    for number in range(count):
        column = list(COLUMNS)[number % len(COLUMNS)]
        sequence = dice.randint(1, last)
        yield f"{column} of event {sequence}", lambda c=column, s=sequence: flip(dice, c, s)


def flip(dice: random.Random, column: str, sequence: int) -> None:
    [(value,)] = execute(
        f"SELECT CAST({column} AS TEXT) FROM {TABLE} WHERE sequence = %s", sequence
    )
    where = f"WHERE sequence = {sequence:d}"
    if column == "sequence":
        execute(f"UPDATE {TABLE} SET sequence = %s {where}", sequence ^ 1 << dice.randrange(20))
        return
    content = bytearray(value.encode() or b" ")  # an empty text: it gains a character
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    if connection.vendor == "sqlite":
        execute(f"UPDATE {TABLE} SET {column} = CAST(%s AS TEXT) {where}", bytes(content))
    else:
        text = content.decode(errors="replace").replace("\x00", "\ufffd")
        execute(f"UPDATE {TABLE} SET {column} = CAST(%s AS {COLUMNS[column]}) {where}", text)


def rewrites(dice: random.Random, last: int) -> Iterator[tuple[str, Change]]:
    """Events that vanish, change places, are doubled, or are cut off at the end."""
    one = dice.randint(2, last - 2)
    yield f"event {one} deleted", lambda: deleted(f"sequence = {one}")
    yield "the first event deleted", lambda: deleted("sequence = 1")
    yield f"event {one} deleted, the gap closed", lambda: closed_up(one)
    yield f"events {one} and {one + 1} exchanged", lambda: exchanged(one)
    yield f"event {one} again at the end", lambda: doubled(one, last)
    for cut in (1, 2, last // 2):
        yield f"the last {cut} cut off", lambda cut=cut: deleted(f"sequence > {last - cut}")
    yield "everything deleted", lambda: deleted("sequence > 0")


def deleted(where: str) -> None:
    execute(f"DELETE FROM {TABLE} WHERE {where}")


def renumbered(old: int, new: int) -> None:
    execute(f"UPDATE {TABLE} SET sequence = %s WHERE sequence = %s", new, old)


def closed_up(sequence: int) -> None:
    deleted(f"sequence = {sequence}")
    [(last,)] = execute(f"SELECT max(sequence) FROM {TABLE}")
    for number in range(sequence + 1, last + 1):
        renumbered(number, number - 1)


def exchanged(sequence: int) -> None:
    for old, new in ((sequence, -1), (sequence + 1, sequence), (-1, sequence + 1)):
        renumbered(old, new)


def doubled(sequence: int, last: int) -> None:
    names = [column for column in COLUMNS if column != "sequence"]
    columns = ", ".join(names)
    execute(
        f"INSERT INTO {TABLE} (sequence, {columns}) SELECT {last + 1}, {columns} FROM {TABLE} "
        f"WHERE sequence = {sequence}"
    )


def main(count: int, seed: int) -> dict[str, object]:
    dice = random.Random(seed)
    tries = {name: refused(sql) for name, sql in forbidden().items()}
    audit.write_anchor(timezone.now())
    untouched = audit.verify()
    assert untouched.ok, untouched.problem
    for statement in audit_triggers.removal(connection.vendor):
        execute(statement)
    last = untouched.checked
    cases = [*flips(dice, count, last), *rewrites(dice, last)]
    results = [(name, found(change)) for name, change in cases]
    tally = Counter(verdict for _, verdict in results)
    return {
        "events": last,
        "tampered": tally[True] + tally[False],
        "found": tally[True],
        "missed": [name for name, verdict in results if verdict is False],
        "without effect": tally[None],
        "raw changes": len(tries),
        "refused": sum(tries.values()),
        "accepted": [name for name, held in tries.items() if not held],
        "seed": seed,
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
