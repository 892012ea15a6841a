"""What a person asked of the audit page: its address -> AuditFilters and back. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlencode

PERIODS = {"1": "24 hours", "7": "7 days", "30": "30 days", "all": "Everything"}
MANY = ("action", "actor", "provider")
EXACT = ("session", "label", "request")  # columns session_code, label, request_id
PATTERNS = {
    "action": r"[a-z0-9_.]{1,40}",
    "actor": r"[a-z0-9:_.-]{1,80}",
    "provider": r"[a-z0-9_-]{1,20}",
    "session": r"[a-z0-9]{1,16}",
    "label": r"[a-z0-9-]{1,60}",
    "request": r"[A-Za-z0-9-]{1,40}",
}
WORDS = {
    "session": "a session's code",
    "label": "a machine's label",
    "request": "a request's id",
}
MOST_CHOSEN = 50


@dataclass(frozen=True, kw_only=True)
class AuditFilters:
    action: tuple[str, ...] = ()
    actor: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    session: str = ""
    label: str = ""
    request: str = ""
    period: str = ""  # one of PERIODS; empty = the default for what else is asked
    before: int | None = None  # only events with a smaller sequence: the next page
    ignored: tuple[str, ...] = ()  # sentences about what was not understood

    @property
    def span(self) -> str:
        """Who names one thing wants its whole history; else a week, so that counting stays fast."""
        return self.period or ("all" if any(getattr(self, name) for name in EXACT) else "7")

    def since(self, now: datetime) -> datetime | None:
        return None if self.span == "all" else now - timedelta(days=int(self.span))

    def query(self, **changes: object) -> str:
        """The shortest query string that means this; a changed filter starts at the newest."""
        other = replace(self, **{"before": None} | changes)
        pairs = [(name, value) for name in MANY for value in getattr(other, name)]
        pairs += [(name, getattr(other, name)) for name in (*EXACT, "period", "before")]
        return urlencode([(name, value) for name, value in pairs if value])

    def without(self, name: str, value: str = "") -> str:
        if name in MANY:
            return self.query(**{name: tuple(v for v in getattr(self, name) if v != value)})
        return self.query(**{name: ""})

    def chips(self) -> list[tuple[str, str, str]]:
        """(name, value, query string without it) of everything that narrows, but the period."""
        chosen = [(name, value) for name in MANY for value in getattr(self, name)]
        chosen += [(name, getattr(self, name)) for name in EXACT if getattr(self, name)]
        return [(name, value, self.without(name, value)) for name, value in chosen]


def parse(query: Mapping[str, Sequence[str]]) -> AuditFilters:
    """Never raises: what makes no sense is left out and named in `ignored`."""
    found: dict[str, object] = {}
    ignored: list[str] = []
    for name in MANY:
        texts = [text for text in query.get(name, ()) if text][:MOST_CHOSEN]
        good = [text for text in texts if re.fullmatch(PATTERNS[name], text)]
        found[name] = tuple(dict.fromkeys(good))
        ignored += [f"That is no {name}." for text in texts if text not in good]
    for name in EXACT:
        text = (query.get(name) or [""])[-1].strip()
        if re.fullmatch(PATTERNS[name], text):
            found[name] = text
        elif text:
            ignored.append(f"That is not {WORDS[name]}.")
    found["period"] = _period(query, ignored)
    found["before"] = _number(query)
    return AuditFilters(**found, ignored=tuple(dict.fromkeys(ignored)))


def _period(query: Mapping[str, Sequence[str]], ignored: list[str]) -> str:
    text = (query.get("period") or [""])[-1]
    if text and text not in PERIODS:
        ignored.append("That is not a period.")
    return text if text in PERIODS else ""


def _number(query: Mapping[str, Sequence[str]]) -> int | None:
    text = (query.get("before") or [""])[-1]
    return int(text) if re.fullmatch("[1-9][0-9]{0,14}", text) else None
