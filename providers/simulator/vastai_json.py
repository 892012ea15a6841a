"""An instance as Vast.ai writes it, in the list and in the single read alike."""

from .instances import FOREVER, Instance
from .store import Record
from .vastai_search import contract, hardware
from .world import World

STORED = {  # what the list may be filtered and ordered by
    "id", "label", "actual_status", "intended_status", "cur_state", "next_state", "gpu_name",
    "machine_id", "host_id", "verification", "image_uuid", "start_date", "end_date", "status_msg",
    "image_runtype", "is_bid", "geolocation", "template_id",
}  # fmt: skip


def instance_record(world: World, instance: Instance, now: float) -> Record:
    machine = world.machine(instance)
    details = instance.details
    gpu = instance.gpu_rate if instance.phase == "running" else 0.0
    record = hardware(machine, instance.gpu_count) | contract(world, machine, now) | {
        "id": int(instance.instance_id), "label": instance.label or None,
        "status_msg": status_message(instance), "image_uuid": details.get("image"),
        "image_args": details.get("args") or [],
        "image_runtype": details.get("runtype", "ssh ssh_proxy"),
        "extra_env": [list(pair) for pair in dict(details.get("env") or {}).items()],
        "onstart": details.get("onstart"), "template_id": None,
        "template_hash_id": details.get("template_hash_id"), "template_name": None,
        "volume_info": None, "bundle_id": 1_200_000 + int(instance.offer_id) % 90_000,
        "gpu_totalram": machine.model.memory_mb * instance.gpu_count, "gpu_util": 0.0,
        "gpu_temp": 34.0, "mem_limit": round(machine.ram_mb / 1000, 1), "mem_usage": 1.1,
        "disk_space": instance.disk_gb, "disk_usage": 4.1, "disk_util": -1,
        "start_date": instance.created_at, "uptime_mins": uptime_minutes(instance, now),
        "client_run_time": 1.1, "host_run_time": 2_592_000.0,
        "jupyter_token": details.get("jupyter_token"), "credit_balance": None,
        "credit_discount": None, "time_remaining": "", "time_remaining_isbid": "",
    }  # fmt: skip
    return record | states(instance) | money(instance, gpu) | network(world, instance)


def states(instance: Instance) -> Record:
    halted = instance.phase == "stopped" or instance.wanted == "stopped"
    state = "stopped" if halted else "running"
    intended = "stopped" if instance.phase == "stopped" and not instance.queued else instance.wanted
    return {
        "actual_status": instance.phase or None,
        "intended_status": intended,
        "cur_state": state,
        "next_state": "running" if instance.queued else state,
    }


def status_message(instance: Instance) -> str | None:
    if instance.message or not instance.phase:
        return instance.message or None
    image = str(instance.details.get("image") or "image").replace(":", "_", 1)
    words = {
        "running": f"success, running {image}/ssh",
        "loading": f"{image}: Pulling fs layer",
        "created": "Successfully created container",
    }
    return words.get(instance.phase, f"{instance.phase}, {image}/ssh")


def uptime_minutes(instance: Instance, now: float) -> float | None:
    if instance.phase != "running" or instance.ssh_from == FOREVER:
        return None
    return round(max(0.0, now - instance.ssh_from + instance.ssh_delay) / 60, 2)


def money(instance: Instance, gpu_now: float) -> Record:
    none = {"discountTotalHour": 0, "diskHour": instance.disk_rate}
    total, now = instance.price_per_hour, gpu_now + instance.disk_rate
    return {
        "is_bid": bool(instance.details.get("is_bid")), "min_bid": instance.details.get("min_bid"),
        "dph_base": instance.gpu_rate, "dph_total": total, "storage_total_cost": instance.disk_rate,
        "search": {"gpuCostPerHour": instance.gpu_rate, "totalHour": total,
                   "discountedTotalPerHour": total} | none,
        "instance": {"gpuCostPerHour": gpu_now, "totalHour": now,
                     "discountedTotalPerHour": now} | none,
    }  # fmt: skip


def network(world: World, instance: Instance) -> Record:
    """Everything is on the loopback; ports are known only while it runs."""
    running = instance.phase == "running"
    wanted = ["22/tcp"] if direct(world, instance) else []
    wanted += [f"{port}/tcp" for port in asked_ports(instance)]
    ports = {
        name: [
            {"HostIp": ip, "HostPort": str(instance.ssh_port + offset)} for ip in ("0.0.0.0", "::")
        ]
        for offset, name in enumerate(wanted)
    }
    return {
        "ssh_host": world.host, "ssh_idx": "5", "ssh_port": instance.ssh_port,
        "machine_dir_ssh_port": instance.ssh_port, "public_ipaddr": f"{world.host} ",
        "local_ipaddrs": "10.2.202.31 172.17.0.1 \n", "ports": ports if running else {},
        "direct_port_count": len(wanted), "direct_port_start": -1, "direct_port_end": -1,
    }  # fmt: skip


def direct(world: World, instance: Instance) -> bool:
    return "direc" in str(instance.details.get("runtype")) and world.machine(instance).ports > 0


def asked_ports(instance: Instance) -> list[str]:
    """Container ports of the env entries "-p 8000:8000"."""
    names = [str(name) for name in dict(instance.details.get("env") or {})]
    return [name.rsplit(":", 1)[-1] for name in names if name.startswith("-p ") and ":" in name]
