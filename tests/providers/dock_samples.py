"""Replies of TensorDock as its clients recorded them, for tests to bend."""

from datetime import UTC, datetime
from typing import Any

from providers.base import LaunchSpec

PLACE = "8dd95ff0-dff9-489c-9b02-b38a366b6ab1"
ID = "468b716a-6747-4cbe-9f13-afc153a21c14"
OTHER_ID = "0fb9b44c-7c5d-4b0d-8f0b-59f262d0718b"
LABEL = "gb1-k3x9w2p7qa-m4n8r2t6v0z1c5d9-1-5f0c91ab"
GPU = "geforcertx4090-pcie-24gb"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1w5kM0Qe4T0R8l6pRr2y1n0mC9Xl0Yx3u1zN0b8s7d"


def gpu(**changes: Any) -> dict[str, Any]:
    return {
        "v0Name": GPU,
        "displayName": "NVIDIA GeForce RTX 4090 PCIe 24GB",
        "max_count": 1,
        "price_per_hr": 0.3966,
        "resources": {"max_vcpus": 56, "max_ram_gb": 331, "max_storage_gb": 30200},
        "pricing": {"per_vcpu_hr": 0.003, "per_gb_ram_hr": 0.002, "per_gb_storage_hr": 0.00005},
        "network_features": {
            "dedicated_ip_available": True,
            "port_forwarding_available": True,
            "network_storage_available": False,
        },
    } | changes


def place(*gpus: object, **changes: Any) -> dict[str, Any]:
    return {
        "id": PLACE,
        "city": "Chubbuck",
        "stateprovince": "Idaho",
        "country": "United States",
        "tier": 1,
        "gpus": list(gpus),
    } | changes


def locations(*places: object) -> dict[str, Any]:
    return {"data": {"locations": list(places)}}


def row(**changes: Any) -> dict[str, Any]:
    """A row of the listing that real accounts got."""
    return {
        "id": ID,
        "name": LABEL,
        "status": "running",
        "ipAddress": "174.94.145.71",
        "gpu_model": GPU,
        "gpu_count": 1,
        "price_per_hour": 0.439,
        "created_at": "2026-02-05T21:08:00Z",
    } | changes


def nested(**changes: Any) -> dict[str, Any]:
    """A row as the documentation shows it."""
    found = row(**changes)
    return {"type": "virtualmachine", "id": found.pop("id"), "attributes": found}


def read(**changes: Any) -> dict[str, Any]:
    return {
        "type": "virtualmachine",
        "id": ID,
        "name": LABEL,
        "status": "running",
        "ipAddress": "174.94.145.71",
        "portForwards": [{"internal_port": 22, "external_port": 20456}],
        "resources": {"vcpu_count": 4, "ram_gb": 32, "gpus": {GPU: {"count": 1, "v0Name": GPU}}},
        "rateHourly": 0.272999,
    } | changes


def spec(**changes: Any) -> LaunchSpec:
    found: dict[str, Any] = {
        "label": LABEL,
        "offer_id": f"{PLACE}:{GPU}:1:own",
        "gpu_name_raw": GPU,
        "gpu_count": 1,
        "image": "ubuntu2404_ml_pytorch",
        "disk_gb": 100,
        "ssh_public_keys": (KEY,),
        "expires_at": datetime(2026, 3, 1, tzinfo=UTC),
        "details": {"location_id": PLACE, "vcpu_count": 4, "ram_gb": 32, "dedicated_ip": True},
    }
    return LaunchSpec(**found | changes)
