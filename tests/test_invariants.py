"""The net has no holes: every checker finds the violation planted for it, and only then."""

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.invariants import INVARIANTS, Evidence, check_invariants, find_secrets

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
LABEL = "gb1-dep0000000-session000000001-1-0a1b2c3d"
Change = Callable[[Evidence], Evidence]


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def clean() -> Evidence:
    """One session from launch to proof, and a machine of somebody else."""
    session = {
        "id": "s", "code": "session000000001", "state": "ended", "outcome": "ok", "reason": "user",
        "ended_at": at(60), "expires_at": at(45), "checker_key": "", "generated_key": "",
    }  # fmt: skip
    attempt = {
        "session_id": "s", "label": LABEL, "number": 1, "resolution": "gone", "instance_id": "7",
        "created_at": at(0), "sent_at": at(1), "resolved_at": at(60), "gone_at": at(60),
        "ready_at": at(5), "price_per_hour": 1, "actual_price_per_hour": 1, "provider": "vastai",
    }  # fmt: skip
    machine = {
        "instance_id": "7", "label": LABEL, "foreign": False, "created_at": at(2),
        "gone_at": at(50), "billed_usd": 48 / 3600, "provider": "vastai",
    }  # fmt: skip
    other = machine | {"instance_id": "8", "label": "x", "foreign": True, "gone_at": None}
    wire = [
        {"operation": "create", "method": "PUT", "path": "/asks/1", "label": LABEL,
         "instance_id": "7", "at": at(2), "done_at": at(3), "provider": "vastai"},
        {"operation": "destroy", "method": "DELETE", "path": "/instances/7", "label": LABEL,
         "instance_id": "7", "at": at(50), "done_at": at(50.1), "provider": "vastai"},
    ]  # fmt: skip
    path = ("requested", "creating", "booting", "verifying", "running", "stopping", "ended")
    moves = [
        event("session.state", i, data={"from": a, "to": b})
        for i, (a, b) in enumerate(zip(path, path[1:], strict=False))
    ]
    intents = [
        event("provider.create.intent", 1, label=LABEL),
        event("provider.destroy.intent", 49, label=LABEL, reason="user"),
    ]
    return Evidence(
        ledger=[machine, other], wire=wire, sessions=[session], attempts=[attempt],
        audit=moves + intents,
    )  # fmt: skip


def event(action: str, seconds: float, **more: object) -> dict:
    row = {"action": action, "at": at(seconds), "session_code": "session000000001", "label": ""}
    return row | {"reason": "", "actor": "worker", "data": {}} | more


def changed(name: str, index: int, **columns: object) -> Change:
    """One row of one list with other columns."""

    def change(seen: Evidence) -> Evidence:
        rows = list(getattr(seen, name))
        rows[index] = rows[index] | columns
        return replace(seen, **{name: rows})

    return change


def added(name: str, index: int, **columns: object) -> Change:
    """One more row, a copy of another with other columns."""

    def change(seen: Evidence) -> Evidence:
        rows = list(getattr(seen, name))
        return replace(seen, **{name: [*rows, rows[index] | columns]})

    return change


def without_intents(operation: str) -> Change:
    def change(seen: Evidence) -> Evidence:
        kept = [e for e in seen.audit if e["action"] != f"provider.{operation}.intent"]
        return replace(seen, audit=kept)

    return change


PLANTED = [
    ("no_leak", changed("ledger", 0, gone_at=None)),
    ("no_leak", added("ledger", 0, instance_id="9", label="gb1-unknown")),
    ("no_leak", changed("ledger", 0, gone_at=at(61))),
    ("foreign_untouched", changed("ledger", 1, gone_at=at(9))),
    ("foreign_untouched", changed("wire", 1, instance_id="8")),
    ("at_its_marketplace", changed("ledger", 0, provider="tensordock")),
    ("at_its_marketplace", changed("wire", 0, provider="tensordock")),
    ("created_once", added("wire", 0, at=at(9), done_at=at(9), instance_id="")),
    ("created_once", added("ledger", 0, instance_id="9")),
    ("creates_intended", without_intents("create")),
    ("creates_intended", added("audit", 6)),
    ("creates_intended", changed("audit", 6, at=at(2.5))),
    ("destroys_intended", without_intents("destroy")),
    ("destroys_intended", added("wire", 1, at=at(55), done_at=at(55))),
    ("destroys_intended", changed("audit", 7, at=at(50.05))),
    ("destroys_intended", changed("audit", 7, reason="")),
    ("destroys_intended", changed("wire", 1, label="")),
    ("ends_itself_late", changed("wire", 1, own_key=True, at=at(44))),
    ("ends_itself_late", added("wire", 0, own_key=True, operation="change")),
    ("ends_itself_late", changed("wire", 1, own_key=True, label="gb1-unknown")),
    ("states_in_order", changed("sessions", 0, state="running")),
    ("states_in_order", changed("audit", 2, data={"from": "booting", "to": "running"})),
    ("ended_is_ended", changed("sessions", 0, outcome="")),
    ("ended_is_ended", changed("sessions", 0, checker_key="gAAAA")),
    ("ended_is_ended", changed("attempts", 0, resolution="adopted")),
    ("attempts_in_turn", added("attempts", 0, number=2, label="second", created_at=at(30))),
    ("one_at_a_time", changed("wire", 0, done_at=at(51))),
    ("audit_chain", lambda seen: replace(seen, audit_verdict="event 3 was edited")),
    ("spending_covered", changed("ledger", 0, created_at=at(0.5))),
    ("spending_covered", changed("ledger", 0, gone_at=at(61))),
    ("cost_agrees", changed("ledger", 0, billed_usd=0.5)),
    ("cost_agrees", changed("attempts", 0, sent_at=at(-7200), ready_at=at(-7190))),
]


def test_a_clean_history_has_no_violation() -> None:
    assert check_invariants(clean()) == []


def test_a_machine_may_end_itself_after_the_end() -> None:
    seen = without_intents("destroy")(clean())
    assert check_invariants(changed("wire", 1, own_key=True)(seen)) == []


@pytest.mark.parametrize(("rule", "plant"), PLANTED)
def test_a_planted_violation_is_found(rule: str, plant: Change) -> None:
    found = check_invariants(plant(clean()))
    assert rule in {text.split(":")[0] for text in found}


def test_every_checker_has_a_plant() -> None:
    assert {rule.__name__ for rule in INVARIANTS} == {rule for rule, _ in PLANTED}


SECRET = "canary-0123456789+/abcdef"


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        b"key=canary-0123456789%2B%2Fabcdef&x=1",
        base64.b64encode(b"ab" + SECRET.encode() + b"tail"),
        base64.b64encode(b"a" + SECRET.encode()),
        base64.b64encode(SECRET.encode()),
    ],
)
def test_secrets_are_found_in_any_clothes(content: bytes) -> None:
    assert find_secrets([("log", b"before " + content + b" after")], [SECRET])
    assert not find_secrets([("log", b"nothing of that kind, canary or not")], [SECRET])
