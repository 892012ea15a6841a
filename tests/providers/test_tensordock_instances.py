"""TensorDock's instances: three listings, two reads, and what they say of each machine."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from providers.base import BadResponse, Instance, InstanceState, ProviderError, SSHEndpoint
from providers.tensordock_instances import parse_listing, parse_read, parse_state

from .dock_samples import GPU, ID, LABEL, OTHER_ID, nested, read, row
from .vast_samples import reply

S = InstanceState


def listed(body: object) -> tuple[Instance, ...]:
    return parse_listing(reply(200, json.dumps(body)).json)


def shapes(*rows: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    flat = [row(id=key, **changes) for key, changes in rows]
    deep = [nested(id=key, **changes) for key, changes in rows]
    inner = {"type": "list", "id": "instances", "attributes": {"instances": deep}}
    return [{"data": flat}, {"data": {"instances": deep}}, {"data": inner}]


@pytest.mark.parametrize("shape", range(3))
def test_every_shape_of_a_listing_says_the_same(shape: int) -> None:
    first, second = listed(shapes((ID, {}), (OTHER_ID, {"name": None}))[shape])
    assert (first.instance_id, first.label, first.state) == (ID, LABEL, S.RUNNING)
    assert (first.gpu_name_raw, first.gpu_count) == (GPU, 1)
    assert first.price_per_hour == Decimal("0.439")
    assert first.created_at == datetime(2026, 2, 5, 21, 8, tzinfo=UTC)
    assert first.endpoints == ()  # the rows do not tell the port
    assert (second.instance_id, second.label) == (OTHER_ID, "")


@pytest.mark.parametrize("shape", range(3))
def test_an_empty_account_is_a_complete_listing(shape: int) -> None:
    assert listed(shapes()[shape]) == ()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": {}},
        {"data": {"attributes": {}}},
        {"data": {"instances": {}}},
        {"data": {"instances": None}},
        {"data": {"instances": [], "attributes": {"instances": []}}},
        {"instances": []},
        {"data": [row(), row()]},
        {"data": [row(), None]},
        {"data": [row(id=5)]},
        {"data": [row(id="../x")]},
        {"data": [row(id=None)]},
        {"data": [row(name=5)]},
        {"data": [row(status=5)]},
        {"data": [row(attributes=5)]},
        {"data": [row(attributes={"name": "another"})]},
    ],
)
def test_a_listing_that_cannot_be_believed_is_none_at_all(body: dict[str, Any]) -> None:
    with pytest.raises(BadResponse):
        listed(body)


@pytest.mark.parametrize("body", [read(), {"data": read()}, {"data": nested(**read())}])
def test_every_shape_of_a_read_says_the_same(body: dict[str, Any]) -> None:
    found = parse_read(reply(200, body), ID)
    assert (found.instance_id, found.label, found.state) == (ID, LABEL, S.RUNNING)
    assert (found.gpu_name_raw, found.gpu_count) == (GPU, 1)
    assert found.price_per_hour == Decimal("0.272999")
    ways = [SSHEndpoint(host="174.94.145.71", port=20456, user=u) for u in ("user", "root")]
    assert list(found.endpoints) == ways


@pytest.mark.parametrize(
    "changes, port",
    [
        ({"portForwards": []}, 22),
        ({"portForwards": None}, 22),
        ({"portForwards": [], "status": "creating"}, None),  # the forward may still come
        ({"portForwards": [{"internal_port": 8080, "external_port": 20001}]}, None),
        ({"portForwards": [{"internal_port": 22, "external_port": 0}]}, None),
        ({"portForwards": [5, {"internal_port": "22", "external_port": "20007"}]}, 20007),
        ({"portForwards": {"22": 20456}}, None),
        ({"ipAddress": ""}, None),
        ({"ipAddress": None}, None),
        ({"ipAddress": "-oProxyCommand=x"}, None),
        ({"ipAddress": "0x7f.1"}, None),
    ],
)
def test_the_port_is_what_the_provider_says(changes: dict[str, Any], port: int | None) -> None:
    found = parse_read(reply(200, read(**changes)), ID)
    assert {way.port for way in found.endpoints} == ({port} if port else set())


def test_on_a_shared_address_port_22_is_somebody_elses() -> None:
    """The address comes first, the forwarded port seconds later."""
    early = parse_read(reply(200, read(portForwards=[])), ID, shared=True)
    assert early.endpoints == ()
    later = parse_read(reply(200, read()), ID, shared=True)
    assert {way.port for way in later.endpoints} == {20456}


@pytest.mark.parametrize(
    "answer",
    [
        reply(404, {"error": "Instance not found"}),
        reply(404, ""),
        reply(404, "Not found"),
        reply(200, {"status": 404, "error": "Instance not found"}),
        reply(200, read(status="Deleted")),
    ],
)
def test_gone_is_only_what_the_provider_calls_so(answer: Any) -> None:
    assert parse_read(answer, ID) is None


@pytest.mark.parametrize(
    "answer",
    [
        reply(404, "<html>nginx</html>"),
        reply(200, {"status": 404, "error": "odd"}),
        reply(200, {}),
        reply(200, {"data": None}),
        reply(200, ""),
        reply(401, "Unauthorized"),
        reply(500, ""),
        reply(200, read(id=OTHER_ID)),
    ],
)
def test_everything_else_proves_nothing(answer: Any) -> None:
    with pytest.raises(ProviderError):
        parse_read(answer, ID)


@pytest.mark.parametrize(
    "status, state",
    [
        ("queued", S.PENDING),
        ("Creating", S.PENDING),
        ("starting", S.STARTING),
        ("RUNNING", S.RUNNING),
        ("stopping", S.UNKNOWN),
        ("Stopped", S.STOPPED),
        ("StoppedDisassociated", S.STOPPED),
        ("stopped_disassociated", S.STOPPED),
        ("stopped-disassociated", S.STOPPED),
        ("terminated", S.STOPPED),
        ("error", S.FAILED),
        ("dancing", S.UNKNOWN),
        (None, S.UNKNOWN),
    ],
)
def test_states(status: str | None, state: InstanceState) -> None:
    assert parse_state(status) == state


@pytest.mark.parametrize("rate", [float("nan"), "0.3", -1, None, True, 1e308])
def test_an_unusable_price_is_no_price(rate: object) -> None:
    body = json.dumps(read(rateHourly=rate))
    assert parse_read(reply(200, body), ID).price_per_hour is None


def test_a_disguised_label_never_equals_a_real_one() -> None:
    (found,) = listed({"data": [row(name=LABEL + "\u200b")]})
    assert found.label != LABEL


@pytest.mark.parametrize("when", ["2026-02-05T21:08:00", "never", 5, "9999-12-31T23:59:59-10:00"])
def test_an_unusable_time_is_no_time(when: object) -> None:
    assert listed({"data": [row(created_at=when)]})[0].created_at is None
