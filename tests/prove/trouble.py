"""What one drill is: a world is struck, the alert must come, and nothing else may change.

Times are simulated seconds.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import unescape

from tests.prove.stage import Stage
from tests.world import PROVIDERS, until

SOON = 120  # simulated seconds from the trouble to the alert on record
CALM = 60  # simulated seconds of trouble after the alert


@dataclass
class Report:
    """What one drill found; `alerts`: key -> simulated seconds until it was on record."""

    drill: str
    database: str
    alerts: dict[str, float] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    moved: int = 0  # sessions in a wrong state
    sent: int = 0  # mutating requests on the wire
    looks: int = 0  # at the page of a session that could not be ended
    billing: int = 0  # of these, how often it said "still billing"
    seconds: float = 0.0


Act = Callable[[], object]


def both(prefix: str) -> list[str]:
    return [f"{prefix}:{provider}" for provider in PROVIDERS]


def drill(stage: Stage, name: str, keys: Iterable[str], strike: Act, heal: Act) -> Report:
    """`strike` may answer the instant from which the wait for the alert counts."""
    report, began = Report(name, stage.store.name), time.monotonic()
    states, last = stage.states(), stage.last_request()
    since = datetime.now(UTC)
    try:
        struck = strike()
        counted = struck if isinstance(struck, datetime) else since
        for key in keys:
            report.alerts[key] = raised_after(stage, key, since, counted)
            report.problems += unseen(stage, key)
        stage.let_pass(CALM)
        now = stage.states()  # a restored database does not know them all
        report.moved += differences({pk: states[pk] for pk in states.keys() & now.keys()}, now)
    finally:
        heal()
    for key in report.alerts:
        until(f"{name}: {key} is over", lambda key=key: not stage.alerted(key))
    report.moved += differences(states, stage.states())
    report.sent = len(stage.mutations(last))
    return finished(report, began)


def finished(report: Report, began: float) -> Report:
    slow = [key for key, seconds in report.alerts.items() if seconds > SOON]
    report.problems += [f"{key} only after {report.alerts[key]:.0f} s" for key in slow]
    report.problems += [f"{report.moved} sessions changed their state"] * bool(report.moved)
    report.problems += [f"{report.sent} mutating requests"] * bool(report.sent)
    report.seconds = time.monotonic() - began
    word = "FAILED" if report.problems else "ok"
    told = {key: f"{seconds:.0f} s" for key, seconds in report.alerts.items()}
    print(f"{word:6} {report.database} {report.drill} {report.seconds:.0f} s", told or "",
          report.facts or "", *report.problems, flush=True)  # fmt: skip
    return report


def raised_after(stage: Stage, key: str, since: datetime, counted: datetime | None = None) -> float:
    """Simulated seconds until the alert is on record, counted from then on."""
    event = until(f"an alert {key}", lambda: stage.raised(key, since))
    return max(0.0, (event["at"] - (counted or since)).total_seconds() * stage.clock)


def unseen(stage: Stage, key: str) -> list[str]:
    """The page of what needs attention shows the alert by its own words."""
    title = stage.alerted(key)
    page = unescape(stage.http.get(f"{stage.base}/attention/", timeout=30).text)
    return [] if title and title in page else [f"{key} ({title!r}) is not on the page"]


def differences(before: dict[str, str], after: dict[str, str]) -> int:
    return sum(after.get(pk) != state for pk, state in before.items())
