"""TensorDock's calls on the wire: what is sent, how often, and what broken answers mean."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from providers import registry
from providers.base import AuthRefused, CreateOutcome, DestroyOutcome, ProviderError
from providers.tensordock import TensorDock

from .dock_samples import ID, LABEL, gpu, locations, place, read, row, spec
from .wire_double import WireDouble, answer, serve

TOKEN = "token-0123456789abcdef"
END = b"\r\n\r\n"  # of a head
Adapter = Callable[..., tuple[TensorDock, WireDouble]]


@pytest.fixture
def adapter(settings: object, request: pytest.FixtureRequest) -> Iterator[Adapter]:
    """An adapter whose server gives these answers one after the other; None hangs up."""
    settings.TIME_SCALE = 1000
    servers = []

    def start(*answers: bytes | None) -> tuple[TensorDock, WireDouble]:
        waiting = list(answers)

        def script(connection: socket.socket) -> None:
            if (reply := waiting.pop(0)) is not None:
                connection.sendall(reply.replace(END, b"\r\nConnection: close" + END, 1))

        server = serve(script)
        servers.append(server)
        double = server.__enter__()
        return TensorDock(api_key=TOKEN, base_url=double.url), double

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def ok(body: object) -> bytes:
    return answer(json.dumps(body).encode())


REFUSED = answer(b"Unauthorized", "401 Unauthorized")


def lines(double: WireDouble) -> list[str]:
    return [request.split(b" HTTP", 1)[0].decode() for request in double.requests]


def test_the_token_travels_in_the_header_alone(adapter: Adapter) -> None:
    dock, double = adapter(ok(locations(place(gpu()))))
    assert len(dock.search_offers().offers) == 2
    assert lines(double) == ["GET /api/v2/locations"]
    assert f"Authorization: Bearer {TOKEN}".encode() in double.requests[0]


def test_a_create_is_one_request_with_the_label_inside(adapter: Adapter) -> None:
    dock, double = adapter(ok({"data": {"id": ID, "status": "running"}}))
    result = dock.create(spec())
    assert (result.outcome, result.instance_id) == (CreateOutcome.CREATED, ID)
    assert lines(double) == ["POST /api/v2/instances"]
    sent = json.loads(double.requests[0].partition(b"\r\n\r\n")[2])
    assert sent["data"]["attributes"]["name"] == LABEL


@pytest.mark.parametrize(
    "reply, outcome",
    [
        (None, CreateOutcome.UNKNOWN),
        (ok({"status": 400, "error": "No available public IPs"}), CreateOutcome.OFFER_GONE),
        (REFUSED, CreateOutcome.AUTH),
    ],
)
def test_no_create_is_sent_again(
    adapter: Adapter, reply: bytes | None, outcome: CreateOutcome
) -> None:
    dock, double = adapter(reply)
    assert dock.create(spec()).outcome == outcome
    assert len(double.requests) == 1


def test_what_never_left_is_told_apart(adapter: Adapter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    dock = TensorDock(api_key=TOKEN, base_url=f"http://127.0.0.1:{port}")
    assert dock.create(spec()).outcome == CreateOutcome.NOT_SENT
    dock, double = adapter()
    assert dock.create(spec(image="windows10")).outcome == CreateOutcome.INVALID
    assert not double.requests


def test_one_refusal_of_a_good_token_is_not_believed(adapter: Adapter) -> None:
    dock, double = adapter(REFUSED, ok({"data": [row()]}))
    assert [i.instance_id for i in dock.list_instances().instances] == [ID]
    assert len(double.requests) == 2


def test_two_refusals_are(adapter: Adapter) -> None:
    dock, double = adapter(REFUSED, REFUSED)
    with pytest.raises(AuthRefused):
        dock.account()
    assert len(double.requests) == 2


def test_account_and_listing_name_the_same_account(adapter: Adapter) -> None:
    dock, _ = adapter(ok({"data": []}), ok({"data": []}))
    account = dock.account()
    assert account.account_id == dock.list_instances().account_id and account.balance is None
    assert TOKEN not in repr(account)


def test_reads_and_destroys_name_their_instance(adapter: Adapter) -> None:
    dock, double = adapter(ok(read()), answer(b"", "404 Not Found"), ok({"data": {}}), None)
    assert dock.get_instance(ID).label == LABEL
    assert dock.get_instance(ID) is None
    assert dock.destroy(ID).outcome == DestroyOutcome.ACCEPTED
    assert dock.destroy(ID).outcome == DestroyOutcome.RETRY
    assert (
        lines(double)
        == [f"GET /api/v2/instances/{ID}"] * 2 + [f"DELETE /api/v2/instances/{ID}"] * 2
    )


@pytest.mark.parametrize("hostile", ["", "../secrets", f"{ID}/stop", "12", f"{ID}\n"])
def test_no_path_is_made_of_another_id(adapter: Adapter, hostile: str) -> None:
    dock, double = adapter()
    assert dock.destroy(hostile).outcome == DestroyOutcome.RETRY
    with pytest.raises(ProviderError):
        dock.get_instance(hostile)
    assert not double.requests


@pytest.mark.parametrize("reply", [None, answer(b"<html>", "502 Bad Gateway"), answer(b"[")])
def test_a_listing_is_whole_or_an_error(adapter: Adapter, reply: bytes | None) -> None:
    dock, _ = adapter(reply)
    with pytest.raises(ProviderError):
        dock.list_instances()


def test_it_is_registered_with_what_differs(settings: object) -> None:
    settings.PROVIDERS = {"tensordock": {"api_key": TOKEN, "base_url": "https://example.org"}}
    assert isinstance(registry.get("tensordock"), TensorDock)
    found = registry.capabilities("tensordock")
    assert found.ssh_users == ("user", "root") and not found.attach_key
    assert (found.settle_seconds, found.key_grace_seconds) == (300, 120)
    assert (found.offers_ttl_seconds, found.offer_min_disk_gb) == (30, 100)
