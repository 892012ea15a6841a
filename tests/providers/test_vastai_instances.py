"""Vast.ai's instances: states, addresses, labels, and listings that prove to be whole."""

import json
from decimal import Decimal
from typing import Any

import pytest

from providers.base import AuthRefused, BadResponse, InstanceState, ProviderError, RequestRefused
from providers.http import Answer
from providers.vastai_instances import Walk, parse_instance, parse_instance_read

from .vast_samples import LABEL, instance, page, reply

S = InstanceState


def parsed(**changes: Any) -> Any:
    return parse_instance(Answer(status=200, body=json.dumps(instance(**changes)).encode()).json)


def test_an_instance_says_how_to_reach_it_directly_first() -> None:
    found = parsed()
    assert [(e.host, e.port, e.user) for e in found.endpoints] == [
        ("203.0.113.42", 40112, "root"),
        ("ssh5.vast.ai", 35040, "root"),
    ]
    assert (found.instance_id, found.label, found.state) == ("31255041", LABEL, S.RUNNING)
    assert found.price_per_hour == Decimal("0.228800")
    assert "a-secret" not in repr(found)


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=x", "a;rm", "[::1]", "0x7f.1", "127.1", "2130706433", "a b", "", None]
)
def test_hosts_that_are_no_hosts_are_left_out(host: object) -> None:
    found = parsed(public_ipaddr=host, ssh_host=host)
    assert found.endpoints == ()


@pytest.mark.parametrize("port", [0, -1, 22.5, 65536, "22 -o", "٢٢", True, None])
def test_ports_that_are_no_ports_are_left_out(port: object) -> None:
    assert parsed(ssh_port=port, ports={"22/tcp": [{"HostPort": port}]}).endpoints == ()


@pytest.mark.parametrize("ports", [None, {}, [22], {"22/tcp": None}, {"22/tcp": [None]}])
def test_without_a_bound_port_the_proxy_remains(ports: object) -> None:
    assert [e.host for e in parsed(ports=ports).endpoints] == ["ssh5.vast.ai"]


def test_jupyter_moves_the_proxy_port() -> None:
    assert parsed(image_runtype="jupyter_direc").endpoints[1].port == 35041


STOPPED = {"cur_state": "stopped", "intended_status": "stopped", "next_state": "stopped"}


@pytest.mark.parametrize(
    "changes, state",
    [
        ({"actual_status": None}, S.PENDING),
        ({"actual_status": "created"}, S.PENDING),
        ({"actual_status": "loading"}, S.STARTING),
        ({"actual_status": "restarting"}, S.STARTING),
        ({"actual_status": "running"}, S.RUNNING),
        ({"actual_status": "running", "status_msg": "no space left"}, S.RUNNING),
        ({"actual_status": "stopped"}, S.STOPPED),
        ({"actual_status": "frozen"}, S.STOPPED),
        ({"actual_status": "exited"}, S.FAILED),
        ({"actual_status": "exited"} | STOPPED, S.FAILED),
        ({"actual_status": "running"} | STOPPED, S.STOPPED),
        ({"actual_status": None} | STOPPED, S.STOPPED),
        ({"actual_status": "offline"}, S.UNKNOWN),
        ({"actual_status": "destroyed"}, S.UNKNOWN),
        ({"actual_status": "a word of next year"}, S.UNKNOWN),
        ({"actual_status": "created", "status_msg": "x: OCI runtime create failed: y"}, S.FAILED),
        ({"actual_status": "loading", "status_msg": "manifest unknown"}, S.FAILED),
        ({"actual_status": "loading", "status_msg": "pulling"}, S.STARTING),
        ({"cur_state": ["stopped"], "next_state": {}}, S.RUNNING),
    ],
)
def test_states(changes: dict[str, Any], state: InstanceState) -> None:
    assert parsed(**changes).state == state


def test_a_stopped_instance_costs_its_disk_and_a_loading_one_what_was_agreed() -> None:
    costs = {"totalHour": 0.0155}
    assert parsed(actual_status="stopped", instance=costs).price_per_hour == Decimal("0.0155")
    assert parsed(actual_status="loading", instance=costs).price_per_hour == Decimal("0.2288")
    assert parsed(instance={"totalHour": 0.5}).price_per_hour == Decimal("0.5")
    assert parsed(dph_total="free", instance=None).price_per_hour is None


@pytest.mark.parametrize(
    "disguise",
    [
        LABEL + "\n",
        LABEL + "\u200b",
        " " + LABEL,
        "\ufeff" + LABEL,
        LABEL + "\ud800",
        LABEL + "\x00",
    ],
)
def test_a_disguised_label_never_becomes_ours(disguise: str) -> None:
    found = parsed(label=disguise).label
    assert found != LABEL
    assert found.encode() and "\x00" not in found  # storable


@pytest.mark.parametrize("label", [LABEL, "", LABEL.upper(), "my box", "<b>x</b>"])
def test_an_honest_label_stays_as_it_is(label: str) -> None:
    assert parsed(label=label).label == label
    assert parsed(label=None).label == ""


@pytest.mark.parametrize(
    "row",
    [None, [], "x", {}, instance(id=None), instance(id="../x"), instance(id=2**63)]
    + [instance(label=5), instance(label=["a"]), instance(actual_status=3)],
)
def test_a_row_that_cannot_be_read_is_refused(row: object) -> None:
    with pytest.raises(BadResponse):
        parse_instance(row)


def walk(*pages: object) -> Walk:
    """All pages, for as long as the walk wants more."""
    found = Walk()
    for body in pages:
        assert found.more
        found.add(json.loads(json.dumps(body)))
    return found


def many(start: int, count: int) -> list[Any]:
    return [instance(id=n, label=f"box {n}") for n in range(start, start + count)]


def test_pages_make_one_listing() -> None:
    found = walk(page(many(1, 25), 27, "a"), page(many(26, 2), 27, None))
    assert [i.instance_id for i in found.instances()] == [str(n) for n in range(1, 28)]
    assert walk(page([], 0, None)).instances() == ()


@pytest.mark.parametrize(
    "pages",
    [
        [page([], 3, None)],  # empty although there are three
        [page(many(1, 2), 3, None)],
        [page(many(1, 2), 1, None)],
        [page(many(1, 25), 27, "a"), page(many(26, 2), 28, None)],  # the total moved
        [page(many(1, 25), 27, "a"), page(many(25, 2), 27, None)],  # one twice
        [page(many(1, 25), 28, "a"), page(many(26, 2), 27, None)],
        [page(many(1, 25), 26, "a"), page(many(25, 2), 26, None)],
        [page(many(1, 25), 50, "a"), page(many(26, 25), 50, "a")],  # a loop
        [page(many(1, 25), 27, "")],
        [page(many(1, 25), 27, 7)],
        [page(many(1, 25), 27, "\ud800")],
        [page(many(1, 1), 1, None) | {"instances_found": 2}],
        [page(many(1, 1), 1, None) | {"total_instances": None}],
        [page(many(1, 1), 1, None) | {"instances": None}],
        [page([None], 1, None)],
        [{}],
    ],
)
def test_a_listing_that_does_not_add_up_is_no_listing(pages: list[Any]) -> None:
    with pytest.raises(BadResponse):
        walk(*pages).instances()


def test_only_two_answers_mean_that_there_is_no_such_instance() -> None:
    missing = {"success": False, "error": "no_such_instance", "msg": "Instance 1 not found."}
    assert parse_instance_read(reply(200, {"instances": None}), "1") is None
    assert parse_instance_read(reply(404, missing), "1") is None
    assert parse_instance_read(reply(200, {"instances": instance(id=1)}), "1") is not None


@pytest.mark.parametrize(
    "status, body, error",
    [
        (200, {}, BadResponse),
        (200, {"instances": []}, BadResponse),
        (200, {"instances": {}}, BadResponse),
        (200, {"instances": instance(id=2)}, BadResponse),
        (200, "null", BadResponse),
        (404, "", RequestRefused),
        (404, {"error": "auth_error"}, AuthRefused),
        (500, {"error": "no_such_instance"}, ProviderError),
        (200, {"success": False, "instances": None, "error": "x"}, RequestRefused),
    ],
)
def test_every_other_answer_proves_nothing(
    status: int, body: object, error: type[ProviderError]
) -> None:
    with pytest.raises(error):
        parse_instance_read(reply(status, body), "1")
