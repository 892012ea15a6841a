"""The dead man's switch, run by a real shell with a clock, a sleep and a curl of the test."""

import shlex
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from providers import dead_man
from providers.dead_man import GRACE_SECONDS, TICK_SECONDS, Report, report
from providers.vastai import VastAI
from providers.vastai_answers import QUIET
from tests.providers.container import BASE, END, FAKES, HOUR, LATEST, START, Machine, lease


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path)
    yield found
    found.stop()


def arguments(machine: Machine) -> list[str]:
    return machine.text("called").splitlines()


# when


@pytest.mark.parametrize(
    ("lived", "clock", "fires"),
    [
        (HOUR, END + GRACE_SECONDS, True),
        (HOUR, END + GRACE_SECONDS - 1, False),  # a second early
        (HOUR + GRACE_SECONDS, START - 10**9, True),  # its clock stands in the past
        (600, END + 10**9, False),  # its clock ran ahead: it has not lived through its span
        (0, END + 10**9, False),
    ],
)
def test_it_waits_for_half_an_hour_after_the_end(
    machine: Machine, lived: int, clock: int, fires: bool
) -> None:
    machine.clock(clock)
    machine.start(lived=lived)
    machine.wait(machine.turns)
    assert machine.fired == fires


def test_it_counts_what_it_has_lived_over_restarts(machine: Machine) -> None:
    machine.start()
    machine.turn(3)
    machine.stop()
    machine.start()
    machine.wait(lambda: machine.turns() == 5)
    machine.turn(2)
    assert (machine.folder / "lived").read_text() == f"{5 * TICK_SECONDS}\n"
    assert set(machine.text("slept").split()) == {str(TICK_SECONDS)}


def test_a_sleep_that_was_cut_short_was_not_lived(machine: Machine) -> None:
    machine.program("sleep", body=f"echo 1 >>{machine.here}/slept; /bin/sleep 0.01; exit 143")
    machine.start()
    machine.wait(lambda: machine.turns() > 5)
    assert (machine.folder / "lived").read_text() == "0\n"


# the end is moved


def test_the_end_moves_later_and_never_earlier(machine: Machine) -> None:
    machine.start(lived=HOUR)
    machine.wait(machine.turns)  # before, there is no file to move the end in
    later = datetime.fromtimestamp(END + 600, UTC)
    machine.ssh(dead_man.move_command(later))
    machine.turn()
    machine.ssh(dead_man.move_command(later - timedelta(minutes=5)))
    machine.turn(9)
    assert report(machine.ssh(dead_man.move_command(later))) == Report(end=later, ready=True)
    machine.clock(END + 600 + GRACE_SECONDS - 1)
    machine.turn()
    assert not machine.fired
    machine.clock(END + 600 + GRACE_SECONDS)
    machine.turn()
    assert machine.fired


def test_a_restart_keeps_an_end_that_was_moved(machine: Machine) -> None:
    machine.start()
    machine.turn()
    later = datetime.fromtimestamp(END + HOUR, UTC)
    machine.ssh(dead_man.move_command(later))
    machine.stop()
    machine.start()
    machine.turn()
    assert report(machine.ssh(dead_man.move_command(later))).end == later


def test_an_extension_that_comes_while_it_cannot_be_destroyed_still_counts(
    machine: Machine,
) -> None:
    for name in ("curl", "python3", "wget"):
        machine.program(name, status=1)
    machine.clock(END + GRACE_SECONDS)
    machine.start(lived=HOUR)
    machine.turn()
    assert machine.fired
    machine.ssh(dead_man.move_command(datetime.fromtimestamp(END + HOUR, UTC)))
    machine.turn()
    (machine.here / "called").unlink()
    machine.turn(2)
    assert not machine.fired


@pytest.mark.parametrize("jump", [10**7, -(10**7)])
def test_a_clock_that_jumps_meanwhile_ends_nothing_early(machine: Machine, jump: int) -> None:
    machine.start(lived=HOUR - 3 * TICK_SECONDS)
    machine.turn()
    machine.clock(END + jump)
    machine.turn()
    assert not machine.fired  # a tick before its span was lived through
    machine.turn(GRACE_SECONDS // TICK_SECONDS)
    assert machine.fired == (jump > 0)
    machine.turn(2)
    assert machine.fired


@pytest.mark.parametrize(
    ("written", "goes_by"),
    [
        ("", END), ("soon", END), ("-5", END), (str(END - HOUR), END), (str(LATEST + 9), LATEST),
    ],
)  # fmt: skip
def test_a_spoilt_end_does_no_harm(machine: Machine, written: str, goes_by: int) -> None:
    machine.folder.mkdir()
    (machine.folder / "until").write_text(written)
    machine.start()
    machine.turn()
    said = (machine.folder / "beat").read_text().split()
    assert (int(said[0]), said[1]) == (goes_by, "ready")


# the call


def test_it_asks_to_destroy_itself_and_nothing_else(machine: Machine) -> None:
    machine.clock(END + GRACE_SECONDS)
    machine.start(lived=HOUR)
    machine.wait(lambda: machine.fired)
    asked = arguments(machine)
    assert asked[-1] == f"{BASE}/api/v0/instances/4711/"
    assert asked[asked.index("-X") + 1] == "DELETE" and "Authorization: Bearer own-key" in asked


def test_it_is_repeated_for_ever(machine: Machine) -> None:
    machine.program("curl", status=22)
    machine.program("python3", status=1)
    machine.program("wget", status=1)
    machine.clock(END + GRACE_SECONDS)
    machine.start(lived=HOUR)
    for _ in range(3):
        machine.wait(lambda: machine.fired)
        (machine.here / "called").unlink()
        machine.turn()


def test_without_curl_another_program_does_it(machine: Machine) -> None:
    machine.program("curl", status=127)
    machine.program("python3", status=127)
    machine.program("wget", body=FAKES["curl"].format(here=machine.here, status=0))
    machine.clock(END + GRACE_SECONDS)
    machine.start(lived=HOUR)
    machine.wait(lambda: machine.fired and "--method=DELETE" in arguments(machine))
    assert arguments(machine)[-1] == f"{BASE}/api/v0/instances/4711/"


@dataclass
class Marketplace:
    address: str = ""
    asked: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)  # answered first


@pytest.fixture
def marketplace() -> Iterator[Marketplace]:
    found = Marketplace()

    class Answer(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.asked.append((self.command, self.path, self.headers["Authorization"], body))
            self.send_response(found.refusals.pop(0) if found.refusals else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *parts: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.address = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()


OWN_END = ("DELETE", "/api/v0/instances/4711/", "Bearer own-key", b"{}")


@pytest.mark.parametrize("program", ["curl", "python3", "wget"])
def test_each_real_program_asks_the_same(
    machine: Machine, marketplace: Marketplace, program: str
) -> None:
    machine.base = marketplace.address
    for name in ("curl", "python3", "wget"):
        machine.program(name, status=127)
    real = sys.executable if program == "python3" else shutil.which(program)
    assert real, "these tests need curl and wget"
    machine.program(program, body=f'exec {real} "$@"')
    machine.clock(END + GRACE_SECONDS)
    machine.start(lived=HOUR)
    machine.wait(lambda: marketplace.asked)
    assert marketplace.asked[0] == OWN_END


def test_a_refused_key_and_an_outage_are_asked_again(
    machine: Machine, marketplace: Marketplace
) -> None:
    machine.base, marketplace.refusals = marketplace.address, [401, 403, 429, 503]
    for name in ("python3", "wget"):
        machine.program(name, status=127)
    machine.program("curl", body=f'exec {shutil.which("curl")} "$@"')
    machine.clock(END + GRACE_SECONDS)
    machine.start(lived=HOUR)
    machine.turn(4)
    assert marketplace.asked == [OWN_END] * 5 and not marketplace.refusals


@pytest.mark.parametrize("environment", [{}, {"CONTAINER_ID": "4711"}])
def test_without_a_key_it_says_that_it_is_helpless(
    machine: Machine, environment: dict[str, str]
) -> None:
    machine.environment = environment
    machine.start()
    machine.turn()
    told = report(machine.ssh(dead_man.move_command(lease().end)))
    assert told == Report(end=lease().end, ready=False)


def test_a_loop_that_died_is_not_called_ready(machine: Machine) -> None:
    machine.start()
    machine.turn()
    machine.stop()
    machine.clock(START + 301)
    assert not report(machine.ssh(dead_man.move_command(lease().end))).ready


@pytest.mark.parametrize(
    "output",
    ["", "gpubroker-switch", "gpubroker-switch 1 ready 5", "x gpubroker-switch 1760000000 ready 5",
     "gpubroker-switch 1760000000 ready -5", "gpubroker-switch 1760000000 fine 5"],
)  # fmt: skip
def test_only_a_switch_is_believed(output: str) -> None:
    assert report(output) is None


# the script of the person


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("script", "status", "output"),
    [
        (f"{QUIET}\necho hello", 0, "hello\n"),
        ("echo hello; exit 3", 3, "hello\n"),
        ("set -eu\nfalse\necho no", 1, ""),
        ("echo ${!-none}; /bin/sleep 0.1 & wait; echo waited", 0, "none\nwaited\n"),
        ("cd /tmp; pwd; trap 'echo bye' EXIT", 0, "/tmp\nbye\n"),
        ("echo 'it'\"'\"'s' \"$(printf '%s' '}{')\"", 0, "it's }{\n"),
        ("echo ${k-unset}${n-unset}${t-unset}", 0, "unsetunsetunset\n"),
    ],
)
def test_the_script_runs_as_if_alone(
    machine: Machine, shell: str, script: str, status: int, output: str
) -> None:
    machine.shell = shell
    done = machine.start(script)
    assert (done.returncode, done.stdout, done.stderr) == (status, output, "")
    machine.turn()  # and the loop outlives it


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("#!/bin/sh -eu\necho shell; exit 4", "shell\n"),
        ("#!/usr/bin/env bash\necho ${BASH_VERSION:+bash}; exit 4", "bash\n"),
        ('#!/usr/bin/awk -f\nBEGIN { print "it\'s $HOME"; exit 4 }', "it's $HOME\n"),
        ("#!/usr/bin/awk -f\n# GPUBROKER\nBEGIN { print 1; exit 4 }\n", "1\n"),
    ],
)
def test_a_script_with_its_own_program_keeps_it(machine: Machine, script: str, output: str) -> None:
    done = machine.start(script)
    assert (done.returncode, done.stdout, done.stderr) == (4, output, "")
    machine.turn()


# the text


def test_there_is_room_for_the_longest_script() -> None:
    most, base = VastAI.capabilities.script_max_chars, "https://console.vast.ai"
    shebang = "#!/usr/bin/python3\n"
    for script in (f"{QUIET}\n{'x' * most}", shebang + "x" * (most - len(shebang))):
        assert len(dead_man.guarded(script, lease(), base)) <= 4048


def test_an_address_cannot_smuggle_a_command_in() -> None:
    for base in ("http://a;reboot", "http://a$(id)", "http://a\nid", "http://a b", ""):
        with pytest.raises(ValueError, match="address"):
            dead_man.loop(lease(), base)


def test_the_command_over_ssh_is_one_quoted_word() -> None:
    assert shlex.split(dead_man.move_command(lease().end))[:2] == ["sh", "-c"]
    assert len(shlex.split(dead_man.move_command(lease().end))) == 3


def test_fractions_of_a_second_are_never_early() -> None:
    assert dead_man.epoch(datetime.fromtimestamp(5.001, UTC)) == 6
