"""What needs attention, as a list of alerts: from rows alone, nothing is changed or asked."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.urls import reverse

from providers import catalog, registry
from providers.models import ProviderHealth
from providers.waits import span

from . import audit, audit_watch, identity, labels, money, page, switch
from .models import Attempt, Heartbeat, Session, SessionQuerySet
from .orphans import Orphan, orphans
from .rules import ABSENCES_VANISHED, RULES
from .states import Resolution, State
from .survey import Survey, survey
from .templatetags.figures import rate

BAD, WARN, INFO = "bad", "warn", "info"
ORDER = (BAD, WARN, INFO)
WORKER_SILENCE = timedelta(seconds=60)
OVERDUE_SECONDS = 60  # I20
OVERDUE_AT_LEAST = timedelta(seconds=15)  # a busy machine is no alert, whatever the clock factor
LISTING_SECONDS = 45  # without a complete listing although one was tried


@dataclass(frozen=True, kw_only=True)
class Alert:
    """`key` is the same as long as the trouble is the same; `since` None = not known."""

    key: str
    severity: str
    title: str
    text: str = ""
    since: datetime | None = None
    link: str = ""
    provider: str = ""
    session: Session | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the whole installation is in. The number of queries grows with marketplaces alone."""

    sessions: list[Session]  # the open ones, with attempts and owners
    healths: Mapping[str, ProviderHealth]
    surveys: list[Survey]
    orphans: list[Orphan]


def scene(now: datetime) -> Scene:
    healths = {row.provider: row for row in ProviderHealth.objects.order_by("provider")}
    surveys = [survey(name) for name in registry.names()]
    return Scene(
        sessions=opened(Session.objects.all()),
        healths=healths,
        surveys=surveys,
        orphans=orphans(surveys, healths, now),
    )


def opened(visible: SessionQuerySet) -> list[Session]:
    whole = visible.open().select_related("owner").prefetch_related("attempts")
    return list(whole.order_by("created_at"))


def alerts(seen: Scene, now: datetime) -> list[Alert]:
    """All there are, the worst first."""
    found = [
        *deployment(),
        *worker(now),
        *(alert for survey in seen.surveys for alert in marketplace(survey, seen, now)),
        *without_key(seen),
        *(alert for orphan in seen.orphans for alert in orphan_alert(orphan, now)),
        *overdue(seen.sessions, now),
        *of_sessions(seen.sessions, now),
    ]
    return ordered(found)


def of_sessions(sessions: Iterable[Session], now: datetime) -> list[Alert]:
    """At most one for each session: what its owner may know."""
    return ordered(alert for session in sessions for alert in of_session(session, now))


def ordered(found: Iterable[Alert]) -> list[Alert]:
    return sorted(found, key=lambda alert: ORDER.index(alert.severity))


def deployment() -> Iterator[Alert]:
    problem, doubt = audit.anchor_problem(), identity.current().read_only
    verdict = audit_watch.verdict()
    if problem := problem or (verdict.problem if verdict else ""):
        yield Alert(
            key="audit", severity=BAD, title="The audit trail is not whole", text=problem,
            since=verdict.broken_since if verdict else None,
        )  # fmt: skip
    if doubt:
        title = "Read-only: nothing is created or destroyed"
        yield Alert(key="identity", severity=BAD, title=title, text=doubt)


def worker(now: datetime) -> Iterator[Alert]:
    beat = Heartbeat.objects.filter(name="worker").first()
    yield from silence(beat.at if beat else None, now)


def silence(at: datetime | None, now: datetime) -> Iterator[Alert]:
    if at and now - at < WORKER_SILENCE:
        return
    yield Alert(
        key="worker",
        severity=BAD,
        title="The worker gives no sign of life",
        text="Nothing is started, watched or destroyed until it runs again.",
        since=at,
    )


def marketplace(seen: Survey, scene: Scene, now: datetime) -> Iterator[Alert]:
    health, title = scene.healths.get(seen.provider), registry.title(seen.provider)
    own = {"provider": seen.provider, "link": reverse("providers")}
    if health and health.frozen_reason:
        yield Alert(
            key=f"frozen:{seen.provider}", severity=BAD, text=health.frozen_reason,
            title=f"{title}: automatic destroys are held back",
            provider=seen.provider, link=f"{reverse('attention')}#frozen",
        )  # fmt: skip
    if health and health.auth_error:
        yield Alert(
            key=f"key:{seen.provider}", severity=BAD, title=f"{title} refuses the key",
            text=f"“{health.auth_error}”", since=health.auth_refused_at, **own,
        )  # fmt: skip
    if seen.error and seen.read_at and (stale := unlisted(seen, now)):
        yield Alert(
            key=f"listing:{seen.provider}", severity=WARN, text=f"“{seen.error}”", since=stale,
            title=f"{title}: no complete list of the machines", **own,
        )  # fmt: skip
    if others := [i for i in seen.foreign if labels.parse(i.label)]:
        yield Alert(
            key=f"twin:{seen.provider}", severity=WARN, **own,
            title=f"{title}: another gpubroker works on this account",
            text=f"{len(others)} of its machines are there. They are never touched.",
        )  # fmt: skip


def unlisted(seen: Survey, now: datetime) -> datetime | None:
    """Since when no listing was complete; None while that is not long."""
    late = not seen.complete or seen.read_at < now - span(LISTING_SECONDS)
    return seen.read_at if late else None


def without_key(scene: Scene) -> Iterator[Alert]:
    """I9: machines that nobody can stop, because the credentials were taken away."""
    names = registry.names()
    attempts = [
        a for s in scene.sessions for a in s.attempts.all() if not a.is_closed and a.sent_at
    ]
    open_ones = Counter(a.provider for a in attempts if a.provider not in names)
    open_ones.update(o.sighting.provider for o in scene.orphans if o.sighting.provider not in names)
    for provider, count in sorted(open_ones.items()):
        yield Alert(
            key=f"removed:{provider}",
            severity=BAD,
            title=f"{registry.title(provider)} has no key any more, but machines there are billed",
            text=f"{count} cannot be watched or destroyed. Set its key again, or destroy them at "
            "the marketplace.",
            provider=provider,
            link=reverse("providers"),
        )


def orphan_alert(orphan: Orphan, now: datetime) -> Iterator[Alert]:
    sighting = orphan.sighting
    if sighting.ignored_at:
        return
    late = now - sighting.first_seen_at > span(RULES.destroy_alert)
    bad = late if orphan.known else True
    yield Alert(
        key=f"orphan:{sighting.provider}:{sighting.instance_id}",
        severity=BAD if bad else WARN,
        title=f"{orphan.title}: machine {sighting.instance_id} belongs to no session",
        text="It carries our label and is billed.",
        since=sighting.first_seen_at,
        provider=sighting.provider,
        link=f"{reverse('attention')}#orphans",
    )


def overdue(sessions: Sequence[Session], now: datetime) -> Iterator[Alert]:
    """I20. One alert for all: they have one cause."""
    limit = now - max(span(OVERDUE_SECONDS), OVERDUE_AT_LEAST)
    late = [
        session
        for session in sessions
        if session.due_at < limit and not (session.claimed_until and session.claimed_until >= now)
    ]
    if late:
        many = f"{len(late)} sessions wait" if len(late) > 1 else "A session waits"
        yield Alert(
            key="overdue", severity=BAD, title=f"{many} for a look that is overdue",
            text="The worker does not keep up.", since=min(s.due_at for s in late),
            link=reverse("sessions"),
        )  # fmt: skip


def of_session(session: Session, now: datetime) -> Iterator[Alert]:
    attempts = sorted(session.attempts.all(), key=lambda attempt: attempt.number)
    attempt = attempts[-1] if attempts else None
    found = (
        stopping(session, attempt, now)
        or leftover(attempt, now)
        or running(session, attempt, now)
        or missing(session, attempt)
        or ending(session, now)
    )
    if found:
        kind, severity, text, since = found
        name = page.name(session, attempt)
        yield Alert(
            key=f"{kind}:{session.code}",
            severity=severity,
            title=f"{name}: {text}",
            since=since,
            link=reverse("session", args=[session.pk]),
            provider=session.provider,
            session=session,
        )


Found = tuple[str, str, str, datetime | None] | None  # kind, severity, words, since


def stopping(session: Session, attempt: Attempt | None, now: datetime) -> Found:
    if session.state != State.STOPPING:
        return None
    return not_gone(session.state_since, attempt, now)


def leftover(attempt: Attempt | None, now: datetime) -> Found:
    if attempt is None or attempt.resolution != Resolution.LEFTOVER:
        return None
    return not_gone(attempt.answered_at or attempt.created_at, attempt, now)


def not_gone(since: datetime, attempt: Attempt | None, now: datetime) -> Found:
    """I9: still there after 5 minutes, and louder after 15."""
    if now - since <= span(RULES.destroy_alert):
        return None
    loud = now - since > span(RULES.destroy_late)
    tries = attempt.destroy_tries if attempt else 0
    text = f"not yet gone, still billed; destroy sent {tries}×"
    return "destroy", BAD if loud else WARN, text, since


def running(session: Session, attempt: Attempt | None, now: datetime) -> Found:
    if session.state != State.RUNNING:
        return None
    if attempt and switch.late(session, attempt, now):
        at = switch.fires_at(attempt)
        text = f"the machine will destroy itself at {at:%H:%M} UTC although it was extended"
        return "switch", BAD, text, attempt.switch_at - switch.WARN_BEFORE
    if session.host_key_changed:
        return "hostkey", BAD, "the SSH host key changed", session.unreachable_since
    if attempt and money.dearer(attempt):
        text = f"billed {rate(attempt.actual_price_per_hour)} an hour, agreed were "
        return "price", WARN, text + rate(attempt.price_per_hour), since_when(attempt)
    if session.unreachable_since:
        return "unreachable", WARN, "SSH does not answer", session.unreachable_since
    if session.idle_stops_at:
        text = f"idle; stops at {session.idle_stops_at:%H:%M} UTC unless it is used"
        return "idle", WARN, text, session.idle_warned_at
    return None


def since_when(attempt: Attempt) -> datetime | None:
    earlier = attempt.offer.get("rates")
    return datetime.fromisoformat(earlier[-1][0]) if earlier else None


def missing(session: Session, attempt: Attempt | None) -> Found:
    """Nobody destroyed it, and complete listings lack it."""
    if attempt is None or attempt.is_closed or attempt.destroy_sent_at or not attempt.absences:
        return None
    text = f"the marketplace no longer lists it ({attempt.absences} of {ABSENCES_VANISHED} looks)"
    return "missing", WARN, text, attempt.first_absence_at


def ending(session: Session, now: datetime) -> Found:
    if session.state != State.RUNNING or session.expires_at - now >= page.ENDS_SOON:
        return None
    return "ending", INFO, "ends soon", session.expires_at - page.ENDS_SOON


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A marketplace whose readings are not believed (I13)."""

    name: str
    title: str
    reason: str
    by_hand: bool  # somebody may release it; otherwise only the right key does


def frozen(scene: Scene) -> list[Frozen]:
    return [
        Frozen(
            name=health.provider,
            title=registry.title(health.provider),
            reason=health.frozen_reason,
            by_hand=not catalog.is_other_account(health),
        )
        for health in scene.healths.values()
        if health.frozen_reason and health.provider in registry.names()
    ]
