"""How Vast.ai words its refusals, among them those a fault asks for."""

import json
from collections.abc import Callable
from itertools import count

from aiohttp import web

from .store import Record
from .wire import Call

turn = count()


def answer(body: object, status: int = 200) -> web.Response:
    """JSON. The official client insists on a Content-Type without a charset."""
    headers = {"Content-Type": "application/json"}
    return web.Response(body=json.dumps(body).encode(), status=status, headers=headers)


def refusal(status: int, error: str, message: str, **more: object) -> web.Response:
    return answer({"success": False, "error": error, "msg": message} | more, status)


def too_often(call: Call, seconds: float) -> web.Response:
    """The four bodies that were seen, one after the other. There is never a Retry-After."""
    text = f"API requests too frequent: endpoint threshold={seconds}"
    bodies: list[Callable[[], web.Response]] = [
        lambda: web.Response(status=429, text=text),
        lambda: answer({"detail": text.replace(":", "")}, 429),
        lambda: refusal(429, "rate_limit_exceeded", text),
        lambda: answer({"message": "The action could not be performed because there were too many "
                        f"requests by the client.\n\n{text}*1.0\n\n",
                        "code": "429 Too Many Requests"}, 429),
    ]  # fmt: skip
    return bodies[next(turn) % 4]()


def no_such_ask(call: Call, status: int) -> web.Response:
    number = int(call.offer_id) if call.offer_id.isdigit() else None
    if status == 400:
        text = f"error 404/3603: no_such_ask  Instance type by id {number} is not available."
        return refusal(400, "invalid_args", text, ask_id=number)
    if status == 410:
        text = f"error 410/3907: no_such_ask Instance type {number} is no longer available."
        return refusal(410, "no_such_ask", text, ask_id=number)
    return refusal(404, "no_such_ask", f"No ask by id {number} is available.")


def denied(status: int) -> web.Response:
    text = "This action requires login." if status == 403 else "Invalid user key"
    return refusal(status, "auth_error", text)


def empty_list(call: Call) -> web.Response:
    if call.operation == "search":
        return answer({"offers": []})
    return answer({
        "success": True, "total_instances": 0, "instances_found": 0, "label_counts": {},
        "next_token": None, "instances": [],
    })  # fmt: skip


REPLIES: dict[str, tuple[Callable[[Call], web.Response], str]] = {
    "rate_limited": (lambda call: too_often(call, 4.5), "429, nothing done"),
    "auth_401": (lambda call: denied(401), "401 Invalid user key"),
    "auth_403": (lambda call: denied(403), "403 This action requires login"),
    "auth_404": (lambda call: denied(404), "404 auth_error"),
    "no_such_ask_400": (lambda call: no_such_ask(call, 400), "400 with no_such_ask in the text"),
    "no_such_ask_404": (lambda call: no_such_ask(call, 404), "404 no_such_ask"),
    "no_such_ask_410": (lambda call: no_such_ask(call, 410), "410 no_such_ask"),
    "not_found": (lambda call: refusal(404, "not_found", "Not found."), "404 not_found"),
    "missing_billing": (
        lambda call: refusal(400, "missing_billing", "You lack credit, see the billing page."),
        "400 missing_billing",
    ),
    "insufficient_credit": (
        lambda call: refusal(400, "insufficient_credit", "Insufficient credit."),
        "400 insufficient_credit",
    ),
    "spend_rate_limit": (
        lambda call: refusal(400, "invalid_args", "Your account is limited: spend rate limit."),
        "400 for a new account",
    ),
    "invalid_args": (
        lambda call: refusal(400, "invalid_args", "error 400/3467: Invalid args: 'image'"),
        "400 invalid_args",
    ),
    "refused": (
        lambda call: refusal(200, "resources_unavailable", "Could not be started."),
        "200 success:false without an instance",
    ),
    "empty_list": (empty_list, "200 with nothing in it"),
}  # fmt: skip


def doubled(body: Record) -> Record:
    rows = list(body.get("instances") or [])
    return body | {"instances": rows + rows[:1], "instances_found": len(rows) + 1}


def short(body: Record) -> Record:
    rows = list(body.get("instances") or [])
    return body | {"instances": rows[1:], "instances_found": max(0, len(rows) - 1)}


def shifted(body: Record) -> Record:
    return body | {"total_instances": int(str(body.get("total_instances") or 0)) + 1}


def looping(body: Record) -> Record:
    token = "eyJ2YWx1ZXMiOiB7ImlkIjogMX19"  # the page after id 1: the first one again
    return body | {"next_token": token}


def strange(body: Record) -> Record:
    rows = [{**dict(row), "id": "../x"} for row in list(body.get("instances") or [])]
    return body | {"instances": rows}


def odd(body: Record) -> Record:
    """Unknown fields, and values that no careful client believes, in every row."""
    values = [float("nan"), -1.0, "0.05", None, 1e308, True]
    name = "offers" if "offers" in body else "instances"
    rows = [
        {**dict(row), "dph_total": values[at % len(values)], "cpu_cores": None, "news": {"a": [1]}}
        for at, row in enumerate(list(body.get(name) or []))
    ]
    return body | {name: rows}


AMENDMENTS: dict[str, tuple[Callable[[Record], Record], str]] = {
    "duplicate_rows": (doubled, "the first row of the page appears twice"),
    "lost_row": (short, "a row is missing though the total counts it"),
    "total_shifts": (shifted, "the total is one too high"),
    "token_loop": (looping, "the next token leads to the first page for ever"),
    "odd_rows": (odd, "prices NaN, negative, text, null, huge, true; unknown fields"),
    "strange_ids": (strange, "ids that are no ids"),
}
