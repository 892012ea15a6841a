"""What nvidia-smi prints: the plain table, -L, and --query-gpu as CSV.

A figure that the driver does not have is `[N/A]` in CSV, units or not, and N/A in the table.
"""

import time

from .instances import Instance

NOT_KNOWN = "[N/A]"
FIELDS = {
    "index": ("", lambda instance, n: str(n)),
    "count": ("", lambda instance, n: str(instance.board.count)),
    "name": ("", lambda instance, n: instance.board.name),
    "gpu_name": ("", lambda instance, n: instance.board.name),
    "uuid": ("", lambda instance, n: uuid(n, instance.instance_id)),
    "gpu_uuid": ("", lambda instance, n: uuid(n, instance.instance_id)),
    "driver_version": ("", lambda instance, n: instance.board.driver),
    "memory.total": ("MiB", lambda instance, n: str(instance.board.memory_mb)),
    "memory.used": ("MiB", lambda instance, n: str(instance.gpu_memory_mb)),
    "memory.free": (
        "MiB",
        lambda instance, n: str(instance.board.memory_mb - instance.gpu_memory_mb),
    ),
    "utilization.gpu": ("%", lambda instance, n: percent(instance.gpu_load)),
    "utilization.memory": ("%", lambda instance, n: percent(instance.gpu_load)),
    "temperature.gpu": ("", lambda instance, n: str(temperature(instance))),
    "power.draw": ("W", lambda instance, n: f"{drawn(instance):.2f}"),
    "power.limit": ("W", lambda instance, n: f"{instance.board.power_w:.2f}"),
    "pci.bus_id": ("", lambda instance, n: f"00000000:{n + 1:02X}:00.0"),
    "compute_mode": ("", lambda instance, n: "Default"),
    "pstate": ("", lambda instance, n: pstate(instance)),
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
    return 0, table(instance), ""


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
        values = [FIELDS[name][1](instance, number) for name in wanted]
        lines.append(", ".join(map(with_unit, values, units)))
    return 0, "\n".join(lines) + "\n", ""


def with_unit(value: str, unit: str) -> str:
    return value if value == NOT_KNOWN else f"{value} {unit}".strip()


def percent(load: int | None) -> str:
    return NOT_KNOWN if load is None else str(load)


def share(instance: Instance) -> float:
    """Of all it can do."""
    return (instance.gpu_load or 0) / 100


def drawn(instance: Instance) -> float:
    """Watts: a little at rest, nearly all at full load."""
    return instance.board.power_w * (0.07 + 0.9 * share(instance))


def temperature(instance: Instance) -> int:
    return round(34 + 40 * share(instance))


def pstate(instance: Instance) -> str:
    return "P2" if instance.gpu_load else "P8"


def list_gpus(instance: Instance) -> str:
    return "".join(
        f"GPU {number}: {instance.board.name} (UUID: {uuid(number, instance.instance_id)})\n"
        for number in range(instance.board.count)
    )


def uuid(number: int, seed: str) -> str:
    digits = f"{sum(seed.encode()) * 2_654_435_761 % 2**32:08x}"
    return f"GPU-{digits}-7c1e-4b52-9d3a-{number:012x}"


def table(instance: Instance) -> str:
    board = instance.board
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
        used = f"{instance.gpu_memory_mb}MiB / {board.memory_mb:>6}MiB"
        power = f"{drawn(instance):.0f}W / {board.power_w:>4}W"
        heat, load = temperature(instance), percent(instance.gpu_load).strip("[]")
        busy = f"{load}%" if load.isdigit() else load
        rows += [
            f"|  {number:>2}  {board.name[:27]:<27}    Off |   00000000:{number + 1:02X}:00.0 Off |"
            "                  Off |",
            f"| 30%   {heat}C    {pstate(instance)}   {power:>21} | {used:>22} |"
            f" {busy:>7}      Default |",
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
