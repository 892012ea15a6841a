"""Tasks for real clusters: what they leave behind is a file."""

from pathlib import Path


def touch(path: str) -> None:
    Path(path).touch()
