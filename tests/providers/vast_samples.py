"""Replies of Vast.ai as its documentation shows them, for tests to bend."""

import json
from typing import Any

from providers.http import Answer

LABEL = "gb1-k3x9w2p7qa-m4n8r2t6v0z1c5d9-1-5f0c91ab"


def reply(status: int, body: object) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(status=status, body=text.encode())


def offer(**changes: Any) -> dict[str, Any]:
    """8 GB of disk at 0.18 USD a month each are 0.002 USD per hour."""
    return {
        "id": 30406190,
        "ask_contract_id": 30406190,
        "machine_id": 44102,
        "host_id": 237661,
        "num_gpus": 1,
        "gpu_name": "RTX 5090",
        "gpu_ram": 32607,
        "gpu_frac": 0.125,
        "cuda_max_good": 12.8,
        "driver_version": "570.86.15",
        "cpu_name": "AMD EPYC 7K62 48-Core Processor",
        "cpu_cores": 192,
        "cpu_cores_effective": 24.0,
        "cpu_ram": 515847,
        "disk_space": 505.5,
        "inet_up": 812.4,
        "inet_down": 905.7,
        "inet_up_cost": 0.0039,
        "inet_down_cost": 0.0039,
        "dph_base": 0.2133,
        "dph_total": 0.2153,
        "storage_cost": 0.18,
        "reliability2": 0.9941378,
        "verification": "verified",
        "rentable": True,
        "rented": False,
        "is_bid": False,
        "external": False,
        "direct_port_count": 31,
        "geolocation": "California, US",
        "end_date": 1767139200.0,
    } | changes


def instance(**changes: Any) -> dict[str, Any]:
    return {
        "id": 31255041,
        "label": LABEL,
        "actual_status": "running",
        "intended_status": "running",
        "cur_state": "running",
        "next_state": "running",
        "status_msg": "success, running nvidia/cuda_12.4.1-devel-ubuntu22.04/ssh",
        "image_runtype": "ssh ssh_direc ssh_proxy",
        "ssh_host": "ssh5.vast.ai",
        "ssh_port": 35040,
        "public_ipaddr": "203.0.113.42 ",
        "ports": {
            "22/tcp": [
                {"HostIp": "0.0.0.0", "HostPort": "40112"},
                {"HostIp": "::", "HostPort": "40112"},
            ]
        },
        "machine_id": 44102,
        "num_gpus": 1,
        "gpu_name": "RTX 5090",
        "dph_total": 0.2288,
        "instance": {"gpuCostPerHour": 0.2133, "diskHour": 0.0155, "totalHour": 0.2288},
        "start_date": 1761008618.22,
        "jupyter_token": "a-secret-of-the-instance",
    } | changes


def page(rows: list[Any], total: int, token: str | None) -> dict[str, Any]:
    return {
        "success": True,
        "total_instances": total,
        "instances_found": len(rows),
        "label_counts": {},
        "next_token": token,
        "instances": rows,
    }
