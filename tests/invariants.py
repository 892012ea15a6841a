"""What must hold at the end of every test with whole processes (safety.md section 1).

The checkers read the simulator's ledger and wire log, our rows and the audit; never our code.
Each returns sentences about what is wrong; no sentence = the invariant holds. All of them are
dictionaries as they come from JSON and SQLite; instants are aware datetimes in UTC.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

Row = Mapping[str, object]

CLOSED = ("not_created", "gone")
NEXT = {
    "requested": {"creating", "stopping"},
    "creating": {"booting", "stopping"},
    "booting": {"verifying", "stopping"},
    "verifying": {"running", "stopping"},
    "running": {"stopping"},
    "stopping": {"ended"},
    "ended": set(),
}
MUTATIONS = ("create", "destroy", "attach", "change", "detach", "reboot", "bid")
SHARE, SECONDS = 0.01, 60  # how far our cost may be from the ledger's: 1 % or a minute's price


@dataclass(frozen=True, kw_only=True)
class Evidence:
    ledger: list[Row] = field(default_factory=list)
    wire: list[Row] = field(default_factory=list)
    sessions: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    audit: list[Row] = field(default_factory=list)
    audit_verdict: str = ""  # empty = the chain verifies

    def ours(self) -> list[Row]:
        return [row for row in self.ledger if not row["foreign"]]

    def labels_of(self, session: Row) -> list[object]:
        return [a["label"] for a in self.attempts if a["session_id"] == session["id"]]

    def requests(self, operation: str) -> list[Row]:
        return [request for request in self.wire if request["operation"] == operation]

    def intents(self, operation: str) -> dict[object, list[datetime]]:
        """label -> when, in order."""
        found: dict[object, list[datetime]] = defaultdict(list)
        for event in self.audit:
            if event["action"] == f"provider.{operation}.intent":
                found[event["label"]].append(event["at"])
        return found


def no_leak(seen: Evidence) -> list[str]:
    """Every instance of ours belongs to an open attempt, or is gone (I4, I8)."""
    by_label = {attempt["label"]: attempt for attempt in seen.attempts}
    wrong = []
    for row in seen.ours():
        attempt = by_label.get(row["label"])
        if attempt is None:
            wrong.append(f"{name(row)} was created for no attempt")
        elif row["gone_at"] is None and attempt["resolution"] in CLOSED:
            wrong.append(f"{name(row)} lives on, its attempt says {attempt['resolution']}")
        elif row["gone_at"] and attempt["gone_at"] and row["gone_at"] > attempt["gone_at"]:
            wrong.append(f"{name(row)} was called gone before it was")
    return wrong


def foreign_untouched(seen: Evidence) -> list[str]:
    """Nothing is ever asked of an instance that is not ours (I1)."""
    foreign = {where(row): row for row in seen.ledger if row["foreign"]}
    wrong = [f"{name(row)} is foreign and gone" for row in foreign.values() if row["gone_at"]]
    wrong += [
        f"{request['method']} {request['path']} aims at a foreign instance"
        for request in seen.wire
        if where(request) in foreign and request["operation"] in MUTATIONS
    ]
    return wrong


def at_its_marketplace(seen: Evidence) -> list[str]:
    """What is asked and made under a label is so at the marketplace of its attempt."""
    at = {attempt["label"]: attempt["provider"] for attempt in seen.attempts}
    mutations = [request for request in seen.wire if request["operation"] in MUTATIONS]
    return [
        f"{row['label']} of {at[row['label']]} is at {row['provider']}"
        for row in [*seen.ours(), *mutations]
        if at.get(row["label"], row["provider"]) != row["provider"]
    ]


def created_once(seen: Evidence) -> list[str]:
    """One create request a label, whatever became of it (I6, I7)."""
    sent: dict[object, int] = defaultdict(int)
    for request in seen.requests("create"):
        sent[request["label"]] += 1
    wrong = [f"{label} was sent {count} times" for label, count in sent.items() if count > 1]
    made: dict[object, int] = defaultdict(int)
    for row in seen.ours():
        made[row["label"]] += 1
    return wrong + [f"{count} instances with {label}" for label, count in made.items() if count > 1]


def creates_intended(seen: Evidence) -> list[str]:
    """Each create on the wire has exactly one intent, before it left (I5, I24)."""
    intents = seen.intents("create")
    wrong = [
        f"{len(at)} create intents for {label}" for label, at in intents.items() if len(at) > 1
    ]
    for request in seen.requests("create"):
        at = intents.get(request["label"])
        if not at or at[0] > request["at"]:
            wrong.append(f"create of {request['label']} left without an intent")
    return wrong


def destroys_intended(seen: Evidence) -> list[str]:
    """DELETE only on our ids, each with an intent of its own before it, with a reason (I15)."""
    labels = {attempt["label"] for attempt in seen.attempts}
    intents, sent = seen.intents("destroy"), defaultdict(list)
    wrong = []
    for request in seen.requests("destroy"):
        if request.get("own_key"):
            continue  # see ends_itself_late
        sent[request["label"]].append(request["at"])
        if request["label"] not in labels:
            wrong.append(f"{request['path']} was destroyed, label {request['label']!r}")
    for label, times in sent.items():
        pairs = zip(times, intents.get(label, []), strict=False)
        if len(intents.get(label, [])) < len(times) or any(left < asked for left, asked in pairs):
            wrong.append(f"{len(times)} destroys of {label}, intents {len(intents.get(label, []))}")
    for event in seen.audit:
        if event["action"] == "provider.destroy.intent" and not (
            event["reason"] and event["actor"]
        ):
            wrong.append(f"destroy of {event['label']} without a reason")
    return wrong


def ends_itself_late(seen: Evidence) -> list[str]:
    """A machine destroys itself, and nothing else, only after the end of its session (I10)."""
    ends = {session["id"]: session["expires_at"] for session in seen.sessions}
    by_label = {attempt["label"]: attempt for attempt in seen.attempts}
    wrong = []
    for request in seen.wire:
        if not request.get("own_key") or request["operation"] not in MUTATIONS:
            continue
        attempt = by_label.get(request["label"])
        if request["operation"] != "destroy" or attempt is None:
            wrong.append(f"{request['method']} {request['path']} with the key of an instance")
        elif request["at"] < ends[attempt["session_id"]]:
            wrong.append(f"{request['label']} destroyed itself before its session's end")
    return wrong


def states_in_order(seen: Evidence) -> list[str]:
    """The audit tells each session's states without a gap, along the allowed moves (I24)."""
    wrong = []
    for session in seen.sessions:
        state = "requested"
        for event in seen.audit:
            if event["action"] != "session.state" or event["session_code"] != session["code"]:
                continue
            before, after = event["data"]["from"], event["data"]["to"]
            if before != state or after not in NEXT[before]:
                wrong.append(f"{session['code']} moved {before} -> {after} while {state}")
            state = after
        if state != session["state"]:
            wrong.append(f"{session['code']} is {session['state']}, the audit says {state}")
    return wrong


def ended_is_ended(seen: Evidence) -> list[str]:
    """An end has an outcome and a reason, no open attempt, and no secrets left (I8)."""
    wrong = []
    for session in seen.sessions:
        if session["state"] != "ended":
            continue
        attempts = [a for a in seen.attempts if a["session_id"] == session["id"]]
        still = [a["label"] for a in attempts if a["resolution"] not in CLOSED]
        if still:
            wrong.append(f"{session['code']} ended with open attempts {still}")
        if not (session["outcome"] and session["reason"] and session["ended_at"]):
            wrong.append(f"{session['code']} ended without outcome, reason or instant")
        if session["checker_key"] or session["generated_key"]:
            wrong.append(f"{session['code']} ended and kept a private key")
    return wrong


def attempts_in_turn(seen: Evidence) -> list[str]:
    """The next attempt starts only after the last one is settled (I6)."""
    wrong = []
    for session in seen.sessions:
        mine = [a for a in seen.attempts if a["session_id"] == session["id"]]
        mine.sort(key=lambda attempt: attempt["number"])
        for before, after in zip(mine, mine[1:], strict=False):
            settled = before["gone_at"] or before["resolved_at"]
            if before["resolution"] not in CLOSED or settled > after["created_at"]:
                wrong.append(f"{after['label']} started before {before['label']} was settled")
    return wrong


def one_at_a_time(seen: Evidence) -> list[str]:
    """Mutations of one session never overlap on the wire; repeated destroys may (I16)."""
    wrong = []
    for session in seen.sessions:
        labels = seen.labels_of(session)
        mine = [r for r in seen.wire if r["label"] in labels and r["operation"] in MUTATIONS]
        mine.sort(key=lambda request: request["at"])
        for before, after in zip(mine, mine[1:], strict=False):
            destroys = before["operation"] == after["operation"] == "destroy"
            if after["at"] < before["done_at"] and not destroys:
                wrong.append(f"{after['path']} overlaps {before['path']} of {session['code']}")
    return wrong


def audit_chain(seen: Evidence) -> list[str]:
    return [f"the audit does not verify: {seen.audit_verdict}"] if seen.audit_verdict else []


def spending_covered(seen: Evidence) -> list[str]:
    """Every instance lives inside [create intent, gone] of its own label (I22)."""
    intents = seen.intents("create")
    by_label = {attempt["label"]: attempt for attempt in seen.attempts}
    wrong = []
    for row in seen.ours():
        at, attempt = intents.get(row["label"]), by_label.get(row["label"])
        if not at or at[0] > row["created_at"]:
            wrong.append(f"{name(row)} was billed before any intent")
        if (
            attempt
            and attempt["gone_at"]
            and (row["gone_at"] or attempt["gone_at"]) > attempt["gone_at"]
        ):
            wrong.append(f"{name(row)} was billed after we called it gone")
    return wrong


def cost_agrees(seen: Evidence) -> list[str]:
    """Our cost of a finished attempt is the ledger's, within 1 % or a minute's price (I22).

    On top of the ledger's we count the boot, during which marketplaces bill less than the rate,
    and the time from the end to its proof; how long those take says nothing about the sum.
    """
    by_label = {row["label"]: row for row in seen.ours()}
    wrong = []
    for attempt in seen.attempts:
        row = by_label.get(attempt["label"])
        if row is None or not attempt["gone_at"] or not row["gone_at"]:
            continue
        rate = float(attempt["actual_price_per_hour"] or attempt["price_per_hour"]) / 3600
        ours = rate * (attempt["gone_at"] - attempt["sent_at"]).total_seconds()
        billed = float(row["billed_usd"])
        allowed = max(SHARE * billed, rate * SECONDS)
        started = attempt["ready_at"] or row["gone_at"]
        waited = (started - attempt["sent_at"]) + (attempt["gone_at"] - row["gone_at"])
        above = allowed + rate * waited.total_seconds()
        if not billed - allowed <= ours <= billed + above:
            wrong.append(f"{attempt['label']} cost ${ours:.6f}, the ledger says ${billed:.6f}")
    return wrong


INVARIANTS: tuple[Callable[[Evidence], list[str]], ...] = (
    no_leak,
    foreign_untouched,
    at_its_marketplace,
    created_once,
    creates_intended,
    destroys_intended,
    ends_itself_late,
    states_in_order,
    ended_is_ended,
    attempts_in_turn,
    one_at_a_time,
    audit_chain,
    spending_covered,
    cost_agrees,
)


def check_invariants(seen: Evidence) -> list[str]:
    return [f"{rule.__name__}: {text}" for rule in INVARIANTS for text in rule(seen)]


def find_secrets(places: Iterable[tuple[str, bytes]], canaries: Iterable[str]) -> list[str]:
    """Secret bytes, raw or base64 or URL-encoded, where they must not be (I25)."""
    forms = [form for canary in canaries for form in encodings(canary)]
    return [
        f"{place} holds a secret ({form[:4].decode()}…)"
        for place, content in places
        for form in forms
        if form in content
    ]


def encodings(secret: str) -> list[bytes]:
    """Base64 of the three alignments, without the ends that depend on what stands around."""
    raw = secret.encode()
    coded = [
        base64.b64encode(b"x" * pad + raw)[4 if pad else 0 :].rstrip(b"=")[:-1] for pad in range(3)
    ]
    return list(dict.fromkeys([raw, quote(secret, safe="").encode(), *coded]))


def where(row: Row) -> tuple[object, object]:
    return row["provider"], row["instance_id"]


def name(row: Row) -> str:
    return f"instance {row['instance_id']} ({row['label']})"


def instants(rows: Iterable[Row], *columns: str) -> list[Row]:
    """The same rows with ISO texts of these columns as aware datetimes."""
    return [
        {**row, **{c: _instant(row[c]) for c in columns if isinstance(row.get(c), str)}}
        for row in rows
    ]


def _instant(text: object) -> datetime:
    """SQLite keeps UTC without saying so."""
    at = datetime.fromisoformat(str(text))
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def with_data(events: Iterable[Row]) -> list[Row]:
    """Audit rows whose `data` is JSON text, decoded."""
    return [{**event, "data": json.loads(str(event["data"]))} for event in events]
