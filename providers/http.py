"""The only module that imports requests: deadlines, size caps, no redirects, strict JSON."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from http.cookiejar import DefaultCookiePolicy
from types import MappingProxyType

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from . import waits
from .base import BadResponse, NotSent, ProviderError

MAX_BODY = 8 * 1024 * 1024  # bytes after inflating
MAX_DEPTH = 64
CHUNK = 64 * 1024
HOW = (  # a call failed, in words; the first that fits
    (requests.exceptions.Timeout, " in time"),
    (requests.exceptions.SSLError, " over TLS: the other side's certificate is not accepted"),
)
NO_HEADERS: Mapping[str, str] = MappingProxyType({})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deadline:
    """Real seconds, never scaled: to connect, between two bytes, and for the whole call."""

    connect: float
    read: float
    total: float


READ = Deadline(5, 20, 30)
DESTROY = Deadline(5, 30, 45)


def create_deadline(read: float = 60, total: float = 75) -> Deadline:
    """75 s, fewer on a faster clock so that lost answers can be tried out, never below 5 s."""
    total = max(5.0, waits.seconds(total))
    return Deadline(5, min(float(read), total), total)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole HTTP answer of any status."""

    status: int
    body: bytes = field(repr=False, default=b"")

    @cached_property
    def json(self) -> object:
        """The body as JSON, its fractions as Decimal. Raises BadResponse.

        NaN and Infinity, which JSON does not know but some servers write, become the Decimals
        that clean.number refuses: one such field must not cost the whole answer.
        """
        try:
            text = self.body.decode("utf-8-sig")
            value = json.loads(
                text,
                parse_float=Decimal,
                parse_constant=Decimal,
                object_pairs_hook=_unique_keys,
            )
        except (ValueError, RecursionError, ArithmeticError):
            raise BadResponse(f"HTTP {self.status} without usable JSON") from None
        if not _shallow(value):
            raise BadResponse(f"HTTP {self.status} with JSON nested deeper than {MAX_DEPTH}")
        return value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _shallow(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return True
    return False


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class _Cutter:
    """Cuts the socket of one call when its time is up, wherever the call is blocked."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self.sent = False  # a byte of the request may have left
        self._twin: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def watch(self, sock: socket.socket) -> None:
        """A duplicate of the descriptor outlives its wrapping in TLS."""
        with self._lock:
            self._drop()
            self._twin = socket.fromfd(sock.fileno(), sock.family, sock.type)
        if self.expired:
            self._cut()

    def _cut(self) -> None:
        with self._lock:
            self.expired = True
            if self._twin:
                with suppress(OSError):  # the peer was first
                    self._twin.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._twin:
            self._twin.close()
            self._twin = None

    @contextmanager
    def running(self) -> Iterator["_Cutter"]:
        _current.cutter = self
        self._timer.start()
        try:
            yield self
        finally:
            self._timer.cancel()
            with self._lock:
                self._drop()
            del _current.cutter


_current = threading.local()


class _Watched:
    """A connection that shows its socket to the cutter before it sends or receives."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _current.cutter.watch(sock)
        return sock

    def send(self, data: object) -> None:
        if self.sock is None:
            self.connect()
        if not _current.cutter.sent:
            _current.cutter.watch(self.sock)
            _current.cutter.sent = True
        super().send(data)


class _Http(_Watched, HTTPConnection):
    pass


class _Https(_Watched, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: int, **kwargs: object) -> None:
        self.poolmanager = PoolManager(num_pools=args[0], maxsize=args[1], **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxies, no .netrc
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("http://", _Adapter())
    session.mount("https://", _Adapter())
    return session


class ApiClient:
    """Calls one provider's API. Secrets go into headers and come out of nothing."""

    def __init__(
        self,
        base_url: str,
        *,
        provider: str,
        headers: Mapping[str, str] = NO_HEADERS,
        secrets: Iterable[str] = (),
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.provider = provider
        self._headers = {"Accept": "application/json", "Accept-Encoding": "gzip", **headers}
        self._secrets = [secret.encode() for secret in secrets if len(secret) >= 8]
        self._threads = threading.local()

    def __repr__(self) -> str:
        return f"ApiClient({self.provider}, {self.base_url})"

    def call(
        self,
        method: str,
        path: str,
        *,
        deadline: Deadline,
        params: Mapping[str, str] | None = None,
        json: object = None,
        fresh: bool = False,
    ) -> Answer:
        """Any status is an Answer. Raises NotSent when certainly not sent, else ProviderError.

        `fresh` opens a new connection: one from the pool may be dead already, and then a
        request that nobody received counts as maybe sent.
        """
        started = time.monotonic()
        with _Cutter(deadline.total).running() as cutter:
            try:
                answer = self._send(method, path, deadline, params, json, fresh)
                if cutter.expired:
                    raise ProviderError(f"no answer within {deadline.total:g} s")
            except (requests.RequestException, HTTPError, OSError) as error:
                raise _named(error, cutter, deadline) from None
            finally:
                spent = time.monotonic() - started
                log.debug("%s %s %s took %.2f s", self.provider, method, path, spent)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        params: Mapping[str, str] | None,
        body: object,
        fresh: bool,
    ) -> Answer:
        session = self._own_session()
        if fresh:
            session.close()  # the pool starts anew
        with session.request(
            method,
            self.base_url + path,
            params=params,
            json=body,
            headers=self._headers,
            timeout=(deadline.connect, deadline.read),
            allow_redirects=False,
            stream=True,
        ) as response:
            return Answer(status=response.status_code, body=self._body(response))

    def _own_session(self) -> requests.Session:
        if not hasattr(self._threads, "session"):
            self._threads.session = _session()
        return self._threads.session

    def _body(self, response: requests.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(CHUNK):
            body += chunk
            if len(body) > MAX_BODY:
                raise BadResponse(f"HTTP {response.status_code} with more than {MAX_BODY} bytes")
        found = bytes(body)
        for secret in self._secrets:
            found = found.replace(secret, b"[redacted]")
        return found


def _named(error: Exception, cutter: _Cutter, deadline: Deadline) -> ProviderError:
    """The words are ours: those of the library can carry addresses and headers."""
    if not cutter.sent:
        return NotSent(f"could not connect{_how(error)}")
    if cutter.expired:
        return ProviderError(f"no answer within {deadline.total:g} s")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return BadResponse("the answer was cut off")
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return BadResponse("the answer could not be decompressed")
    return ProviderError(f"no answer{_how(error)}")


def _how(error: Exception) -> str:
    return next((words for kind, words in HOW if isinstance(error, kind)), "")
