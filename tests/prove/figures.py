"""What was measured, kept for `make prove`: one JSON object a part, in the directory it names."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from tests.prove.measure import Sample


def record(part: str, **figures: object) -> None:
    """Nothing is written in an ordinary test run."""
    directory = os.environ.get("PROVE_FIGURES")
    if directory:
        text = json.dumps(figures, indent=1, sort_keys=True, default=str)
        (Path(directory) / f"{part}.json").write_text(text + "\n")


def keep(part: str, found: Iterable[Sample]) -> None:
    """The samples of a part's runs, for the figures over all parts."""
    directory = os.environ.get("PROVE_FIGURES")
    if directory:
        path = Path(directory) / f"{part}.samples"
        path.write_text(json.dumps([sample.dump() for sample in found]))


def kept(directory: Path) -> list[Sample]:
    """Of all parts."""
    paths = sorted(directory.glob("*.samples"))
    return [Sample(**each) for path in paths for each in json.loads(path.read_text())]
