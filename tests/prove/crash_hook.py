"""Strikes this process at a named point: around each write, commit, request and login.

    CRASH_LOG=<file>        write the name of every point that is passed, one a line
    CRASH_AT=<name>#<nth>   strike there; without a name: at the nth point of any name
    CRASH_HOW=<how>         kill (-9), all (its whole group at once), pause (SIGSTOP) or alarm
    CRASH_MARK=<file>       write the time of it, UTC, one a line

Nobody marks points by hand: they are found by wrapping Django's cursors and commits, the
client of the marketplaces' API, and the SSH check. The product knows nothing of it.
"""

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3.connection
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from providers import http
from sessions import ssh

WRITE = re.compile(r'(INSERT|UPDATE|DELETE)[^"]*"(\w+)"')
NUMBER = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+")
QUIET = ("providers_offer", "django_q_ormq", "gpu_sessions_slot", "providers_pricepoint")
SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "alarm": signal.SIGALRM}
TIMED_OUT = 9  # exit code of a worker that an alarm has ended
OWN = "own"  # what the test itself asks of the simulator
passed: Counter[str] = Counter()
lock = threading.Lock()
request = threading.local()


def install() -> None:
    if "CRASH_LOG" in os.environ or "CRASH_AT" in os.environ:
        connection.execute_wrappers.append(around_write)
        around(BaseDatabaseWrapper, "_commit", lambda *args: "commit")
        around(http.ApiClient, "_send", named_request)
        around(http.ApiClient, "_body", lambda *args: f"{request.name} body")
        around(
            urllib3.connection.HTTPConnection,
            "getresponse",
            lambda *args: f"{getattr(request, 'name', OWN)} headers",
        )
        around(ssh, "check", lambda *args: "ssh")


def around(owner: Any, name: str, point: Callable[..., str]) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        where = point(*args)
        hit(f"before {where}")
        result = original(*args, **kwargs)
        hit(f"after {where}")
        return result

    setattr(owner, name, wrapped)


def named_request(client: object, method: str, path: str, *rest: object) -> str:
    request.name = f"{method} {NUMBER.sub('N', path)}"
    return request.name


def around_write(execute: Callable, sql: str, params: Any, many: bool, context: dict) -> Any:
    found = WRITE.match(sql)
    if not found or found[2].startswith(QUIET):
        return execute(sql, params, many, context)
    where = f"{found[1]} {found[2]}"
    hit(f"before {where}")
    result = execute(sql, params, many, context)
    hit(f"after {where}")
    return result


def hit(name: str) -> None:
    with lock:
        passed[name] += 1
        passed[""] += OWN not in name.split()
        points = (f"{name}#{passed[name]}", f"#{passed['']}")
        if log := os.environ.get("CRASH_LOG"):
            with Path(log).open("a") as file:
                file.write(points[0] + "\n")
        if os.environ.get("CRASH_AT") in points:
            del os.environ["CRASH_AT"]  # an alarm and a pause are survived
            strike(os.environ.get("CRASH_HOW", "kill"))


def strike(how: str) -> None:
    with Path(os.environ["CRASH_MARK"]).open("a") as file:
        file.write(f"{datetime.now(UTC).isoformat()}\n")
    if how == "all":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), SIGNALS[how])
