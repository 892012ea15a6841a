"""How TensorDock answers creates, destroys and bad tokens: the contract's tables, row by row."""

import json
from typing import Any

import pytest

from providers.base import (
    AuthRefused,
    BadResponse,
    CreateOutcome,
    DestroyOutcome,
    ProviderError,
    RateLimited,
    RequestRefused,
)
from providers.tensordock_answers import (
    account_id,
    checked,
    create_body,
    parse_create,
    parse_destroy,
)

from .dock_samples import GPU, ID, KEY, LABEL, OTHER_ID, PLACE, spec
from .vast_samples import reply

C = CreateOutcome
VALIDATION = [
    {
        "code": "too_small",
        "message": "Number must be greater than or equal to 100",
        "path": ["data", "attributes", "resources", "storage_gb"],
    }
]
WRAPPED = {"data": {"type": "virtualmachine", "id": ID, "name": LABEL, "status": "running"}}
NESTED = {"data": {"id": ID, "attributes": {"name": LABEL, "status": "creating"}}}
BARE = {"id": ID, "name": LABEL, "status": "queued"}
DEPLOYMENT = "Unexpected error during deployment"


def no(error: str, status: int | None = 400) -> dict[str, Any]:
    return {"error": error} | ({} if status is None else {"status": status})


@pytest.mark.parametrize(
    "status, body, outcome",
    [
        (200, WRAPPED, C.CREATED),
        (201, WRAPPED, C.CREATED),
        (200, NESTED, C.CREATED),
        (200, BARE, C.CREATED),
        (200, WRAPPED | no("No available nodes found"), C.LEFTOVER),
        (201, WRAPPED | no("out of luck", None), C.LEFTOVER),
        (400, WRAPPED | {"message": "bad"}, C.LEFTOVER),
        (200, no("No available nodes found"), C.OFFER_GONE),
        (200, no("No available nodes found", None), C.OFFER_GONE),
        (400, no("No available nodes found"), C.OFFER_GONE),
        (409, {"message": "no available nodes found"}, C.OFFER_GONE),
        (200, no("Hostnode unavailable"), C.OFFER_GONE),
        (200, no("No available public IPs on hostnode"), C.OFFER_GONE),
        *(
            (status, no(phrase), C.OFFER_GONE)
            for status in (200, 400)
            for phrase in (
                "Insufficient capacity",
                "Not enough capacity",
                "Resource unavailable",
                "Out of stock",
                "No nodes available",
                "GPU unavailable",
                "GPU not available",
                "No GPUs available",
                "Requested GPU cannot be had",
                "Temporarily unavailable",
                "Under maintenance",
                "Region unavailable",
                "Location is currently unavailable",
                "High demand",
                "Sold out",
                "Fully allocated",
            )
        ),
        (200, no("Insufficient balance: need at least $1.00"), C.NO_FUNDS),
        (400, no("You need at least $5 to deploy this"), C.NO_FUNDS),
        (402, "", C.NO_FUNDS),
        (401, "Unauthorized", C.AUTH),
        (401, {"error": "Unauthorized"}, C.AUTH),
        (200, no("Unauthorized", 401), C.AUTH),
        (403, {"error": "Forbidden"}, C.AUTH),
        (429, "", C.RATE),
        (200, no("Too many requests", 429), C.RATE),
        (400, VALIDATION, C.INVALID),
        (200, no("SSH port (22) must be forwarded for Ubuntu VMs"), C.INVALID),
        (400, {"error": "Invalid image"}, C.INVALID),
        # what nobody documented may have made a machine
        (200, no(DEPLOYMENT), C.UNKNOWN),
        (200, no("No available nodes found", 500), C.UNKNOWN),
        (400, {"error": "something else"}, C.UNKNOWN),
        (200, VALIDATION, C.UNKNOWN),
        (200, "", C.UNKNOWN),
        (200, "<html>", C.UNKNOWN),
        (200, [], C.UNKNOWN),
        (200, {}, C.UNKNOWN),
        (200, {"data": {"id": 5}}, C.UNKNOWN),
        (200, {"data": {"id": "../x"}}, C.UNKNOWN),
        (200, WRAPPED | {"id": OTHER_ID}, C.UNKNOWN),
        (302, WRAPPED, C.UNKNOWN),
        (408, no("timeout"), C.UNKNOWN),
        (500, WRAPPED, C.UNKNOWN),
        (502, "<html>Bad gateway</html>", C.UNKNOWN),
        (503, no("No available nodes found"), C.UNKNOWN),
    ],
)
def test_create_outcomes(status: int, body: object, outcome: CreateOutcome) -> None:
    found = parse_create(reply(status, body))
    assert (found.outcome, found.http_status) == (outcome, status)
    assert bool(found.message) == (outcome != C.CREATED)
    if outcome in (C.CREATED, C.LEFTOVER):
        assert found.instance_id == ID


def test_refusals_keep_the_providers_words() -> None:
    assert parse_create(reply(200, no("No available public IPs"))).message == (
        "No available public IPs"
    )
    assert parse_create(reply(400, VALIDATION)).message == (
        "resources.storage_gb: Number must be greater than or equal to 100"
    )
    hostile = parse_create(reply(200, no("a\u202e\x00b" + "x" * 5000)))
    assert hostile.message.startswith("abx") and len(hostile.message) <= 500


def test_a_create_asks_for_the_offer_and_nothing_else() -> None:
    body = create_body(spec(startup_script="echo hi"))
    attributes = body["data"]["attributes"]
    assert (attributes["name"], attributes["location_id"]) == (LABEL, PLACE)
    assert attributes["resources"] == {
        "vcpu_count": 4,
        "ram_gb": 32,
        "storage_gb": 100,
        "gpus": {GPU: {"count": 1}},
    }
    assert attributes["useDedicatedIp"] is True and "port_forwards" not in attributes
    assert attributes["ssh_key"] == KEY and KEY in json.dumps(attributes["cloud_init"])
    assert "hostnode_id" not in attributes and "write_files" not in json.dumps(body)


def test_a_shared_address_gets_port_22_forwarded() -> None:
    details = dict(spec().details) | {"dedicated_ip": False}
    attributes = create_body(spec(details=details))["data"]["attributes"]
    assert [forward["internal_port"] for forward in attributes["port_forwards"]] == [22]
    assert "useDedicatedIp" not in attributes


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "nvidia/cuda:12.4.1-base"},
        {"image": "windows10"},
        {"disk_gb": 99},
        {"ssh_public_keys": ()},
        {"gpu_name_raw": "../x"},
        {"details": {}},
        {"details": {"location_id": "x", "vcpu_count": 4, "ram_gb": 32}},
        {"details": {"location_id": PLACE, "vcpu_count": "4", "ram_gb": 32}},
    ],
)
def test_what_was_never_offered_is_not_asked_for(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused):
        create_body(spec(**changes))


@pytest.mark.parametrize(
    "status, body, error",
    [
        (401, "Unauthorized", AuthRefused),
        (403, {"error": "Forbidden"}, AuthRefused),
        (200, no("Unauthorized", 401), AuthRefused),
        (429, "", RateLimited),
        (404, {"error": "Not found"}, RequestRefused),
        (200, no("bad", 400), RequestRefused),
        (200, no("hm", None), ProviderError),
        (200, no("oops", 500), ProviderError),
        (502, "<html>", ProviderError),
        (302, "", ProviderError),
        (408, "", ProviderError),
        (200, "<html>", BadResponse),
        (200, "", BadResponse),
        (200, [], BadResponse),
        (201, {}, BadResponse),
    ],
)
def test_reads_name_their_error(status: int, body: object, error: type[ProviderError]) -> None:
    with pytest.raises(error) as caught:
        checked(reply(status, body))
    assert type(caught.value) is error


DONE = {"data": {"type": "success", "attributes": {"message": "Instance deleted successfully"}}}
D = DestroyOutcome


@pytest.mark.parametrize(
    "status, body, outcome",
    [
        (200, DONE, D.ACCEPTED),
        (200, {"data": {"message": "Instance deleted successfully"}}, D.ACCEPTED),
        (200, {"message": "Instance deleted successfully"}, D.ACCEPTED),
        (200, "", D.ACCEPTED),
        (204, "", D.ACCEPTED),
        (404, {"error": "Instance not found"}, D.NOT_FOUND),
        (404, "", D.NOT_FOUND),
        (200, no("Instance not found", 404), D.NOT_FOUND),
        (404, "<html>nginx</html>", D.RETRY),
        (200, no("something", 404), D.RETRY),
        (200, no("busy"), D.RETRY),
        (200, no("busy", None), D.RETRY),
        (200, "<html>", D.RETRY),
        (200, [], D.RETRY),
        (401, "Unauthorized", D.RETRY),
        (429, "", D.RETRY),
        (502, "<html>", D.RETRY),
        (302, "", D.RETRY),
    ],
)
def test_destroy_outcomes(status: int, body: object, outcome: DestroyOutcome) -> None:
    assert parse_destroy(reply(status, body)).outcome == outcome


def test_the_account_is_known_by_its_token_without_showing_it() -> None:
    found = account_id("a-secret-token")
    assert found == account_id("a-secret-token") != account_id("another-token")
    assert "secret" not in found and len(found) <= 64
