"""How TensorDock answers: errors, often with HTTP 200; creates and destroys. All pure."""

import re
from hashlib import sha256

from . import clean
from .base import (
    AuthRefused,
    BadResponse,
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    LaunchSpec,
    ProviderError,
    RateLimited,
    RequestRefused,
)
from .cloud_init import cloud_init
from .http import Answer
from .replies import Json, as_object, message, plain
from .tensordock_offers import GPU_NAME, MIN_DISK_GB, uuid

IMAGE = re.compile(r"(ubuntu|debian)[a-z0-9_]{1,60}", re.ASCII)
SSH = {"internal_port": 22, "external_port": 22}  # the outer port is theirs to choose
FUNDS = re.compile(r"insufficient (balance|funds|credit)|need at least \$|balance.{0,20}low", re.I)
CAPACITY = re.compile(
    r"no (available )?(nodes?|public ips?|gpus?)( (are )?available)?\b|no available "
    r"|hostnode unavailable|(insufficient|not enough) (capacity|resources?)"
    r"|(resource|gpu|region|site|location|datacenter)s? (is |are )?(currently )?"
    r"(unavailable|not available)"
    r"|out of stock|requested gpu|temporarily unavailable|under maintenance|high demand"
    r"|sold out|fully allocated",
    re.IGNORECASE,
)
WRONG = re.compile(r"must be|must have|\binvalid\b|\brequired\b|not supported", re.IGNORECASE)
ABSENT = re.compile(r"not ?found|does not exist|no such", re.IGNORECASE)


def account_id(token: str) -> str:
    """The API names no account, so the token stands for it: another token is another account."""
    return "token-" + sha256(f"gpubroker tensordock {token}".encode()).hexdigest()[:20]


# errors


def status(answer: Answer) -> int:
    """The HTTP status, or the worse one inside the body of a 2xx."""
    inside = clean.whole(as_object(answer).get("status"), 400, 599)
    return inside if inside and 200 <= answer.status < 300 else answer.status


def failed(answer: Answer) -> bool:
    body = as_object(answer)
    return status(answer) >= 300 or bool(body.get("error")) or bool(body.get("errors"))


def faults(answer: Answer) -> list[str]:
    """A validation error is an array; the places and words of its entries."""
    try:
        found = answer.json
    except BadResponse:
        return []
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return [_fault(row) for row in rows[:5] if clean.clean(row.get("message"))]


def _fault(row: Json) -> str:
    path = row.get("path")
    names = [clean.clean(part, 40) for part in path[-2:]] if isinstance(path, list) else []
    where = ".".join(name for name in names if name)
    return f"{where}: {clean.clean(row['message'])}".removeprefix(": ")


def explain(answer: Answer) -> str:
    return ("; ".join(faults(answer)) or message(answer))[:500]


def checked(answer: Answer) -> Json:
    """The object inside a good answer. Raises the error that names what else it is."""
    found, text = status(answer), explain(answer)
    if found == 429:
        raise RateLimited(text)
    if found in (401, 403):
        raise AuthRefused(text)
    if 400 <= found < 500 and found != 408:
        raise RequestRefused(text)
    if failed(answer):
        raise ProviderError(text)
    if found != 200 or not isinstance(answer.json, dict):
        raise BadResponse(f"HTTP {found} of an unexpected kind")
    return answer.json


def no_such_instance(answer: Answer) -> bool:
    """A 404 of the API itself; the page of a proxy or of another server proves nothing."""
    if status(answer) != 404:
        return False
    if answer.status != 404:
        return bool(ABSENT.search(message(answer)))
    return not answer.body.strip() or bool(as_object(answer)) or bool(plain(answer))


# create


def create_body(spec: LaunchSpec) -> dict[str, object]:
    """Raises RequestRefused for what could not become exactly the machine that was offered."""
    vcpus, ram, location = _placed(spec)
    attributes: dict[str, object] = {
        "name": spec.label,
        "type": "virtualmachine",
        "image": spec.image,
        "location_id": location,
        "resources": {
            "vcpu_count": vcpus,
            "ram_gb": ram,
            "storage_gb": spec.disk_gb,
            "gpus": {spec.gpu_name_raw: {"count": spec.gpu_count}},
        },
        "ssh_key": spec.ssh_public_keys[0],
        "cloud_init": cloud_init(spec.ssh_public_keys, spec.startup_script),
    }
    own = spec.details.get("dedicated_ip") is True
    attributes |= {"useDedicatedIp": True} if own else {"port_forwards": [SSH]}
    return {"data": {"type": "virtualmachine", "attributes": attributes}}


def _placed(spec: LaunchSpec) -> tuple[int, int, str]:
    vcpus = clean.whole(spec.details.get("vcpu_count"), 2, 10**4)
    ram = clean.whole(spec.details.get("ram_gb"), 2, 10**5)
    location = uuid(spec.details.get("location_id"))
    if not (vcpus and ram and location and GPU_NAME.fullmatch(spec.gpu_name_raw)):
        raise RequestRefused("Not an offer of TensorDock")
    if not IMAGE.fullmatch(spec.image):
        raise RequestRefused("TensorDock has images of its own, such as ubuntu2404_ml_pytorch")
    if spec.disk_gb < MIN_DISK_GB:
        raise RequestRefused(f"TensorDock needs at least {MIN_DISK_GB} GB of disk")
    if not spec.ssh_public_keys:
        raise RequestRefused("TensorDock needs an SSH key with the create call")
    return vcpus, ram, location


def parse_create(answer: Answer) -> CreateResult:
    """It succeeded only if an id is there; only what the contract names is a refusal."""
    body = as_object(answer)
    data = body.get("data")
    ids = [part.get("id") for part in (body, data) if isinstance(part, dict) and part.get("id")]
    instance_id = uuid(ids[0]) if len(set(map(repr, ids))) == 1 else ""
    outcome = _made(answer, instance_id) if ids else _refusal(answer)
    return CreateResult(
        outcome=outcome,
        instance_id=instance_id,
        message="" if outcome == CreateOutcome.CREATED else explain(answer),
        http_status=answer.status,
    )


def _made(answer: Answer, instance_id: str) -> CreateOutcome:
    if not instance_id or status(answer) >= 500:
        return CreateOutcome.UNKNOWN
    if failed(answer) and not 300 <= answer.status < 400:
        return CreateOutcome.LEFTOVER
    return CreateOutcome.CREATED if answer.status in (200, 201) else CreateOutcome.UNKNOWN


def _refusal(answer: Answer) -> CreateOutcome:
    """A deployment that began and broke ("unexpected error") may have left a machine: UNKNOWN."""
    found, text = status(answer), explain(answer)
    if found == 429:
        return CreateOutcome.RATE
    if not failed(answer) or found == 408 or not (found == 200 or 400 <= found < 500):
        return CreateOutcome.UNKNOWN
    if found in (401, 403):
        return CreateOutcome.AUTH
    if found == 402 or FUNDS.search(text):
        return CreateOutcome.NO_FUNDS
    if faults(answer):
        return CreateOutcome.INVALID
    if CAPACITY.search(text):
        return CreateOutcome.OFFER_GONE
    return CreateOutcome.INVALID if WRONG.search(text) else CreateOutcome.UNKNOWN


# destroy


def parse_destroy(answer: Answer) -> DestroyResult:
    outcome = DestroyOutcome.RETRY
    readable = not answer.body.strip() or bool(as_object(answer))
    if answer.status in (200, 202, 204) and readable and not failed(answer):
        outcome = DestroyOutcome.ACCEPTED
    elif no_such_instance(answer):
        outcome = DestroyOutcome.NOT_FOUND
    text = "" if outcome == DestroyOutcome.ACCEPTED else explain(answer)
    return DestroyResult(outcome=outcome, message=text, http_status=answer.status)
