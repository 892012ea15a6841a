"""The HTTP client against hostile bytes: it always ends, keeps its secret, names what happened."""

import gzip
import logging
import socket
import time
from collections.abc import Callable

import pytest

from providers.base import BadResponse, NotSent, ProviderError
from providers.http import MAX_BODY, Answer, ApiClient, Deadline, create_deadline

from .wire_double import answer, serve

SECRET = "5ecret" * 8
SHORT = Deadline(connect=5, read=20, total=0.6)
LONG = Deadline(connect=20, read=40, total=60)


def client(url: str) -> ApiClient:
    headers = {"Authorization": f"Bearer {SECRET}"}
    return ApiClient(url, provider="vastai", headers=headers, secrets=[SECRET])


def ask(url: str, deadline: Deadline = LONG) -> Answer:
    return client(url).call("GET", "/x/", deadline=deadline)


def test_a_good_answer_of_any_status_is_an_answer() -> None:
    with serve(lambda c: c.sendall(answer(b'{"a": 1.5}', "404 Not Found"))) as server:
        found = ask(server.url)
    assert found.status == 404 and str(found.json["a"]) == "1.5"
    assert f"Authorization: Bearer {SECRET}".encode() in server.requests[0]


def drip(head: bytes) -> Callable[[socket.socket], None]:
    def script(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(600):
            connection.sendall(b"x")
            time.sleep(0.1)

    return script


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n",
    ],
)
def test_a_dripping_answer_ends_at_the_total_deadline(head: bytes) -> None:
    """Each byte arrives well within the read time-out: only the total one can end it."""
    started = time.monotonic()
    with serve(drip(head)) as server, pytest.raises(ProviderError, match="within 0.6 s") as caught:
        ask(server.url, SHORT)
    assert type(caught.value) is ProviderError
    assert time.monotonic() - started < 50  # the drip alone takes 60


def test_silence_ends_at_the_read_timeout() -> None:
    silent = Deadline(connect=5, read=0.3, total=60)
    with serve(lambda c: time.sleep(55)) as server, pytest.raises(ProviderError) as caught:
        ask(server.url, silent)
    assert (type(caught.value), str(caught.value)) == (ProviderError, "no answer in time")


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_a_cut_or_broken_body_is_not_believed(sent: bytes) -> None:
    with serve(lambda c: c.sendall(sent)) as server, pytest.raises(BadResponse):
        ask(server.url)


@pytest.mark.parametrize("sent", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nConten"])
def test_a_hang_up_after_the_request_may_have_been_served(sent: bytes) -> None:
    with serve(lambda c: c.sendall(sent)) as server, pytest.raises(ProviderError) as caught:
        assert ask(server.url).json  # a head that ends early can pass as an empty answer
    assert not isinstance(caught.value, NotSent)


def test_a_huge_body_is_refused() -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(40):
            connection.sendall(b"9" * (MAX_BODY // 8))

    with serve(script) as server, pytest.raises(BadResponse, match="more than"):
        ask(server.url)


def test_a_gzip_bomb_is_refused() -> None:
    bomb = gzip.compress(bytes(20 * MAX_BODY))
    sent = answer(bomb, Content_Encoding="gzip")
    with serve(lambda c: c.sendall(sent)) as server, pytest.raises(BadResponse, match="more than"):
        ask(server.url)


def test_honest_gzip_is_read() -> None:
    body = gzip.compress(b'{"a": 1}')
    with serve(lambda c: c.sendall(answer(body, Content_Encoding="gzip"))) as server:
        assert ask(server.url).json == {"a": 1}


def test_a_redirect_is_not_followed() -> None:
    with serve(lambda c: c.sendall(answer(b"{}"))) as other:
        moved = answer(b"", "307 Temporary Redirect", Location=other.url)
        with serve(lambda c: c.sendall(moved)) as server:
            assert ask(server.url).status == 307
        assert other.connections == 0


def test_a_refused_connection_was_certainly_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NotSent, match="^could not connect$"):
        ask(f"http://127.0.0.1:{port}")


def test_an_unknown_host_was_certainly_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NotSent):
        ask("http://host.invalid")


def test_a_tls_handshake_that_hangs_ends_and_was_certainly_not_sent() -> None:
    """The other side speaks no TLS and waits for the end of a request that never comes."""
    started = time.monotonic()
    with serve(lambda c: None) as server, pytest.raises(NotSent):
        ask(server.url.replace("http://", "https://"), Deadline(connect=60, read=60, total=0.6))
    assert time.monotonic() - started < 50


def test_connections_are_kept_but_a_fresh_call_opens_its_own() -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(answer(b"{}"))

    with serve(script, requests_per_connection=9) as server:
        api = client(server.url)
        for fresh in (False, False, True):
            api.call("GET", "/", deadline=LONG, fresh=fresh)
    assert server.connections == 2


def test_the_secret_is_in_no_exception_log_or_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(lambda c: c.sendall(answer(f'{{"echo": "{SECRET}"}}'.encode()))) as server:
        found = ask(server.url)
        assert found.json == {"echo": "[redacted]"}
        assert SECRET not in repr(client(server.url)) + repr(found)
    with pytest.raises(NotSent) as caught:
        ask(server.url)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__
    assert SECRET not in caplog.text and "GET /x/" in caplog.text


def test_cookies_are_not_kept() -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(answer(b"{}", Set_Cookie="who=me; Path=/"))

    with serve(script, requests_per_connection=2) as server:
        api = client(server.url)
        api.call("GET", "/", deadline=LONG)
        api.call("GET", "/", deadline=LONG)
    assert b"Cookie" not in server.requests[1]


def test_environment_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serve(lambda c: c.sendall(answer(b"{}"))) as server:
        assert ask(server.url).status == 200


@pytest.mark.parametrize("scale, total", [(1, 75), (5, 15), (50, 5)])
def test_only_the_deadline_of_a_create_shrinks(settings, scale: int, total: float) -> None:
    settings.TIME_SCALE = scale
    assert create_deadline().total == total
