"""What a run shows in figures (safety.md 6.11): pure functions of its Evidence.

Seconds are simulated ones, real seconds times the clock factor, unless a name says `real`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from math import ceil

from tests.invariants import CLOSED, MUTATIONS, Evidence, Row

Series = dict[str, list[float]]
ALL = "all"
BILLED_LONG = 60  # real seconds: below, one late look is more than 1 % of the bill
ANSWERS = ("attempt.adopted", "attempt.not_created", "attempt.gone", "orphan.gone")
UNHEARD = {  # results that claim no answer of the marketplace
    "create": ("unknown", "not_sent"),
    "destroy": ("retry", "not_found"),  # also what a read just before it may say
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run at one marketplace, on one database."""

    provider: str
    database: str
    counts: dict[str, int] = field(default_factory=dict)
    series: Series = field(default_factory=dict)

    def dump(self) -> dict[str, object]:
        return asdict(self)


def samples(
    seen: Evidence,
    *,
    clock: float,
    database: str = "sqlite",
    kills: Iterable[datetime] = (),
    fair: bool = True,
) -> list[Sample]:
    """One for each marketplace. `fair` = all that lived was billed at its rate: costs compare."""
    names = sorted({str(attempt["provider"]) for attempt in seen.attempts})
    found = []
    for name in names:
        own = only(seen, name)
        series = durations(own, clock) | {"recovery_real": recoveries(own, kills)}
        series |= {"leaked_usd": leaked_usd(own)}
        series |= cost_errors(own) if fair else {}
        found.append(
            Sample(provider=name, database=database, counts=counts(own), series=filled(series))
        )
    return found


def only(seen: Evidence, provider: str) -> Evidence:
    """What belongs to one marketplace; the audit stays whole, it is found by label."""

    def mine(rows: Iterable[Row]) -> list[Row]:
        return [row for row in rows if row["provider"] == provider]

    return replace(
        seen,
        ledger=mine(seen.ledger),
        wire=mine(seen.wire),
        attempts=mine(seen.attempts),
        sessions=mine(seen.sessions),
    )


def filled(series: Series) -> Series:
    return {name: values for name, values in series.items() if values}


# -- counts


def counts(seen: Evidence) -> dict[str, int]:
    foreign = [row for row in seen.ledger if row["foreign"]]
    unknown, adopted = unknowns(seen), events(seen, "attempt.adopted")
    existed = {row["label"] for row in seen.ours()}
    wire, claims = on_the_wire(seen), claimed(seen)
    return {
        "runs": 1,
        "instances": len(seen.ours()),
        "leaked": len(leaks(seen)),
        "foreign": len(foreign),
        "foreign_destroyed": len(harmed(seen, foreign)),
        "duplicates_kept": duplicates(seen),
        "unknown": len(unknown),
        "unknown_alive": sum(a["label"] in existed for a in unknown),
        "adopted": sum(a["label"] in adopted and a["label"] in existed for a in unknown),
        "wire": len(wire),
        "wire_matched": sum(wire),
        "claims": len(claims),
        "claims_matched": sum(claims),
    }


def leaks(seen: Evidence) -> list[Row]:
    """Ours without an attempt, alive although its attempt is closed, or gone only afterwards."""
    by_label = {attempt["label"]: attempt for attempt in seen.attempts}

    def leaked(row: Row) -> bool:
        attempt = by_label.get(row["label"])
        if attempt is None:
            return True
        if row["gone_at"] is None:
            return attempt["resolution"] in CLOSED
        return bool(attempt["gone_at"]) and row["gone_at"] > attempt["gone_at"]

    return [row for row in seen.ours() if leaked(row)]


def harmed(seen: Evidence, foreign: Iterable[Row]) -> set[object]:
    """Ids of others' machines that are gone, or at which a mutation was aimed."""
    rows = list(foreign)
    ids = {row["instance_id"] for row in rows}
    aimed = {r["instance_id"] for r in seen.wire if r["operation"] in MUTATIONS}
    return {row["instance_id"] for row in rows if row["gone_at"]} | (ids & aimed)


def duplicates(seen: Evidence) -> int:
    """Machines beyond one that a session still had when it was stopped."""
    kept = 0
    for session, asked in stops(seen):
        labels = seen.labels_of(session)
        alive = [
            row for row in seen.ours()
            if row["label"] in labels and row["created_at"] <= asked
            and (row["gone_at"] is None or row["gone_at"] > asked)
        ]  # fmt: skip
        kept += max(0, len(alive) - 1)
    return kept


def unknowns(seen: Evidence) -> list[Row]:
    """Attempts whose create left, and whose answer was lost or said nothing."""
    found = events(seen, "attempt.adopted")
    return [
        a for a in seen.attempts
        if a["sent_at"] and (a["outcome"] in ("", "unknown") or a["label"] in found)
    ]  # fmt: skip


def on_the_wire(seen: Evidence) -> list[bool]:
    """Each mutating request: had it an intent of its own before it, and an answer after it?"""
    ends = {label: events_of(seen, label, ANSWERS) for label in {r["label"] for r in seen.wire}}
    verdicts = []
    for (operation, label), requests in by_target(seen.wire).items():
        intents = events_of(seen, label, (f"provider.{operation}.intent",))
        results = events_of(seen, label, (f"provider.{operation}.result",))
        for request in requests:
            intended = bool(intents) and intents.pop(0) <= request["at"]
            answered = any(at >= request["at"] for at in (*results, *ends[label]))
            verdicts.append(intended and answered)
    return verdicts


def claimed(seen: Evidence) -> list[bool]:
    """Each result that tells of an answer: was there a request of its own before it?"""
    requests = by_target(seen.wire)
    labels = {attempt["label"] for attempt in seen.attempts}
    verdicts = []
    for event in seen.audit:
        _, operation, kind = (*str(event["action"]).split("."), "", "")[:3]
        if kind != "result" or event["label"] not in labels or not answered(operation, event):
            continue
        own = requests.get((operation, event["label"]), [])
        verdicts.append(bool(own) and own.pop(0)["at"] <= event["at"])
    return verdicts


def answered(operation: str, event: Row) -> bool:
    data: Mapping[str, object] = event["data"]  # type: ignore[assignment]
    if operation == "attach":
        return not data.get("problem")
    return data.get("outcome") not in UNHEARD.get(operation, ())


def by_target(wire: Iterable[Row]) -> dict[tuple[str, object], list[Row]]:
    found: dict[tuple[str, object], list[Row]] = defaultdict(list)
    for request in sorted(wire, key=lambda request: request["at"]):
        if request["operation"] in MUTATIONS:
            found[str(request["operation"]), request["label"]].append(request)
    return found


# -- durations


def durations(seen: Evidence, clock: float) -> Series:
    found = {
        "leaked_seconds": leaked_for(seen),
        "extra_billed": extra_billed(seen),
        "orphan": orphan_lives(seen),
        "stop": stopping_times(seen),
        "resolved": resolving_times(seen),
    }
    return {name: [at.total_seconds() * clock for at in spans] for name, spans in found.items()}


def leaked_for(seen: Evidence) -> list[timedelta]:
    """How long each leaked machine was billed unknown to us; alive: until the last thing seen."""
    by_label = {attempt["label"]: attempt for attempt in seen.attempts}
    last = max((event["at"] for event in seen.audit), default=None)
    spans = []
    for row in leaks(seen):
        attempt = by_label.get(row["label"]) or {}
        since = attempt.get("gone_at") or attempt.get("resolved_at") or row["created_at"]
        spans.append(max((row["gone_at"] or last or since) - since, timedelta()))
    return spans


def leaked_usd(seen: Evidence) -> list[float]:
    spans = zip(leaks(seen), leaked_for(seen), strict=True)
    return [span.total_seconds() * float(row["price_per_hour"]) / 3600 for row, span in spans]


def extra_billed(seen: Evidence) -> list[timedelta]:
    """For each lost answer: how long a machine was billed that the session did not use."""
    adopted = events(seen, "attempt.adopted")
    lost = [*unknowns(seen), *(a for a in seen.attempts if a["outcome"] == "leftover")]
    return [
        timedelta() if a["label"] in adopted else sum(lives(seen, a["label"]), timedelta())
        for a in lost
    ]


def lives(seen: Evidence, label: object) -> list[timedelta]:
    return [
        r["gone_at"] - r["created_at"] for r in seen.ours() if r["label"] == label and r["gone_at"]
    ]


def orphan_lives(seen: Evidence) -> list[timedelta]:
    """From belonging to nobody to being gone."""
    by_label = {attempt["label"]: attempt for attempt in seen.attempts}
    orphans = events(seen, "orphan.seen")
    spans = []
    for row in seen.ours():
        if row["label"] in orphans and row["gone_at"]:
            attempt = by_label.get(row["label"]) or {}
            closed = attempt.get("resolved_at") or row["created_at"]
            spans.append(row["gone_at"] - min(max(row["created_at"], closed), row["gone_at"]))
    return spans


def stopping_times(seen: Evidence) -> list[timedelta]:
    """From the decision to stop to the proof that the machine is gone."""
    spans = []
    for session, asked in stops(seen):
        attempts = [a for a in seen.attempts if a["session_id"] == session["id"]]
        last = max(attempts, key=lambda attempt: attempt["number"], default=None)
        if last and last["instance_id"] and last["gone_at"]:
            spans.append(max(last["gone_at"] - asked, timedelta()))
    return spans


def resolving_times(seen: Evidence) -> list[timedelta]:
    """From the lost answer to "adopted" or "not created"."""
    ends = events(seen, "attempt.adopted") | events(seen, "attempt.not_created")
    return [
        max(ends[a["label"]] - (a["answered_at"] or a["sent_at"]), timedelta())
        for a in unknowns(seen) if a["label"] in ends
    ]  # fmt: skip


def recoveries(seen: Evidence, kills: Iterable[datetime]) -> list[float]:
    """Real seconds from each kill to the next thing on record, restart included."""
    times = [event["at"] for event in seen.audit]
    after = (min((at for at in times if at > kill), default=None) for kill in kills)
    return [(at - kill).total_seconds() for at, kill in zip(after, kills, strict=True) if at]


# -- money


def cost_errors(seen: Evidence) -> Series:
    """Our cost of what is gone against the ledger's; USD, real seconds of its price, percent.

    Before the GPU is billed we count more than the marketplace, on purpose: that is no error.
    """
    found: Series = {"cost_usd": [], "cost_real": [], "cost_percent": []}
    by_label = {row["label"]: row for row in seen.ours()}
    for attempt in seen.attempts:
        row = by_label.get(attempt["label"])
        if row is None or not row["gone_at"] or not attempt["gone_at"]:
            continue
        rate = float(attempt["actual_price_per_hour"] or attempt["price_per_hour"]) / 3600
        billed, error = float(row["billed_usd"]), cost_error(attempt, row, rate)
        found["cost_usd"].append(error)
        found["cost_real"].append(error / rate)
        if billed > rate * BILLED_LONG:
            found["cost_percent"].append(100 * error / billed)
    return found


def cost_error(attempt: Row, row: Row, rate: float) -> float:
    until = attempt["destroy_accepted_at"] or attempt["first_absence_at"] or attempt["gone_at"]
    ours = rate * (until - attempt["sent_at"]).total_seconds()
    return abs(ours - float(row["billed_usd"]) - before_billing(attempt, row, rate))


def before_billing(attempt: Row, row: Row, rate: float) -> float:
    """USD of the way to the marketplace and of the boot, during which only the disk is billed."""
    on_its_way = (row["created_at"] - attempt["sent_at"]).total_seconds()
    lived = (row["gone_at"] - row["created_at"]).total_seconds()
    without_gpu = lived - float(row["gpu_seconds"])
    return rate * on_its_way + (rate - float(row["disk_rate"]) / 3600) * without_gpu


# -- reading the audit


def events(seen: Evidence, action: str) -> dict[object, datetime]:
    """label -> when it was first told."""
    found: dict[object, datetime] = {}
    for event in seen.audit:
        if event["action"] == action:
            found.setdefault(event["label"], event["at"])
    return found


def events_of(seen: Evidence, label: object, actions: Iterable[str]) -> list[datetime]:
    return [e["at"] for e in seen.audit if e["label"] == label and e["action"] in actions]


def stops(seen: Evidence) -> list[tuple[Row, datetime]]:
    """(session, when it was decided to stop it)."""
    asked: dict[object, datetime] = {}
    for event in seen.audit:
        if event["action"] == "session.state" and event["data"]["to"] == "stopping":
            asked.setdefault(event["session_code"], event["at"])
    return [(s, asked[s["code"]]) for s in seen.sessions if s["code"] in asked]


# -- all runs together


def totals(found: Iterable[Sample]) -> dict[str, Sample]:
    """ "provider/database" and "all" -> one sample with everything in it."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in found:
        groups[f"{sample.provider}/{sample.database}"].append(sample)
        groups[ALL].append(sample)
    return {name: merged(group) for name, group in sorted(groups.items())}


def merged(group: list[Sample]) -> Sample:
    counted: Counter[str] = Counter()
    series: Series = defaultdict(list)
    for sample in group:
        counted.update(sample.counts)
        for name, values in sample.series.items():
            series[name] += values
    return replace(group[0], counts=dict(counted), series=dict(series))


def figures(sample: Sample) -> dict[str, object]:
    """Counts as they are, series as n, p50, p99 and max."""
    return {**sample.counts, **{name: spread(each) for name, each in sample.series.items()}}


def spread(values: list[float]) -> dict[str, float]:
    at = {"p50": percentile(values, 50), "p99": percentile(values, 99), "max": max(values)}
    return {"n": len(values), **{name: round(value, 6) for name, value in at.items()}}


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share / 100 * len(ordered)) - 1)]


def percent(part: int, whole: int) -> float:
    return 100.0 if not whole else 100 * part / whole


def match_percent(sample: Sample) -> float:
    """Both ways: requests with their intent and answer, answers with their request."""
    names = ("wire", "claims")
    whole = sum(sample.counts.get(name, 0) for name in names)
    return percent(sum(sample.counts.get(f"{name}_matched", 0) for name in names), whole)


def values(found: Iterable[Sample], name: str) -> list[float]:
    return list(chain.from_iterable(sample.series.get(name, []) for sample in found))
