import shutil
from pathlib import Path

import pytest

from .machine import Machine


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with an empty database, made once."""
    machine = Machine(tmp_path_factory.mktemp("migrated"))
    machine.django("migrate", "--verbosity=0", "--skip-checks")
    return machine.directory / "data"


@pytest.fixture
def machine(tmp_path: Path, migrated: Path) -> Machine:
    shutil.copytree(migrated, tmp_path / "data")
    return Machine(tmp_path)
