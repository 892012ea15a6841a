"""The marketplace's own command line tool, pointed at the simulator."""

import json
import os
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from .conftest import OWNER, Simulator
from .test_ssh import login, open_port


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of nobody, so that no key of the developer's is found."""
    return tmp_path


def vastai(simulator: Simulator, home: Path, *words: str) -> str:
    """Standard output of one command."""
    tool = str(Path(sys.executable).with_name("vastai"))
    line = [tool, *words, "--url", simulator.vastai, "--api-key", OWNER]
    surroundings = {"HOME": str(home), "PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(line, env=surroundings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_from_search_to_destroy(simulator: Simulator, home: Path, key: asyncssh.SSHKey) -> None:
    query = "gpu_name=RTX_3090 num_gpus=1 geolocation in [ES] dph<0.1"
    offers = json.loads(vastai(simulator, home, "search", "offers", query, "-o", "dph", "--raw"))
    assert offers
    assert {offer["gpu_name"] for offer in offers} == {"RTX 3090"}
    spec = ["--image", "pytorch/pytorch", "--disk", "20", "--ssh", "--direct", "--label", "cli"]
    offer = str(offers[0]["id"])
    made = json.loads(vastai(simulator, home, "create", "instance", offer, *spec, "--raw"))
    number = made["new_contract"]
    assert made["success"] is True
    public = key.export_public_key().decode().strip()
    vastai(simulator, home, "attach", "ssh", str(number), public)
    port = open_port(simulator, number)
    assert "RTX 3090" in login(port, key, "nvidia-smi -L")[0]["out"]

    shown = json.loads(vastai(simulator, home, "show", "instance", str(number), "--raw"))
    assert (shown["label"], shown["actual_status"]) == ("cli", "running")
    listed = json.loads(vastai(simulator, home, "show", "instances-v1", "--raw"))
    rows = listed["instances"] if isinstance(listed, dict) else listed
    assert [row["id"] for row in rows] == [number]
    vastai(simulator, home, "destroy", "instance", str(number), "-y")
    assert simulator.bill(number)["gone_at"]
