"""Vast.ai's instances: one row, one read, and the pages of a listing put together. All pure."""

import json
import re
from decimal import Decimal

from . import clean
from .base import BadResponse, Instance, InstanceState, SSHEndpoint
from .http import Answer
from .vastai_answers import Json, checked, no_such_instance

LIST_PAGE = 25  # the server never returns more
MAX_LIST_PAGES = 400
HIGHEST_PRICE = 1000  # USD per hour
MICRO = Decimal("0.000001")


class Walk:
    """The pages of one listing. Raises BadResponse at the first thing that does not add up."""

    def __init__(self) -> None:
        self.pages = 0
        self.more = True
        self._found: dict[str, Instance] = {}
        self._tokens: set[str] = set()
        self._token = ""
        self._total = -1

    def params(self) -> dict[str, str]:
        order = json.dumps([{"col": "id", "dir": "asc"}])
        token = {"after_token": self._token} if self._token else {}
        return {"limit": str(LIST_PAGE), "order_by": order, **token}

    def add(self, body: Json) -> None:
        rows, total = body.get("instances"), clean.whole(body.get("total_instances"), 0, 10**6)
        if not isinstance(rows, list) or total is None or body.get("instances_found") != len(rows):
            raise BadResponse("a page of instances that does not add up")
        if self._total not in (-1, total):
            raise BadResponse("the number of instances changed between two pages")
        self._total, self.pages = total, self.pages + 1
        for row in rows:
            self._add(parse_instance(row))
        self._turn(body.get("next_token"))

    def _add(self, instance: Instance) -> None:
        if instance.instance_id in self._found:
            raise BadResponse(f"instance {instance.instance_id} is listed twice")
        self._found[instance.instance_id] = instance

    def _turn(self, token: object) -> None:
        self.more = token is not None
        if not self.more:
            return
        usable = isinstance(token, str) and token.isascii() and 0 < len(token) < 2000
        if not usable or token in self._tokens:
            raise BadResponse("the pages of instances do not end")
        if self.pages >= MAX_LIST_PAGES:
            raise BadResponse("too many pages of instances")
        self._token = token
        self._tokens.add(token)

    def instances(self) -> tuple[Instance, ...]:
        if len(self._found) != self._total:
            raise BadResponse(f"{len(self._found)} of {self._total} instances were listed")
        return tuple(self._found.values())


def parse_instance_read(answer: Answer, instance_id: str) -> Instance | None:
    """None only for the two ways in which Vast says that it knows no such instance."""
    if no_such_instance(answer):
        return None
    body = checked(answer)
    if "instances" not in body:
        raise BadResponse("an instance without its description")
    if body["instances"] is None:
        return None
    instance = parse_instance(body["instances"])
    if instance.instance_id != instance_id:
        raise BadResponse(f"asked for {instance_id}, got {instance.instance_id}")
    return instance


def parse_instance(row: object) -> Instance:
    """Raises BadResponse: an instance that we cannot read makes the whole listing useless."""
    if not isinstance(row, dict) or not clean.numeric_id(row.get("id")):
        raise BadResponse("an instance without an id")
    label, status = row.get("label") or "", row.get("actual_status")
    if not isinstance(label, str) or not isinstance(status, str | None):
        raise BadResponse("an instance with a label or status of the wrong type")
    state = parse_state(row)
    return Instance(
        provider="vastai",
        instance_id=clean.numeric_id(row["id"]),
        label=clean.faithful(label),
        state=state,
        raw_state=clean.clean(status, 40),
        status_message=clean.clean(row.get("status_msg"), 300),
        endpoints=tuple(_endpoints(row)),
        price_per_hour=_billed(row, state),
        gpu_name_raw=clean.clean(row.get("gpu_name"), 80),
        gpu_count=clean.whole(row.get("num_gpus"), 0, 64) or 0,
        machine_id=clean.numeric_id(row.get("machine_id")),
        created_at=clean.instant(row.get("start_date")),
    )


STATES = {
    None: InstanceState.PENDING,
    "created": InstanceState.PENDING,
    "loading": InstanceState.STARTING,
    "rebooting": InstanceState.STARTING,
    "restarting": InstanceState.STARTING,
    "recycling": InstanceState.STARTING,
    "running": InstanceState.RUNNING,
    "stopped": InstanceState.STOPPED,
    "frozen": InstanceState.STOPPED,
    "exited": InstanceState.FAILED,
}
HOPELESS = re.compile(
    r"OCI runtime create failed|manifest unknown|pull access denied|no space left", re.IGNORECASE
)


def parse_state(row: Json) -> InstanceState:
    """An unknown status is no failure: only what can never run is."""
    state = STATES.get(row.get("actual_status"), InstanceState.UNKNOWN)
    wishes = [row.get(key) for key in ("cur_state", "intended_status", "next_state")]
    if state != InstanceState.FAILED and wishes == ["stopped"] * 3:
        return InstanceState.STOPPED
    waiting = state in (InstanceState.PENDING, InstanceState.STARTING)
    if waiting and HOPELESS.search(clean.clean(row.get("status_msg"), 2000)):
        return InstanceState.FAILED
    return state


def _endpoints(row: Json) -> list[SSHEndpoint]:
    """The machine itself first, then Vast's proxy."""
    ports = row.get("ports")
    bound = ports.get("22/tcp") if isinstance(ports, dict) else None
    first = bound[0] if isinstance(bound, list) and bound else None
    outside = first.get("HostPort") if isinstance(first, dict) else None
    jupyter = "jupyter" in clean.clean(row.get("image_runtype"))
    proxy_port = clean.port(row.get("ssh_port"))
    routes = [
        (clean.host(row.get("public_ipaddr")), clean.port(outside)),
        (clean.host(row.get("ssh_host")), proxy_port and proxy_port + jupyter),
    ]
    return [SSHEndpoint(host=h, port=p, user="root") for h, p in routes if h and p]


def _billed(row: Json, state: InstanceState) -> Decimal | None:
    """USD per hour with disk. A stopped instance still pays for its disk."""
    agreed = clean.number(row.get("dph_total"), 0, HIGHEST_PRICE)
    costs = row.get("instance")
    now = clean.number(
        costs.get("totalHour") if isinstance(costs, dict) else None, 0, HIGHEST_PRICE
    )
    if state == InstanceState.STOPPED and now is not None:
        agreed = now
    elif state == InstanceState.RUNNING and agreed is not None:
        agreed = max(agreed, now or agreed)
    return None if agreed is None else agreed.quantize(MICRO)
