"""Logging in to a simulated instance, by a real SSH client."""

import asyncio

import asyncssh
import pytest

from .conftest import Json, Simulator, wait_for

QUERY = "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv"


class Closed(Exception):
    """Nobody listens, or stopped listening meanwhile."""


def login(port: int, key: asyncssh.SSHKey, *commands: str, user: str = "root") -> list[Json]:
    """What each command said. Raises Closed or asyncssh.PermissionDenied."""

    async def work() -> list[Json]:
        options = {"username": user, "client_keys": [key], "known_hosts": None, "config": None}
        async with asyncssh.connect("127.0.0.1", port, **options, agent_path=None) as connection:
            results = [await connection.run(command) for command in commands]
            host_key = connection.get_server_host_key().get_fingerprint()
        return [
            {"status": r.exit_status, "out": r.stdout, "err": r.stderr, "host_key": host_key}
            for r in results
        ]

    try:
        return asyncio.run(asyncio.wait_for(work(), 60))
    except (ConnectionError, asyncssh.ConnectionLost, asyncssh.ChannelOpenError) as problem:
        raise Closed from problem


def try_login(port: int, key: asyncssh.SSHKey) -> str:
    try:
        return login(port, key, "whoami")[0]["out"]
    except Closed:
        return "closed"
    except asyncssh.PermissionDenied:
        return "denied"


def attach(simulator: Simulator, instance_id: int, key: asyncssh.SSHKey) -> Json:
    body = {"ssh_key": key.export_public_key().decode()}
    return simulator.call("POST", f"/api/v0/instances/{instance_id}/ssh/", body).json()


@pytest.fixture
def instance(simulator: Simulator, key: asyncssh.SSHKey) -> Json:
    """A running instance whose SSH server lets the key in, without the wait of a boot."""
    label, line = simulator.label(), key.export_public_key().decode()
    number = int(simulator.tell("/instances", label=label, keys=[line])["instance_id"])
    return {"id": number, "label": label, "port": open_port(simulator, number)}


def open_port(simulator: Simulator, instance_id: int) -> int:
    def look() -> Json | None:
        truth = simulator.truth(instance_id)
        return truth if truth["ssh"] == "open" and truth["keys_working"] else None

    port = wait_for(look, "SSH")["ssh_port"]
    knock_until_open(port)
    return port


def knock_until_open(port: int) -> None:
    """The listener follows the truth by a moment."""

    async def knock() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return False
        writer.close()
        return True

    wait_for(lambda: asyncio.run(knock()), "the port")


def test_the_door_opens_late_and_only_for_an_installed_key(
    simulator: Simulator, key: asyncssh.SSHKey
) -> None:
    made = simulator.rent()
    port = simulator.read(made["id"])["ssh_port"]
    assert try_login(port, key) == "closed"
    assert try_login(open_port_without_keys(simulator, made["id"]), key) == "denied"
    assert attach(simulator, made["id"], key)["msg"] == "SSH key added to instance."
    again = attach(simulator, made["id"], key)
    assert again == {"success": False, "msg": "SSH key already associated with instance."}
    wait_for(lambda: try_login(port, key) == "root\n", "the key to work")
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    assert try_login(port, stranger) == "denied"
    with pytest.raises(asyncssh.PermissionDenied):
        login(port, key, "whoami", user="admin")
    simulator.destroy(made["id"])
    wait_for(lambda: try_login(port, key) == "closed", "the door to close")


def open_port_without_keys(simulator: Simulator, instance_id: int) -> int:
    wait_for(lambda: simulator.truth(instance_id)["ssh"] == "open", "SSH")
    port = simulator.truth(instance_id)["ssh_port"]
    knock_until_open(port)
    return port


def test_an_attached_key_takes_a_while(simulator: Simulator, key: asyncssh.SSHKey) -> None:
    number = int(simulator.tell("/instances", label="x")["instance_id"])
    attach(simulator, number, key)
    assert simulator.truth(number)["keys_working"] == []
    wait_for(lambda: simulator.truth(number)["keys_working"], "the key")


def test_keys_are_listed_as_text_and_can_be_taken_away(
    simulator: Simulator, instance: Json
) -> None:
    path = f"/api/v0/instances/{instance['id']}/ssh/"
    listed = simulator.call("GET", path).json()["ssh_keys"]
    assert isinstance(listed, str)
    number = listed.split('"id": ')[1].split(",")[0]
    taken = [simulator.call("DELETE", f"{path}{number}/").json() for _ in range(2)]
    assert [answer.get("error") for answer in taken] == [None, "no_such_ssh_key"]
    assert simulator.truth(instance["id"])["keys"] == []
    bad = simulator.call("POST", path, {"ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----"})
    assert (bad.status_code, bad.json()["error"]) == (400, "no_ssh_key")
    unknown = simulator.call("POST", "/api/v0/instances/1/ssh/", {"ssh_key": "x"}).json()
    assert unknown["error"] == "no_such_instance"


def test_the_gpu_is_the_one_that_was_sold(
    simulator: Simulator, key: asyncssh.SSHKey, instance: Json
) -> None:
    offer = simulator.read(instance["id"])
    plain, listed, query, bare, bad = login(
        instance["port"], key, "nvidia-smi", "nvidia-smi -L", QUERY, f"{QUERY},noheader,nounits",
        "nvidia-smi --query-gpu=colour --format=csv",
    )  # fmt: skip
    memory, driver = offer["gpu_ram"], offer["driver_version"]
    assert f"CUDA Version: {offer['cuda_max_good']}" in plain["out"]
    assert {len(line) for line in plain["out"].splitlines() if line.startswith("|")} == {91}
    assert listed["out"].startswith("GPU 0: NVIDIA ")
    header, row = query["out"].splitlines()
    assert header == "name, memory.total [MiB], driver_version"
    name = row.split(", ")[0]
    assert row == f"{name}, {memory} MiB, {driver}"
    assert name.endswith(offer["gpu_name"].removeprefix("Q "))
    assert bare["out"] == f"{name}, {memory}, {driver}\n"
    assert (bad["status"], "not a valid field" in bad["out"]) == (2, True)


def test_the_shell(key: asyncssh.SSHKey, instance: Json) -> None:
    commands = {
        "whoami; hostname": (0, f"root\nC.{instance['id']}\n"),
        "echo 'a  b' | grep a && pwd": (0, "a  b\n/root\n"),
        "false || LC_ALL=C id -u": (0, "0\n"),
        "false && whoami": (1, ""),
        "frobnicate 2>/dev/null; echo done": (0, "done\n"),
        "df -h | head -n 1": (0, "Filesystem      Size  Used Avail Use% Mounted on\n"),
        "touch b a; ls": (0, "a\nb\n"),
        "exit 3": (3, ""),
        "echo 'open": (2, ""),
    }
    answers = login(instance["port"], key, *commands, "frobnicate", "uptime", "free -g", "uname -a")
    seen = {c: (a["status"], a["out"]) for c, a in zip(commands, answers, strict=False)}
    assert seen == commands
    unknown, *others = answers[len(commands) :]
    assert unknown["status"] == 127
    assert "command not found" in unknown["err"]
    assert all(other["out"] and not other["status"] for other in others)


def test_an_interactive_shell(key: asyncssh.SSHKey, instance: Json) -> None:
    async def work() -> tuple[str, int | None]:
        async with asyncssh.connect(
            "127.0.0.1", instance["port"], username="root", client_keys=[key],
            known_hosts=None, config=None, agent_path=None,
        ) as connection:  # fmt: skip
            process = await connection.create_process(term_type="xterm")
            process.stdin.write("whoami\nexit 4\n")
            text = await process.stdout.read()
            await process.wait_closed()
            return text, process.exit_status

    text, status = asyncio.run(asyncio.wait_for(work(), 60))
    assert f"root@C.{instance['id']}:~# " in text
    assert "\nroot\r\n" in text
    assert status == 4


def test_ssh_is_refused_for_a_while(
    simulator: Simulator, key: asyncssh.SSHKey, instance: Json
) -> None:
    simulator.fault("ssh", "ssh_refused", seconds=50, instance_id=str(instance["id"]))
    wait_for(lambda: try_login(instance["port"], key) == "closed", "refusal")
    wait_for(lambda: try_login(instance["port"], key) == "root\n", "SSH again")


def test_keys_are_refused_for_ever(
    simulator: Simulator, key: asyncssh.SSHKey, instance: Json
) -> None:
    simulator.fault("ssh", "auth_refused", label=instance["label"])
    assert try_login(instance["port"], key) == "denied"
    assert simulator.truth(instance["id"])["keys_working"] == []


def test_a_mute_server_says_nothing(simulator: Simulator, instance: Json) -> None:
    simulator.fault("ssh", "ssh_mute", label=instance["label"])
    wait_for(lambda: simulator.truth(instance["id"])["ssh"] == "mute", "silence")

    async def listen() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", instance["port"])
        try:
            return await asyncio.wait_for(reader.read(1), 0.3)
        except TimeoutError:
            return b"silence"
        finally:
            writer.close()

    wait_for(lambda: asyncio.run(listen()) == b"silence", "silence on the wire")


def test_the_host_key_can_change(
    simulator: Simulator, key: asyncssh.SSHKey, instance: Json
) -> None:
    before = login(instance["port"], key, "true")[0]["host_key"]
    assert login(instance["port"], key, "true")[0]["host_key"] == before
    simulator.fault("ssh", "host_key_changed", label=instance["label"])

    def look() -> bool:
        try:
            return login(instance["port"], key, "true")[0]["host_key"] != before
        except Closed:  # between the old and the new listener
            return False

    wait_for(look, "another host key")


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("wrong_gpu", 0, "GTX 1660"),
        ("missing_gpu", 6, "No devices were found"),
        ("wrong_cuda", 0, "CUDA Version: 11.4"),
        ("no_driver", 127, "command not found"),
    ],
)
def test_the_gpu_may_be_another(
    simulator: Simulator, key: asyncssh.SSHKey, fault: str, status: int, words: str
) -> None:
    simulator.fault("create", fault)
    made = simulator.rent(offer_id=simulator.search(num_gpus={"eq": 1}, limit=1)[0]["id"])
    attach(simulator, made["id"], key)
    answer = login(open_port(simulator, made["id"]), key, "nvidia-smi")[0]
    assert answer["status"] == status
    assert words in answer["out"] + answer["err"]


def test_nvidia_smi_shows_the_load_that_was_set(
    simulator: Simulator, instance: Json, key: asyncssh.SSHKey
) -> None:
    query = "nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader"
    work = f"/instances/{instance['id']}"

    def shown(options: str = "") -> str:
        return login(instance["port"], key, query + options)[0]["out"]

    assert shown() == "0 %, 1 MiB\n"
    simulator.tell(work, gpu_load=87, gpu_memory_mb=9000)
    assert (shown(), shown(",nounits")) == ("87 %, 9000 MiB\n", "87, 9000\n")
    simulator.tell(work, gpu_load=None)
    assert (shown(), shown(",nounits")) == ("[N/A], 9000 MiB\n", "[N/A], 9000\n")
    table = login(instance["port"], key, "nvidia-smi")[0]["out"]
    assert "9000MiB /" in table and " N/A      Default" in table
