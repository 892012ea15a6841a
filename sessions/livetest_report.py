"""What the live test found: plain values, read from rows when it is over."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from providers import registry
from providers.base import CreateOutcome
from providers.models import ProviderHealth

from . import explain, survey
from .livetest import Allowance, LiveTest, Login, Trial
from .models import Attempt, AuditEvent, Session
from .states import State

HIGH, MEDIUM, LOW = "HIGH", "MEDIUM", "LOW"
OPERATIONAL = "FULLY OPERATIONAL"
KEYS_FAIL = ("ssh_refused", "ssh_timeout")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A login: whose account, by which key, and how far it came."""

    account: str
    key: str
    ok: bool
    words: str
    tries: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """One trial. Seconds are None where it did not come that far; money in USD."""

    provider: str
    passed: bool
    refused: str = ""
    offer: str = ""
    session: str = ""
    code: str = ""
    instances: tuple[str, ...] = ()
    host: str = ""
    offers_tried: int = 0
    booted: bool = False
    provisioning_seconds: float | None = None
    ssh_attempts: int = 0
    verified: bool = False
    gpu: str = ""
    logins: tuple[Entry, ...] = ()
    reason: str = ""
    reason_text: str = ""
    cleanup_seconds: float | None = None
    gone: bool = True
    cost: Decimal = Decimal(0)


@dataclass(frozen=True, kw_only=True)
class Bug:
    severity: str
    provider: str
    description: str
    evidence: str
    advice: str = ""
    status: str = "OPEN"
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the tables with a time."""

    at: datetime
    what: str
    details: str


@dataclass(frozen=True, kw_only=True)
class Report:
    started_at: datetime
    ended_at: datetime
    allowance: Allowance
    cut: str
    simulated: bool
    results: tuple[Result, ...]
    bugs: tuple[Bug, ...]
    warnings: tuple[Line, ...]
    events: tuple[Line, ...]
    providers: tuple[str, ...]

    def operational(self, provider: str) -> bool:
        mine = [result for result in self.results if result.provider == provider]
        return any(result.passed for result in mine) and all(result.gone for result in mine)

    @property
    def ok(self) -> bool:
        return bool(self.providers) and all(map(self.operational, self.providers))

    @property
    def spent(self) -> Decimal:
        return sum((result.cost for result in self.results), Decimal(0))

    def data(self) -> dict[str, object]:
        """For JSON (with default=str)."""
        status = {name: status_of(self, name) for name in self.providers}
        return {"ok": self.ok, "spent": self.spent, "status": status} | asdict(self)


def make(test: LiveTest, providers: Sequence[str]) -> Report:
    now = timezone.now()
    results = tuple(result(trial, now) for trial in test.trials)
    passed = {each.provider for each in results if each.passed}
    found = [bug for trial in test.trials for bug in bugs(trial, result(trial, now))]
    return Report(
        started_at=test.started_at,
        ended_at=now,
        allowance=test.allowance,
        cut=test.cut,
        simulated=settings.SIMULATED,
        results=results,
        bugs=tuple(numbered(found, passed)),
        warnings=tuple(warnings(providers, now)),
        events=tuple(events(test.sessions())),
        providers=tuple(providers),
    )


def result(trial: Trial, now: datetime) -> Result:
    session = trial.session
    if session is None:
        return Result(provider=trial.provider, passed=False, refused=trial.refused)
    attempts = list(session.attempts.order_by("number"))
    last = attempts[-1] if attempts else None
    return Result(
        provider=trial.provider,
        passed=trial.passed(),
        offer=offer(last) if last else session.gpu_name,
        session=str(session.pk),
        code=session.code,
        instances=tuple(attempt.instance_id for attempt in attempts if attempt.instance_id),
        host=address(session),
        offers_tried=len({attempt.offer_id for attempt in attempts}),  # a 429 is no other offer
        booted=any(attempt.ready_at for attempt in attempts),
        provisioning_seconds=seconds(session.created_at, session.verified_at),
        ssh_attempts=session.ssh_attempts,
        verified=session.verified_at is not None,
        gpu=hardware(session),
        logins=tuple(entry(login) for login in trial.logins),
        reason=session.reason,
        reason_text=session.reason_text,
        cleanup_seconds=seconds(session.stop_requested_at, session.ended_at),
        gone=session.state == State.ENDED and all(attempt.is_closed for attempt in attempts),
        cost=sum((attempt.cost(now) for attempt in attempts), Decimal(0)).quantize(
            Decimal("0.000001")
        ),
    )


def offer(attempt: Attempt) -> str:
    facts = attempt.offer
    place = facts.get("place") or facts.get("country") or "place unknown"
    return f"{facts.get('gpu_name')}, {place}, ${attempt.price_per_hour:.3f}/hr"


def address(session: Session) -> str:
    way = session.ssh_way
    return f"{way['user']}@{way['host']}:{way['port']}" if way else ""


def hardware(session: Session) -> str:
    gpus = session.found.get("gpus") or []
    return ", ".join(f"{name} {memory} MB" for name, memory in gpus)


def entry(login: Login) -> Entry:
    return Entry(
        account=login.account,
        key="a person's key" if login.by_person else "gpubroker's key",
        ok=login.ok,
        words=login.check.message,
        tries=login.tries,
    )


def seconds(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 1) if start and end else None


# -- what went wrong


def bugs(trial: Trial, result: Result) -> Iterator[Bug]:
    """Classified by what happened, the worst first."""
    if result.refused:
        yield Bug(
            severity=HIGH,
            provider=result.provider,
            description="Nothing could be launched",
            evidence=result.refused,
        )
    if not trial.session:
        return
    if not result.gone:
        yield Bug(
            severity="CRITICAL",
            provider=result.provider,
            description="A machine is not proven gone; it may still cost money",
            evidence=f"session {result.code}, instances {', '.join(result.instances)}",
            advice="Look at the marketplace's own console now.",
        )
    if result.reason not in ("", "user"):
        yield ending(trial.session, result)
    yield from login_bugs(result)
    for attempt in trial.session.attempts.order_by("number"):
        yield from create_bugs(attempt)


def ending(session: Session, result: Result) -> Bug:
    """Why the session ended by itself."""
    words = explain.reason(result.reason)
    description = words.title
    if result.reason in KEYS_FAIL and session.ssh_stage == "open":
        description = "SSH key not installed: the server answers and refuses the login"
    seen = f"{result.ssh_attempts} SSH attempts, last: {session.ssh_message}"
    evidence = [result.reason_text, seen if result.ssh_attempts else ""]
    severity = MEDIUM if result.reason in ("no_offers", "offer_gone") else HIGH
    return Bug(
        severity=severity,
        provider=result.provider,
        description=description,
        evidence="; ".join(filter(None, evidence)) or words.meaning,
        advice=words.advice,
    )


def login_bugs(result: Result) -> Iterator[Bug]:
    """The lifecycle was let in, but not everybody who should be."""
    for login in result.logins:
        if login.ok:
            continue
        what = f"SSH key not installed for the account `{login.account}`"
        if login.key.startswith("a person"):
            what = f"The person's own key does not let them in as `{login.account}`"
        yield Bug(
            severity=HIGH,
            provider=result.provider,
            description=what,
            evidence=f"{login.tries} logins as {login.account}, last: {login.words}",
            advice="Compare with how the adapter installs keys for each account.",
        )


CREATES = {
    CreateOutcome.OFFER_GONE: (LOW, "Stale stock: a listed offer was not there"),
    CreateOutcome.UNKNOWN: (MEDIUM, "Create call without a clear answer (API time-out or error)"),
    CreateOutcome.LEFTOVER: (HIGH, "A refused create call left a machine behind"),
}


def create_bugs(attempt: Attempt) -> Iterator[Bug]:
    if attempt.outcome in CREATES:
        severity, description = CREATES[CreateOutcome(attempt.outcome)]
        yield Bug(
            severity=severity,
            provider=attempt.provider,
            description=description,
            evidence=f"offer {attempt.offer_id}: {attempt.message or 'no words'}",
        )


def numbered(found: Iterable[Bug], passed: set[str]) -> Iterator[Bug]:
    """The same thing on the same marketplace counts once, with all its evidence."""
    merged: dict[tuple[str, str], Bug] = {}
    for bug in found:
        key = (bug.provider, bug.description)
        before = merged.get(key)
        merged[key] = replace(bug, evidence=f"{before.evidence}; {bug.evidence}") if before else bug
    for number, bug in enumerate(merged.values(), 1):
        over = bug.provider in passed and bug.severity != "CRITICAL"
        status = "WORKED AROUND (another try passed)" if over else bug.status
        yield replace(bug, id=f"BUG-{number:03}", status=status)


def warnings(providers: Sequence[str], now: datetime) -> Iterator[Line]:
    if settings.SIMULATED:
        yield Line(at=now, what="Simulated", details="No real marketplace took part.")
    for problem in settings.CONFIG_PROBLEMS:
        yield Line(at=now, what="Configuration", details=problem)
    for health in ProviderHealth.objects.filter(provider__in=providers):
        title = registry.title(health.provider)
        for text in (health.offers_error, health.listing_error, health.frozen_reason):
            if text:
                yield Line(at=now, what=title, details=text)
        seen = survey.survey(health.provider)
        if seen.foreign:
            rate = survey.rate(seen.foreign)
            details = f"{len(seen.foreign)} machines are not managed here, ${rate:.3f}/h"
            yield Line(at=now, what=title, details=details)


def events(sessions: Sequence[Session]) -> Iterator[Line]:
    titles = {session.code: registry.title(session.provider) for session in sessions}
    for row in AuditEvent.objects.filter(session_code__in=titles):
        text, details = explain.event(row)
        what = f"{titles[row.session_code]} {row.session_code[:6]}: {text}"
        yield Line(at=row.at, what=what, details=details)


def status_of(report: Report, provider: str) -> str:
    if report.operational(provider):
        return OPERATIONAL
    mine = [bug for bug in report.bugs if bug.provider == provider]
    worst = next((bug for bug in mine if bug.severity in ("CRITICAL", HIGH)), None)
    return (worst or mine[0]).description if mine else "NOT TESTED"
