"""The world on disk: one JSON line per changed record, the last line of a key counts.

A line is handed to the kernel before the change is answered, so a killed simulator loses nothing.
"""

import json
import os
from pathlib import Path
from typing import TextIO

Record = dict[str, object]

SPARE_LINES = 20_000  # rewritten when this many lines are out of date


class Store:
    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.path = data_dir / "world.jsonl"
        self.records: dict[str, dict[str, Record]] = {}
        self.lines = 0
        for kind, key, value in read_lines(self.path):
            self.records.setdefault(kind, {})[key] = value
        self.file = self.compact()

    def all(self, kind: str) -> dict[str, Record]:
        return self.records.get(kind, {})

    def put(self, kind: str, key: str, value: Record) -> None:
        self.records.setdefault(kind, {})[key] = value
        self.file.write(line_of(kind, key, value))
        self.file.flush()
        self.lines += 1
        if self.lines > SPARE_LINES + 2 * self.count():
            self.file.close()
            self.file = self.compact()

    def count(self) -> int:
        return sum(len(records) for records in self.records.values())

    def compact(self) -> TextIO:
        fresh = self.path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            for kind, records in self.records.items():
                file.writelines(line_of(kind, key, value) for key, value in records.items())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        self.lines = self.count()
        return self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        self.file.close()
        self.compact().close()


def line_of(kind: str, key: str, value: Record) -> str:
    return json.dumps({"kind": kind, "key": key, "value": value}) + "\n"


def read_lines(path: Path) -> list[tuple[str, str, Record]]:
    """All whole lines; the end of a line that was being written when we were killed is dropped."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [(row["kind"], row["key"], row["value"]) for row in rows]
