"""TensorDock's instances: three shapes of a listing, two of a read. All pure."""

import re
from datetime import UTC, datetime
from decimal import Decimal

from . import clean
from .base import BadResponse, Instance, InstanceState, SSHEndpoint
from .http import Answer
from .replies import Json
from .tensordock_answers import checked, no_such_instance
from .tensordock_offers import uuid

USERS = ("user", "root")  # `user` is the image's own; our cloud-init gives both the keys
HIGHEST_PRICE = 1000  # USD per hour
MICRO = Decimal("0.000001")
S = InstanceState
STATES = {
    "queued": S.PENDING,
    "creating": S.PENDING,
    "provisioning": S.PENDING,
    "pending": S.PENDING,
    "starting": S.STARTING,
    "running": S.RUNNING,
    "stopped": S.STOPPED,
    "stoppeddisassociated": S.STOPPED,
    "outbid": S.STOPPED,
    "relocating": S.STOPPED,
    "deleting": S.STOPPED,
    "deleted": S.STOPPED,
    "terminated": S.STOPPED,
    "error": S.FAILED,
    "failed": S.FAILED,
}


def parse_listing(body: Json) -> tuple[Instance, ...]:
    """Every row, or BadResponse: an instance that we cannot read makes the whole useless."""
    found: dict[str, Instance] = {}
    for row in _rows(body):
        instance = parse_instance(row, whole=False)
        if instance.instance_id in found:
            raise BadResponse(f"instance {instance.instance_id} is listed twice")
        found[instance.instance_id] = instance
    return tuple(found.values())


def _rows(body: Json) -> list[object]:
    """`data` itself, data.instances or data.attributes.instances: exactly one of them."""
    data = body.get("data")
    parts = [data, data.get("attributes")] if isinstance(data, dict) else []
    named = [p["instances"] for p in parts if isinstance(p, dict) and "instances" in p]
    lists = [data] if isinstance(data, list) else named
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise BadResponse("no list of instances")
    return lists[0]


def parse_read(answer: Answer, instance_id: str, *, shared: bool = False) -> Instance | None:
    """None only for a 404 of the API itself and for an instance that it calls deleted.

    `shared`: others have the same address, so there is no port before it is told.
    """
    if no_such_instance(answer):
        return None
    body = checked(answer)
    data = body.get("data", body)
    instance = parse_instance(data, whole=not shared)
    if instance.instance_id.lower() != instance_id.lower():
        raise BadResponse(f"asked for {instance_id}, got {instance.instance_id}")
    return None if _normal(instance.raw_state) == "deleted" else instance


def parse_instance(found: object, *, whole: bool) -> Instance:
    """`whole`: it says all about the ports; rows of a listing may not, nor an early read."""
    row = _flat(found)
    name, status = row.get("name") or "", row.get("status")
    if not isinstance(name, str) or not isinstance(status, str | None):
        raise BadResponse("an instance with a name or status of the wrong type")
    gpu, count = _gpu(row)
    return Instance(
        provider="tensordock",
        instance_id=uuid(row["id"]),
        label=clean.faithful(name),
        state=parse_state(status),
        raw_state=clean.clean(status, 40),
        endpoints=_endpoints(row, whole),
        price_per_hour=_billed(row),
        gpu_name_raw=gpu,
        gpu_count=count,
        created_at=_instant(row.get("created_at")),
    )


def _flat(found: object) -> Json:
    """The row with its attributes beside its id."""
    if not isinstance(found, dict) or not uuid(found.get("id")):
        raise BadResponse("an instance without an id")
    attributes = found.get("attributes", {})
    if not isinstance(attributes, dict):
        raise BadResponse("an instance with attributes of the wrong type")
    both = found.keys() & attributes.keys() & {"id", "name"}
    if any(found[key] != attributes[key] for key in both):
        raise BadResponse("an instance that contradicts itself")
    return {**attributes, **found}


def _normal(status: str) -> str:
    return re.sub(r"[-_ ]", "", status.lower())


def parse_state(status: str | None) -> InstanceState:
    """An unknown status is no failure, and every one of them is a machine that exists."""
    return STATES.get(_normal(status or ""), S.UNKNOWN)


def _endpoints(row: Json, whole: bool) -> tuple[SSHEndpoint, ...]:
    """Both accounts at the machine's SSH port, none while that port is not certain."""
    host, port = clean.host(row.get("ipAddress")), _port(row.get("portForwards"))
    settled = whole and parse_state(row.get("status")) == S.RUNNING
    if port is None and settled:
        port = 22  # an address of its own; on a shared one this port would be another's
    return tuple(SSHEndpoint(host=host, port=port, user=user) for user in USERS if host and port)


def _port(forwards: object) -> int | None:
    """The outer port of 22; 0 when there are only other forwards, None when there are none."""
    if not forwards:
        return None
    return next((clean.port(f.get("external_port")) for f in _forwards(forwards) if _is_ssh(f)), 0)


def _forwards(found: object) -> list[Json]:
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _is_ssh(forward: Json) -> bool:
    return clean.port(forward.get("internal_port")) == 22


def _billed(row: Json) -> Decimal | None:
    """USD per hour for all of it; a stopped machine pays as before."""
    for key in ("rateHourly", "price_per_hour"):
        price = clean.number(row.get(key), 0, HIGHEST_PRICE)
        if price is not None:
            return price.quantize(MICRO)
    return None


def _gpu(row: Json) -> tuple[str, int]:
    resources = row.get("resources")
    models = resources.get("gpus") if isinstance(resources, dict) else None
    if isinstance(models, dict) and len(models) == 1:
        name, model = next(iter(models.items()))
        count = model.get("count") if isinstance(model, dict) else None
    else:
        name, count = row.get("gpu_model"), row.get("gpu_count")
    return clean.clean(name, 80), clean.whole(count, 0, 64) or 0


def _instant(value: object) -> datetime | None:
    """An ISO time with its zone to UTC; None outside 2000..2100."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    known = found.tzinfo is not None and 2000 <= found.year < 2100
    return found.astimezone(UTC) if known else None
