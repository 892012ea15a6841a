"""What is wrong, if anything: one finding for each thing that can be. Command and page share it.

`stored` reads rows and files only, so that a page never waits for a marketplace; `asked` makes
one cheap call for each credential, now and from here.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from providers import registry
from providers.base import Account, ProviderError
from providers.models import ProviderHealth
from providers.spans import duration
from sessions import audit, audit_triggers, identity, survey
from sessions.models import Heartbeat

from . import health

CLOCK_TOLERANCE = timedelta(seconds=5)
HOURS_LEFT = 2  # below this much balance at the present rate, it is a problem


@dataclass(frozen=True, kw_only=True)
class Finding:
    name: str
    ok: bool
    detail: str


@never_cache
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """For administrators: what is stored, without asking anybody."""
    if not request.user.is_staff:
        raise PermissionDenied
    findings = stored(timezone.now())
    wrong = sum(not finding.ok for finding in findings)
    context = {"findings": findings, "wrong": wrong}
    return render(request, "gpubroker/doctor.html", context)


def stored(now: datetime) -> list[Finding]:
    """From rows and files alone."""
    checks: dict[str, Callable[[datetime], Iterable[Finding]]] = {
        "configuration": lambda now: configuration(),
        "database": database,
        "audit trail": lambda now: trail(),
        "worker": running,
        "clock": clock,
        "identity": deployment,
    }
    for name in registry.names():
        checks[name] = lambda now, name=name: marketplace(name, now)
    return [finding for name, check in checks.items() for finding in _tried(name, check, now)]


def asked() -> list[Finding]:
    """Each credential tried out now, and the whole audit trail read."""
    findings = [finding for name in registry.names() for finding in credential(name)]
    return findings + _tried("audit chain", lambda now: chain(), timezone.now())


def configuration() -> Iterator[Finding]:
    for problem in settings.CONFIG_PROBLEMS:
        yield Finding(name="configuration", ok=False, detail=problem)
    if not settings.CONFIG_PROBLEMS:
        detail = "every variable that is set is known and readable"
        yield Finding(name="configuration", ok=True, detail=detail)
    if not registry.names():
        detail = "no marketplace has a key: nothing can be rented"
        yield Finding(name="marketplaces", ok=False, detail=detail)


def database(now: datetime) -> Iterator[Finding]:
    health.database(now)
    executor = MigrationExecutor(connection)
    waiting = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    detail = f"{waiting} migrations are missing: run `manage.py migrate`" if waiting else ""
    detail = detail or f"{connection.vendor} answers and is up to date"
    yield Finding(name="database", ok=not waiting, detail=detail)


def trail() -> Iterator[Finding]:
    missing = audit_triggers.missing(connection)
    detail = f"the database no longer protects it: {', '.join(missing)} missing"
    yield Finding(
        name="audit triggers", ok=not missing, detail=detail if missing else "append-only"
    )
    problem = audit.anchor_problem()
    yield Finding(name="audit anchor", ok=not problem, detail=problem or _anchored())


def _anchored() -> str:
    anchor = audit.read_anchor()
    return f"event {anchor.sequence} is remembered" if anchor else "none written yet"


def chain() -> Iterator[Finding]:
    verdict = audit.verify()
    detail = verdict.problem or f"{verdict.checked} events, whole"
    yield Finding(name="audit chain", ok=verdict.ok, detail=detail)


def running(now: datetime) -> Iterator[Finding]:
    for name, check in {"worker": health.worker, "slices": health.slices}.items():
        part = check(now)
        detail = str(part.get("detail") or f"last sign of life {_ago(part)}")
        yield Finding(name=name, ok=bool(part["ok"]), detail=detail)


def _ago(part: health.Part) -> str:
    seconds = next(value for key, value in part.items() if key.endswith("_seconds"))
    return f"{duration(seconds)} ago"


def clock(now: datetime) -> Iterator[Finding]:
    """Ours against the database server's, and against the worker's: all must agree."""
    differences = []
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            differences.append(("the database", abs(cursor.fetchone()[0] - timezone.now())))
    beat = Heartbeat.objects.filter(name="worker").first()
    if beat:  # only the future tells: an old one may be a dead worker
        differences.append(("the worker", max(beat.at - timezone.now(), timedelta(0))))
    wrong = [
        f"{name} is {difference.total_seconds():.0f} s away from this clock"
        for name, difference in differences
        if difference > CLOCK_TOLERANCE
    ]
    detail = ", ".join(wrong) or f"{now:%Y-%m-%d %H:%M:%S} UTC, no contradiction"
    yield Finding(name="clock", ok=not wrong, detail=detail)


def deployment(now: datetime) -> Iterator[Finding]:
    who = identity.current()
    detail = who.read_only or f"deployment {who.deployment_id}, may rent and destroy"
    yield Finding(name="identity", ok=not who.read_only, detail=detail)


def marketplace(name: str, now: datetime) -> Iterator[Finding]:
    """The last readings of one: offers, key, balance, machines."""
    row = ProviderHealth.objects.filter(provider=name).first()
    part = health.provider(row, now)
    detail = part.get("detail") or f"offers read {_ago(part)}"
    yield Finding(name=f"offers {name}", ok=bool(part["ok"]), detail=str(detail))
    if row and row.auth_error:
        yield Finding(name=f"key {name}", ok=False, detail=f"not accepted: {row.auth_error}")
    seen = survey.survey(name)
    if row and row.balance is not None:
        yield balance(name, row.balance, seen.burn)
    yield machines(seen)


def balance(name: str, amount: Decimal, burn: Decimal) -> Finding:
    hours = f", {amount / burn:.1f} h at ${burn:.3f}/h" if burn else ""
    ok = amount > 0 and amount >= burn * HOURS_LEFT
    return Finding(name=f"balance {name}", ok=ok, detail=f"${amount:.2f}{hours}")


def machines(seen: survey.Survey) -> Finding:
    """Others on the account are no problem of ours, but they spend its money."""
    name = f"machines {seen.provider}"
    if seen.read_at is None:
        return Finding(name=name, ok=True, detail="not listed yet")
    parts = [f"{len(seen.known)} of open sessions"]
    if seen.orphans:
        parts.append(f"{len(seen.orphans)} of ours without a session (the sweep destroys them)")
    if seen.foreign:
        rate = survey.rate(seen.foreign)
        parts.append(f"{len(seen.foreign)} not managed here, ${rate:.3f}/h together")
    return Finding(name=name, ok=not seen.orphans, detail=", ".join(parts))


def credential(name: str) -> Iterator[Finding]:
    """One cheap call."""
    try:
        account = registry.get(name).account()
    except ProviderError as error:
        detail = f"{type(error).__name__}: {error}"
        yield Finding(name=f"credential {name}", ok=False, detail=detail)
        return
    yield Finding(name=f"credential {name}", ok=True, detail=_accepted(account))


def _accepted(account: Account) -> str:
    told = "" if account.balance is None else f", balance ${account.balance:.2f}"
    return f"accepted just now{told}"


def _tried(
    name: str, check: Callable[[datetime], Iterable[Finding]], now: datetime
) -> list[Finding]:
    """A database that does not answer is a finding like any other."""
    try:
        return list(check(now))
    except DatabaseError as error:
        detail = f"the database does not answer ({type(error).__name__})"
        return [Finding(name=name, ok=False, detail=detail)]
