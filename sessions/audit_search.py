"""AuditFilters -> one page of the trail with its facets. Seven queries, however long it is."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Count

from providers import registry

from . import explain
from .audit_filters import MANY, AuditFilters
from .models import AuditEvent, AuditEventQuerySet, Session

PAGE = 50
MOST_OPTIONS = 60  # of one facet
INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)(?:\.\d+)?\+00:00")
ENDS = ("from", "to")
EMPTY = (None, "", [], {})
EXPORTED = 20_000  # events in one file: what fits into memory and a spreadsheet


@dataclass(frozen=True, kw_only=True)
class Option:
    value: str
    label: str
    count: int
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Change:
    """What something was, and what it became."""

    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Line:
    event: AuditEvent
    text: str
    detail: str  # somebody else's words, or a figure
    who: str
    provider: str  # its title
    session_id: str  # of the page to link to
    change: Change | None
    facts: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Found:
    lines: list[Line]
    matching: int
    facets: dict[str, list[Option]]
    older: int | None  # `before` of the next page


def search(visible: AuditEventQuerySet, filters: AuditFilters, now: datetime) -> Found:
    rows = matching(visible, filters, now)
    page = rows if filters.before is None else rows.filter(sequence__lt=filters.before)
    events = list(page.order_by("-sequence")[: PAGE + 1])
    counts = {name: counted(visible, filters, name, now) for name in MANY}
    people = names({*counts["actor"], *(event.actor for event in events)})
    return Found(
        lines=lines(events[:PAGE], people),
        matching=rows.count(),
        facets={name: options(name, counts[name], filters, people) for name in MANY},
        older=events[PAGE - 1].sequence if len(events) > PAGE else None,
    )


def matching(
    visible: AuditEventQuerySet, filters: AuditFilters, now: datetime, besides: str = ""
) -> AuditEventQuerySet:
    """All that fits, whatever page is shown; `besides` = as if this facet chose nothing."""
    exact = {"session_code": filters.session, "label": filters.label, "request_id": filters.request}
    rows = visible.filter(**{name: value for name, value in exact.items() if value})
    for name in MANY:
        if name != besides and getattr(filters, name):
            rows = rows.filter(**{f"{name}__in": getattr(filters, name)})
    since = filters.since(now)
    return rows.filter(at__gte=since) if since else rows


def counted(
    visible: AuditEventQuerySet, filters: AuditFilters, name: str, now: datetime
) -> dict[str, int]:
    rows = matching(visible, filters, now, besides=name).exclude(**{name: ""})
    grouped = rows.order_by().values_list(name).annotate(number=Count("pk"))
    return dict(grouped.order_by("-number", name)[:MOST_OPTIONS])


def options(
    name: str, counts: Mapping[str, int], filters: AuditFilters, people: Mapping[str, str]
) -> list[Option]:
    """What is chosen stays on offer, also when nothing of it is left."""
    titles = {name: registry.title(name) for name in counts} if name == "provider" else people
    chosen = getattr(filters, name)
    values = [*counts, *(value for value in chosen if value not in counts)]
    return [
        Option(
            value=value,
            label=titles.get(value, value),
            count=counts.get(value, 0),
            chosen=value in chosen,
        )
        for value in values
    ]


def names(actors: set[str]) -> dict[str, str]:
    """ "user:7" -> the name of that account today; a deleted one keeps its number."""
    ids = [actor.removeprefix("user:") for actor in actors if actor.startswith("user:")]
    people = get_user_model().objects.filter(pk__in=[pk for pk in ids if pk.isdigit()])
    return {f"user:{person.pk}": person.get_username() for person in people}


def lines(events: Sequence[AuditEvent], people: Mapping[str, str]) -> list[Line]:
    codes = {event.session_code for event in events if event.session_code}
    pages = dict(Session.objects.filter(code__in=codes).values_list("code", "pk"))
    return [
        line(event, people.get(event.actor, event.actor), str(pages.get(event.session_code, "")))
        for event in events
    ]


def line(event: AuditEvent, who: str, session_id: str) -> Line:
    text, detail = explain.event(event)
    change = changed(event.data)
    data = {name: value for name, value in event.data.items() if not (change and name in ENDS)}
    return Line(
        event=event,
        text=text,
        detail=detail,
        who=who,
        provider=registry.title(event.provider) if event.provider else "",
        session_id=session_id,
        change=change,
        facts=[(name, plain(data[name])) for name in sorted(data) if data[name] not in EMPTY],
    )


def changed(data: Mapping[str, Any]) -> Change | None:
    if not all(name in data for name in ENDS):
        return None
    return Change(before=plain(data["from"]), after=plain(data["to"]))


def plain(value: Any) -> str:
    """JSON as people read it: one line, no quotes around a text."""
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items()) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value in (None, "") else INSTANT.sub(r"\1 \2 UTC", str(value))
