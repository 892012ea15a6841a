"""What nvidia-smi prints: the plain table, -L, and --query-gpu as CSV."""

import time

from .instances import Board, Instance

FIELDS = {
    "index": ("", lambda board, n, seed: str(n)),
    "count": ("", lambda board, n, seed: str(board.count)),
    "name": ("", lambda board, n, seed: board.name),
    "gpu_name": ("", lambda board, n, seed: board.name),
    "uuid": ("", lambda board, n, seed: uuid(n, seed)),
    "gpu_uuid": ("", lambda board, n, seed: uuid(n, seed)),
    "driver_version": ("", lambda board, n, seed: board.driver),
    "memory.total": ("MiB", lambda board, n, seed: str(board.memory_mb)),
    "memory.used": ("MiB", lambda board, n, seed: "1"),
    "memory.free": ("MiB", lambda board, n, seed: str(board.memory_mb - 1)),
    "utilization.gpu": ("%", lambda board, n, seed: "0"),
    "utilization.memory": ("%", lambda board, n, seed: "0"),
    "temperature.gpu": ("", lambda board, n, seed: "34"),
    "power.draw": ("W", lambda board, n, seed: f"{board.power_w * 0.07:.2f}"),
    "power.limit": ("W", lambda board, n, seed: f"{board.power_w:.2f}"),
    "pci.bus_id": ("", lambda board, n, seed: f"00000000:{n + 1:02X}:00.0"),
    "compute_mode": ("", lambda board, n, seed: "Default"),
    "pstate": ("", lambda board, n, seed: "P8"),
}


def nvidia_smi(instance: Instance, arguments: list[str]) -> tuple[int, str, str]:
    """(exit status, stdout, stderr)"""
    board = instance.board
    if time.time() < float(str(instance.details.get("no_driver_until", 0))):
        return 127, "", "bash: nvidia-smi: command not found\n"
    if board.count < 1:
        return 6, "No devices were found\n", ""
    query = next((item for item in arguments if item.startswith("--query-gpu=")), None)
    if query is not None:
        options = next((item for item in arguments if item.startswith("--format=")), "--format=csv")
        return query_gpu(instance, query.partition("=")[2], options.partition("=")[2].split(","))
    if "-L" in arguments or "--list-gpus" in arguments:
        return 0, list_gpus(instance), ""
    if arguments and arguments[0] not in ("-q",):
        return 2, "", f'Invalid combination of input arguments: "{arguments[0]}"\n'
    return 0, table(board, instance.instance_id), ""


def query_gpu(instance: Instance, names: str, options: list[str]) -> tuple[int, str, str]:
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in FIELDS:
            return 2, f'Field "{name}" is not a valid field to query.\n', ""
    units = [FIELDS[name][0] if "nounits" not in options else "" for name in wanted]
    lines = []
    if "noheader" not in options:
        marks = [FIELDS[name][0] for name in wanted]
        heads = [
            f"{name} [{mark}]" if mark else name for name, mark in zip(wanted, marks, strict=True)
        ]
        lines.append(", ".join(heads))
    for number in range(instance.board.count):
        values = [FIELDS[name][1](instance.board, number, instance.instance_id) for name in wanted]
        lines.append(", ".join(f"{v} {u}".strip() for v, u in zip(values, units, strict=True)))
    return 0, "\n".join(lines) + "\n", ""


def list_gpus(instance: Instance) -> str:
    return "".join(
        f"GPU {number}: {instance.board.name} (UUID: {uuid(number, instance.instance_id)})\n"
        for number in range(instance.board.count)
    )


def uuid(number: int, seed: str) -> str:
    digits = f"{sum(seed.encode()) * 2_654_435_761 % 2**32:08x}"
    return f"GPU-{digits}-7c1e-4b52-9d3a-{number:012x}"


def table(board: Board, seed: str) -> str:
    driver = f"NVIDIA-SMI {board.driver:<22} Driver Version: {board.driver:<15}"
    line = "+" + "-" * 89 + "+"
    rule = "|" + "-" * 41 + "+" + "-" * 24 + "+" + "-" * 22 + "|"
    rows = [
        "Wed Nov 25 12:00:00 2026       ",
        line,
        f"| {driver} CUDA Version: {board.cuda:<7} |",
        rule,
        f"| {'GPU  Name                 Persistence-M':<39} | {'Bus-Id          Disp.A':<22} | "
        "Volatile Uncorr. ECC |",
        f"| {'Fan  Temp   Perf          Pwr:Usage/Cap':<39} | {'Memory-Usage':>22} | "
        "GPU-Util  Compute M. |",
        "|" + "=" * 41 + "+" + "=" * 24 + "+" + "=" * 22 + "|",
    ]
    for number in range(board.count):
        used = f"1MiB / {board.memory_mb:>6}MiB"
        power = f"{board.power_w * 0.07:.0f}W / {board.power_w:>4}W"
        rows += [
            f"|  {number:>2}  {board.name[:27]:<27}    Off |   00000000:{number + 1:02X}:00.0 Off |"
            "                  Off |",
            f"| 30%   34C    P8   {power:>21} | {used:>22} |      0%      Default |",
            line if number == board.count - 1 else rule,
        ]
    return "\n".join([*rows, "", *processes()]) + "\n"


def processes() -> list[str]:
    line = "+" + "-" * 89 + "+"
    return [
        line,
        f"| {'Processes:':<87} |",
        f"| {'No running processes found':<87} |",
        line,
    ]
