"""A client of the TensorDock dialect for tests; knows nothing of the project's adapter."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import requests

from .conftest import OWNER, Json, Simulator, wait_for

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a@b"
INSTALL = [
    "mkdir -p /root/.ssh /home/user/.ssh",
    f"echo '{KEY}' | tee -a /root/.ssh/authorized_keys >> /home/user/.ssh/authorized_keys",
]
TURN = count()


@dataclass
class Dock:
    simulator: Simulator

    def call(
        self, method: str, path: str, body: object = None, *, token: str = OWNER
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.simulator.tensordock}/api/v2{path}"
        return requests.request(method, url, json=body, headers=headers, timeout=60)

    def places(self) -> list[Json]:
        return self.call("GET", "/locations").json()["data"]["locations"]

    def nodes(self) -> list[Json]:
        return self.call("GET", "/hostnodes").json()["data"]["hostnodes"]

    def free_node(self, *, public_ip: bool = True) -> Json:
        """Another one each time: what is told of them is a little old."""
        nodes = [node for node in self.nodes() if fits(node, public_ip)]
        return nodes[next(TURN) % len(nodes)]

    def create(self, **changes: object) -> requests.Response:
        return self.call("POST", "/instances", self.body(**changes))

    def body(self, **changes: object) -> Json:
        """On a free node with an address of its own; a value of None leaves the field out."""
        resources = {"vcpu_count": 4, "ram_gb": 16, "storage_gb": 100}
        attributes = {
            "name": self.simulator.label(), "type": "virtualmachine", "image": "ubuntu2404",
            "resources": resources, "useDedicatedIp": True, "ssh_key": KEY,
        }  # fmt: skip
        if not {"location_id", "hostnode_id"} & changes.keys():
            node = self.free_node(public_ip=bool(changes.get("useDedicatedIp", True)))
            attributes["hostnode_id"] = node["id"]
            gpu = node["available_resources"]["gpus"][0]["v0Name"]
            attributes["resources"] = {**resources, "gpus": {gpu: {"count": 1}}}
        attributes["resources"] |= changes.pop("resources", {})
        merged = {k: v for k, v in (attributes | changes).items() if v is not None}
        return {"data": {"type": "virtualmachine", "attributes": merged}}

    def rent(self, **changes: object) -> str:
        answer = self.create(**changes)
        number = id_in(answer.json())
        assert number, answer.text
        return number

    def read(self, number: str) -> Json:
        found = self.call("GET", f"/instances/{number}").json()
        return found.get("data", found)

    def status(self, number: str) -> str:
        return self.read(number)["status"].lower().replace("_", "")

    def reaches(self, number: str, status: str) -> Json:
        return wait_for(lambda: self.status(number) == status and self.read(number), status)

    def truth(self, number: str) -> Json:
        found = self.simulator.ask("/instances")["instances"]
        return next(item for item in found if item["instance_id"] == number)

    def fault(self, operation: str, fault: str, **body: object) -> None:
        self.simulator.fault(operation, fault, provider="tensordock", **body)

    def turn(self, **switches: object) -> Json:
        return self.simulator.tell("/market", **switches)

    def listing(self) -> list[Json]:
        """The rows, whatever their shape, with the attributes beside the id."""
        data = self.call("GET", "/instances").json()["data"]
        if isinstance(data, dict):
            data = data.get("instances") or data.get("attributes", {}).get("instances") or []
        return [row.get("attributes", {}) | row for row in data]


def fits(node: Json, public_ip: bool) -> bool:
    resources = node["available_resources"]
    free = resources["gpus"][0]["availableCount"]
    return free > 0 and resources["has_public_ip_available"] == public_ip


def id_in(body: Json) -> str:
    data = body.get("data")
    return body.get("id") or (data.get("id", "") if isinstance(data, dict) else "")


def refusals(answer: requests.Response) -> Iterator[str]:
    body = answer.json()
    for row in body if isinstance(body, list) else [body]:
        yield row.get("message") or row.get("error")


def bill(dock: Dock, number: str) -> Json:
    return dock.simulator.bill(number)
