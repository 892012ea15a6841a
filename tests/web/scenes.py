"""Sessions in every state and trouble that a page can show, as unsaved or saved rows."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sessions import hardware
from sessions.models import Attempt, Session
from sessions.states import Outcome, Resolution, State
from tests.factories import make_attempt, make_session

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
WAY = {"host": "ssh5.example.org", "port": 39860, "user": "root"}
OFFER = {
    "gpu_name": "RTX 4090", "gpu_count": 1, "gpu_memory_mb": 24564, "machine_id": "44102",
    "country": "ES", "place": "Spain", "cuda_max": "12.8", "driver_version": "570.86",
}  # fmt: skip
NO_SUCH_ASK = "error 404/3603: no_such_ask Instance type by id 20871 is not available."
GPU_3060 = [hardware.FoundGPU(name="NVIDIA GeForce RTX 3060", memory_mb=12288)]
GPU = {"gpus": [["NVIDIA GeForce RTX 4090", 24564]], "driver": "570.86", "cuda": "12.8"}


def after(now: datetime, seconds: float) -> datetime:
    return now - timedelta(seconds=120) + timedelta(seconds=seconds)


def existing(now: datetime, **fields: Any) -> dict[str, Any]:
    """Columns of an attempt whose machine exists; all instants follow the launch 120 s ago."""
    return {
        "offer": dict(OFFER), "instance_id": "31255041", "outcome": "created",
        "resolution": Resolution.CREATED, "created_at": after(now, 1), "sent_at": after(now, 2),
        "answered_at": after(now, 3), "last_seen_at": now,
    } | fields  # fmt: skip


def ready(now: datetime, **fields: Any) -> dict[str, Any]:
    return existing(now, ready_at=after(now, 44), endpoints=[WAY], raw_state="running") | fields


def destroyed(now: datetime, **fields: Any) -> dict[str, Any]:
    return (
        ready(
            now,
            destroy_sent_at=after(now, 100),
            destroy_accepted_at=after(now, 101),
            destroy_tries=1,
        )
        | fields
    )


def gone(now: datetime, **fields: Any) -> dict[str, Any]:
    return destroyed(
        now, resolution=Resolution.GONE, resolved_at=after(now, 118), gone_at=after(now, 118),
        absences=2, first_absence_at=after(now, 104), last_absence_at=after(now, 117),
    ) | fields  # fmt: skip


def verified(now: datetime) -> dict[str, Any]:
    return {
        "ssh_open_at": after(now, 53), "ssh_key_at": after(now, 67), "ssh_seen_at": after(now, 70),
        "verified_at": after(now, 68), "ssh_stage": "gpu", "host_key": HOST_KEY,
        "found": GPU | {"problems": []}, "ssh_attempts": 3,
    }  # fmt: skip


def stopped(reason: str, outcome: str = Outcome.OK, text: str = "") -> dict[str, Any]:
    return {"reason": reason, "outcome": outcome, "reason_text": text}


def not_created(now: datetime, **fields: Any) -> dict[str, Any]:
    return {
        "offer": dict(OFFER) | {"place": "Texas, United States", "machine_id": "20871"},
        "price_per_hour": Decimal("0.384"), "outcome": "offer_gone", "message": NO_SUCH_ASK,
        "resolution": Resolution.NOT_CREATED, "created_at": after(now, 1),
        "sent_at": after(now, 1), "answered_at": after(now, 2), "resolved_at": after(now, 2),
    } | fields  # fmt: skip


def build(name: str, now: datetime, **fields: Any) -> tuple[Session, list[Attempt]]:
    """The session of that scene with its attempts, saved."""
    state, columns, attempts = SCENES[name](now)
    columns = {"created_at": after(now, 0), "state_since": after(now, 45)} | columns
    session = make_session(state, **columns | fields)
    return session, [make_attempt(session, **attempt) for attempt in attempts]


SCENES = {
    "requested": lambda now: (State.REQUESTED, {}, []),
    "creating": lambda now: (
        State.CREATING, {},
        [not_created(now), {"offer": dict(OFFER), "sent_at": now, "created_at": now}],
    ),
    "unknown": lambda now: (
        State.CREATING, {},
        [{"offer": dict(OFFER), "outcome": "unknown", "message": "the answer was cut off"}],
    ),
    "booting": lambda now: (
        State.BOOTING, {"state_since": after(now, 3)},
        [not_created(now),
         existing(now, status_message="Pulling image: 61 %", raw_state="loading")],
    ),
    "ssh": lambda now: (
        State.VERIFYING, {"ssh_attempts": 2, "ssh_message": "connection refused"}, [ready(now)],
    ),
    "key": lambda now: (
        State.VERIFYING,
        {"ssh_stage": "open", "ssh_open_at": after(now, 53), "ssh_attempts": 3,
         "ssh_message": "the key was not accepted", "host_key": HOST_KEY},
        [ready(now)],
    ),
    "running": lambda now: (
        State.RUNNING, {"state_since": after(now, 68), "generated_key": "sealed"} | verified(now),
        [not_created(now), ready(now, actual_price_per_hour=Decimal("0.41"))],
    ),
    "unreachable": lambda now: (
        State.RUNNING,
        {"unreachable_since": now, "ssh_failures": 4, "ssh_message": "no answer in 10 s"}
        | verified(now),
        [ready(now)],
    ),
    "host_key": lambda now: (
        State.RUNNING, verified(now) | {"host_key_changed": True, "unreachable_since": now},
        [ready(now)],
    ),
    "ends_soon": lambda now: (
        State.RUNNING, verified(now) | {"expires_at": now + timedelta(minutes=9)}, [ready(now)],
    ),
    "stopping": lambda now: (
        State.STOPPING, verified(now) | stopped("user") | {"state_since": after(now, 99)},
        [destroyed(now, absences=1, first_absence_at=after(now, 104),
                   last_absence_at=after(now, 104))],
    ),
    "stopping_failed": lambda now: (
        State.STOPPING,
        stopped("boot_failed", Outcome.FAILED, "manifest for nvidia/cuda:99 not found"),
        [existing(now, destroy_tries=2, destroy_sent_at=after(now, 100))],
    ),
    "stopping_unknown": lambda now: (
        State.STOPPING, stopped("user"), [{"offer": dict(OFFER), "outcome": "unknown"}],
    ),
    "ended": lambda now: (
        State.ENDED, verified(now) | stopped("user"), [gone(now)],
    ),
    "expired": lambda now: (
        State.ENDED, verified(now) | stopped("expired"), [gone(now)],
    ),
    "no_offers": lambda now: (
        State.ENDED, stopped("no_offers", Outcome.FAILED, NO_SUCH_ASK), [not_created(now)],
    ),
    "no_funds": lambda now: (
        State.ENDED, stopped("no_funds", Outcome.FAILED, "Your account lacks credit."),
        [not_created(now, outcome="no_funds", message="Your account lacks credit.")],
    ),
    "boot_timeout": lambda now: (
        State.ENDED, stopped("boot_timeout", Outcome.FAILED, "Pulling image: 61 %"),
        [gone(now, ready_at=None, endpoints=[])],
    ),
    "ssh_refused": lambda now: (
        State.ENDED,
        stopped("ssh_refused", Outcome.FAILED, "publickey refused")
        | {"ssh_open_at": after(now, 53)},
        [gone(now)],
    ),
    "wrong_hardware": lambda now: (
        State.ENDED,
        verified(now)
        | stopped("wrong_hardware", Outcome.FAILED, "Sold as RTX 4090, found RTX 3060")
        | {"found": {"gpus": [["NVIDIA GeForce RTX 3060", 12288]], "driver": "570.86",
                     "cuda": "12.8", "problems": hardware.compare(GPU_3060, "RTX 4090", 1, 24564)}},
        [gone(now)],
    ),
    "price_breach": lambda now: (
        State.ENDED, stopped("price_breach", Outcome.FAILED, "billed $0.9/h, agreed $0.408/h"),
        [gone(now, actual_price_per_hour=Decimal("0.9"))],
    ),
    "vanished": lambda now: (
        State.ENDED, verified(now) | stopped("vanished", Outcome.LOST),
        [gone(now, destroy_sent_at=None, destroy_accepted_at=None, destroy_tries=0)],
    ),
    "leftover": lambda now: (
        State.CREATING, {},
        [existing(now, outcome="leftover", resolution=Resolution.LEFTOVER, message="host busy")],
    ),
    "never_sent": lambda now: (State.ENDED, stopped("user"), []),
}  # fmt: skip
