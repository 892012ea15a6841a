"""What browsers are shown of sessions, rendered: once for a page, once for everybody who listens.

A fragment is a file `templates/sessions/_*.html` that renders from its context alone. Each goes
into a wrapper with an id and the version it shows, by which a later push replaces it.
"""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from . import explain, page, typical, watch
from .load import load
from .models import Attempt, AuditEvent, Session, SessionQuerySet, Sighting
from .overview import Overview, Row, Totals, overview, totals
from .states import Outcome, Resolution, State

User = AbstractBaseUser | AnonymousUser
ALL = "all"
TIMELINE_LIMIT = 80
GIVEN_UP = (Resolution.NOT_CREATED, "unknown")  # resolution and outcome of an attempt
CALLED_OFF = "called off"  # an announced idle stop
PARTS = ("head", "notice", "steps", "connect", "load", "hardware", "attempts", "cost", "timeline",
         "stop")  # fmt: skip

PASSING = re.compile(r' data-(?:v|at|cost)="[^"]*"')
COUNTED = re.compile(r'(data-(?:since|until|rate)="[^"]*")[^<]*')  # browsers count on by themselves

watched: Counter[str] = Counter()  # groups with listeners in this process


def strip(user: User) -> Totals:
    """The figures at the top of every page."""
    return totals(Session.objects.visible_to(user), timezone.now())


def audience(user: User) -> str:
    """People who see the same sessions share what is rendered for them."""
    return ALL if user.has_perm("gpu_sessions.view_all_sessions") else str(user.pk)


def seen_by(audience: str) -> SessionQuerySet:
    return Session.objects.all() if audience == ALL else Session.objects.filter(owner_id=audience)


def session_group(pk: UUID) -> str:
    return f"session-{pk}"


def list_group(audience: str) -> str:
    return f"list-{audience}"


def strip_group(audience: str) -> str:
    return f"strip-{audience}"


def owner_group(pk: object) -> str:
    """Where one's own sessions are told of, whatever else one may see."""
    return f"owner-{pk}"


def listening() -> set[str]:
    """The audiences with sockets in this process. Called from a thread: the loop may add some."""
    groups = [group.partition("-") for group in list(watched)]
    return {audience for kind, _, audience in groups if kind == "strip"}


def login_group(session_key: str) -> str:
    """All sockets of one login, so that signing out closes them."""
    return f"login-{session_key}"


def session_context(session: Session, now: datetime) -> dict[str, object]:
    """Four queries: attempts, events, the people named in them, samples; a fifth once a minute,
    and one where a create that was closed had no clear answer."""
    attempts = list(session.attempts.order_by("number"))
    events = AuditEvent.objects.filter(session_code=session.code).order_by("-sequence")
    events = list(events[:TIMELINE_LIMIT])
    usual = typical.of(session.provider, now)
    known = people(events)
    shown = page.context(session, attempts, events, known, usual, late_machines(attempts), now)
    return shown | {"load": load(session, now)}


def late_machines(attempts: list[Attempt]) -> dict[str, Sighting]:
    """Label -> machine that turned up when its create had been given up."""
    given_up = [a.label for a in attempts if (a.resolution, a.outcome) == GIVEN_UP]
    found = Sighting.objects.filter(label__in=given_up) if given_up else ()
    return {sighting.label: sighting for sighting in found}


def people(events: list[AuditEvent]) -> dict[str, str]:
    ids = {e.actor.removeprefix("user:") for e in events if e.actor.startswith("user:")}
    found = get_user_model().objects.filter(pk__in=[i for i in ids if i.isdigit()])
    return {f"user:{user.pk}": user.get_username() for user in found}


def session_parts(context: dict[str, object]) -> dict[str, SafeString]:
    return {name: render_to_string(f"sessions/_session_{name}.html", context) for name in PARTS}


def wrap(name: str, inner: str, version: int, *, push: bool) -> SafeString:
    """Only a push says "replace": htmx would tear such an element out of an ordinary page."""
    oob = mark_safe(' hx-swap-oob="true"') if push else ""
    return format_html(
        '<div id="session-{}" class="session-{}" data-v="{}"{}>{}</div>\n',
        name, name, version, oob, inner,
    )  # fmt: skip


def still(html: str) -> str:
    """What it says apart from the time that passes: a minute later it is no news."""
    return COUNTED.sub(r"\1", PASSING.sub("", html))


def session_fragments(session: Session, now: datetime, *, push: bool) -> dict[str, SafeString]:
    parts = session_parts(session_context(session, now))
    return {name: wrap(name, parts[name], session.version, push=push) for name in parts}


def session_push(session: Session, now: datetime) -> str:
    """The whole present state of a session, to replace what a browser shows."""
    return "".join(session_fragments(session, now, push=True).values()) + title_push(session)


def title_push(session: Session) -> str:
    """live.js copies it into the window's title."""
    return format_html(
        '<span id="page-title" hidden hx-swap-oob="true">{}</span>\n', page_title(session)
    )


def page_title(session: Session) -> str:
    return f"{page.status(session)} · {session.gpu_name}"


def list_html(shown: Overview, *, push: bool) -> str:
    return render_to_string("sessions/_list.html", {"list": shown, "push": push})


def row_html(row: Row, *, push: bool) -> str:
    return render_to_string("sessions/_row.html", {"row": row, "push": push})


def strip_html(shown: Totals, *, push: bool) -> str:
    return render_to_string("sessions/_strip.html", {"strip": shown, "push": push})


def list_push(audience: str, now: datetime) -> str:
    visible = seen_by(audience)
    return list_html(overview(visible, now), push=True) + strip_push(audience, now)


def strip_push(audience: str, now: datetime) -> str:
    """The totals; for those who see all also what is wrong as a whole."""
    shown = strip_html(totals(seen_by(audience), now), push=True)
    return shown + alarm_push(now) if audience == ALL else shown


def alarm_push(now: datetime) -> str:
    context = {"attention": watch.banner(now), "push": True}
    names = ("_alarm.html", "_alarm_count.html")
    return "".join(render_to_string(f"sessions/{name}", context) for name in names)


def milestone(session: Session) -> str:
    """What its owner is told of wherever they are: "running", "idle", "failed", "ended", or ""."""
    if session.state == State.RUNNING and session.idle_stops_at:
        return "idle"
    if session.state == State.STOPPING:
        return "failed" if session.outcome in (Outcome.FAILED, Outcome.LOST) else ""
    return session.state if session.state in (State.RUNNING, State.ENDED) else ""


def milestone_at(session: Session) -> datetime:
    """When it came to the present one."""
    warned = session.idle_warned_at if milestone(session) == "idle" else None
    return warned or session.state_since


def toast_html(session: Session, what: str) -> str:
    """`what` is its milestone, or CALLED_OFF."""
    name = page.name(session, None)
    why = explain.why(session).title if session.reason else ""
    context = {"session": session, "name": name, "milestone": what, "why": why}
    return render_to_string("sessions/_toast.html", context)


def beat_push(now: datetime) -> str:
    """A sign of life: a browser that gets none knows that its connection is dead."""
    return format_html(
        '<span id="beat" hidden data-at="{}" hx-swap-oob="true"></span>\n', now.isoformat()
    )


def audiences_of(sessions: list[Session]) -> Iterator[str]:
    yield ALL
    yield from {str(session.owner_id) for session in sessions}
