"""One request on its way: rate limit, fault, credential, handler, answer, and the wire log."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Protocol

from aiohttp import web

from .faults import AFTER, BEFORE, EFFECTS, Fault, FaultBook, Matchable, apply
from .instances import Instance
from .rates import Rates
from .store import Record
from .world import World

Handler = Callable[["Call"], web.StreamResponse]
KEPT = 100_000  # requests in the wire log
HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"


class Dialect(Protocol):
    """What differs between marketplaces on every call."""

    provider: str
    replies: Mapping[str, tuple[Callable[["Call"], web.Response], str]]  # instead of the handler
    amendments: Mapping[str, tuple[Callable[[Record], Record], str]]  # of the handler's answer
    window: tuple[int, float] | None  # most calls of one identity in so many seconds
    latency: Mapping[str, tuple[float, float]]  # operation -> seconds from, to

    def identity(self, request: web.Request) -> str: ...

    def authenticate(self, call: "Call") -> web.Response | None: ...

    def too_often(self, call: "Call", seconds: float) -> web.Response: ...

    def label_of(self, body: Record) -> str: ...

    def offer_of(self, body: Record) -> str: ...


@dataclass(kw_only=True)
class Call(Matchable):
    request: web.Request
    raw: bytes
    body: Record
    world: World
    now: float
    account: str = ""
    fault: Fault | None = None
    effect: bool = False  # something was really changed
    own_key: bool = False  # the instance itself asks, with the key that it was given

    def has(self, fault: str) -> bool:
        return self.fault is not None and self.fault.fault == fault

    def strike(self, instance: Instance) -> None:
        """Give a new instance what is wrong with it."""
        if self.fault is not None and self.fault.fault in EFFECTS:
            apply(self.world, self.fault, instance, self.now)

    def end(self, instance: Instance) -> None:
        """Destroy it, as far as the fault and the instance let us."""
        seconds = self.fault.seconds if self.fault else None
        if self.has("destroy_ignored") and seconds is not None:
            instance.immortal_until = self.world.until(self.now, seconds)
        elif self.has("destroy_ignored"):
            return
        if self.now < instance.immortal_until:
            self.world.save(instance)
            return
        if self.has("still_listed"):
            instance.shown_until = self.world.until(self.now, seconds)
        self.world.destroy(instance, self.now)
        self.effect = True


@dataclass(kw_only=True)
class Entry:
    """One request as a witness saw it; at = begun, done_at = answered or cut."""

    n: int
    at: str
    done_at: str
    provider: str
    operation: str
    method: str
    path: str
    status: int  # 0 = no answer was sent
    label: str
    instance_id: str
    offer_id: str
    fault: str
    effect: bool
    account: str
    own_key: bool = False  # asked by the instance, with its own key


class WireLog:
    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "wire.jsonl"
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.lines = 0
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8")
            for line in text[: text.rfind("\n") + 1].splitlines():
                self.entries.append(Entry(**json.loads(line)))
                self.lines += 1
        self.last = self.entries[-1].n if self.entries else 0
        self.file = self.path.open("a", encoding="utf-8")

    def add(self, **values: object) -> None:
        self.last += 1
        entry = Entry(n=self.last, **values)  # type: ignore[arg-type]
        self.entries.append(entry)
        self.file.write(json.dumps(asdict(entry)) + "\n")
        self.file.flush()
        self.lines += 1
        if self.lines > 2 * KEPT:
            self.rewrite()

    def rewrite(self) -> None:
        self.file.close()
        fresh = self.path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(entry)) + "\n" for entry in self.entries)
        fresh.replace(self.path)
        self.lines = len(self.entries)
        self.file = self.path.open("a", encoding="utf-8")

    def since(self, number: int) -> list[Record]:
        first = self.entries[0].n if self.entries else 0
        start = max(0, number - first + 1)
        return [asdict(entry) for entry in islice(self.entries, start, None)]


@dataclass(kw_only=True)
class Gateway:
    """Leads every call of one marketplace through the same steps."""

    world: World
    dialect: Dialect
    book: FaultBook
    log: WireLog
    rates: Rates

    def route(
        self, operation: str, handler: Handler, interval: float = 0.0
    ) -> Callable[[web.Request], "asyncio.Future[web.StreamResponse]"]:
        """`interval`: least simulated seconds between two calls of one identity."""

        async def respond(request: web.Request) -> web.StreamResponse:
            try:
                return await self.serve(request, operation, handler, interval)
            except ConnectionResetError:  # the caller died: nobody hears what is answered
                return web.Response()

        return respond

    async def serve(
        self, request: web.Request, operation: str, handler: Handler, interval: float
    ) -> web.StreamResponse:
        call = await self.receive(request, operation)
        endpoint = f"{request.method} {path_of(request)}"
        identity = self.dialect.identity(request)
        window = self.dialect.window
        if (interval and self.rates.too_soon(endpoint, identity, interval)) or (
            window and self.rates.too_many(identity, *window)
        ):
            return self.record(call, self.dialect.too_often(call, interval))
        call.fault = self.book.take(call, call.now)
        await self.work(call)
        return await self.answer(call, handler)

    async def work(self, call: Call) -> None:
        """The marketplace takes its time."""
        least, most = self.dialect.latency.get(call.operation, (0.0, 0.0))
        if most:
            await asyncio.sleep(self.world.real(self.world.random.uniform(least, most)))
            call.now = time.time()

    async def receive(self, request: web.Request, operation: str) -> Call:
        raw = await request.read()
        body = parse(raw)
        call = Call(
            provider=self.dialect.provider, operation=operation, request=request, raw=raw,
            body=body, world=self.world, now=time.time(),
            later_page=bool(request.query.get("after_token")),
            instance_id=request.match_info.get("instance_id", ""),
            offer_id=request.match_info.get("offer_id") or self.dialect.offer_of(body),
            label=self.dialect.label_of(body) if operation == "create" else "",
        )  # fmt: skip
        known = self.world.instances.get((call.provider, call.instance_id))
        call.label = known.label if known else call.label
        return call

    async def answer(self, call: Call, handler: Handler) -> web.StreamResponse:
        kind = call.fault.fault if call.fault else ""
        if kind == "missing_page" or kind in BEFORE:
            return await self.misbehave(call, kind, None)
        if kind in self.dialect.replies:
            return self.record(call, self.dialect.replies[kind][0](call))
        if kind == "late" and call.fault:
            await asyncio.sleep(self.world.real(call.fault.seconds or 1))
            call.now = time.time()
        answer = self.dialect.authenticate(call) or handler(call)
        if kind in self.dialect.amendments and isinstance(answer, web.Response):
            changed = self.dialect.amendments[kind][0](parse(answer.body))
            answer = web.json_response(changed, status=answer.status)
        if kind in AFTER and kind != "late":
            return await self.misbehave(call, kind.removeprefix("lost_"), answer)
        return self.record(call, answer)

    async def misbehave(
        self, call: Call, kind: str, answer: web.StreamResponse | None
    ) -> web.StreamResponse:
        """Spoil the answer; `answer` is what an honest server would have said, None = nothing."""
        if kind in ("drop", "hang"):
            self.record(call, None)
            if kind == "hang":
                await gone(call.request)
            cut(call.request)
            return web.Response()
        if kind == "slow" and answer is not None:
            await asyncio.sleep(self.world.real(call.fault.seconds or 1) if call.fault else 0)
            return self.record(call, answer)
        if kind in ("cut_body", "trickle") and isinstance(answer, web.Response):
            self.record(call, answer)
            return await (half if kind == "cut_body" else trickle)(call.request, answer)
        return self.record(call, spoiled(kind.removeprefix("http_")))

    def record(self, call: Call, answer: web.StreamResponse | None) -> web.StreamResponse:
        self.log.add(
            at=iso(call.now), done_at=iso(time.time()), provider=call.provider,
            operation=call.operation, method=call.request.method, path=call.request.path,
            status=answer.status if answer is not None else 0, label=call.label,
            instance_id=call.instance_id, offer_id=call.offer_id, account=call.account,
            fault=call.fault.fault if call.fault else "", effect=call.effect,
            own_key=call.own_key,
        )  # fmt: skip
        return answer if answer is not None else web.Response()


def spoiled(kind: str) -> web.Response:
    if kind in ("500", "missing_page"):
        body = {"success": False, "error": "server_error", "msg": "Internal Server Error"}
        return web.json_response(body, status=500)
    if kind == "503":
        return web.Response(status=503)
    if kind == "empty_body":
        return web.Response(status=200, content_type="application/json")
    if kind == "huge_body":
        return web.Response(
            body=b'{"offers": ["' + b"x" * 20_000_000, content_type="application/json"
        )
    if kind == "redirect":
        return web.Response(status=307, headers={"Location": "http://203.0.113.9/elsewhere"})
    title = {"502": "502 Bad Gateway", "504": "504 Gateway Time-out"}.get(kind, "Welcome")
    status = int(kind) if kind.isdigit() else 200
    return web.Response(status=status, text=HTML.format(title), content_type="text/html")


async def gone(request: web.Request) -> None:
    """Until the client hangs up."""
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(0.05)


def cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()  # type: ignore[attr-defined]


async def half(request: web.Request, answer: web.Response) -> web.StreamResponse:
    """The right headers and the first half of the body, then the connection ends."""
    stream, body = await headed(request, answer)
    await stream.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return stream


async def trickle(request: web.Request, answer: web.Response) -> web.StreamResponse:
    """A byte a second, for as long as the client listens."""
    stream, body = await headed(request, answer)
    for at in range(len(body)):
        if request.transport is None or request.transport.is_closing():
            break
        await stream.write(body[at : at + 1])
        await asyncio.sleep(1)
    return stream


async def headed(request: web.Request, answer: web.Response) -> tuple[web.StreamResponse, bytes]:
    """A stream with the answer's headers on their way, and the body to come."""
    body = bytes(answer.body or b"")  # type: ignore[arg-type]
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    stream = web.StreamResponse(status=answer.status, headers=headers)
    await stream.prepare(request)
    return stream, body


def parse(raw: object) -> Record:
    """A JSON object, or {} for anything else."""
    try:
        body = json.loads(raw)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return {}
    return body if isinstance(body, dict) else {}


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def path_of(request: web.Request) -> str:
    """The route's own spelling, so that all instances share one rate limit."""
    resource = request.match_info.route.resource
    return (resource.canonical if resource else request.path).rstrip("/")
