"""One process that does everything a worker does, and also plays the person: to be killed.

    python -m tests.prove.lone_worker     (environment: see runs.py)

It launches one session, stops it once it runs, and ends with code 0 when the session has ended.
Started again after its death it goes on from the rows, like any worker.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import django
import requests

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.db import OperationalError  # noqa: E402
from django.utils import timezone  # noqa: E402
from django_q.exceptions import TimeoutException  # noqa: E402
from django_q.timeout import TimeoutHandler  # noqa: E402

from providers import jobs, registry  # noqa: E402
from providers.models import Offer  # noqa: E402
from sessions import asks, audit, reconcile, slices, sweep, tasks  # noqa: E402
from sessions.models import Session, Sighting  # noqa: E402
from sessions.states import State  # noqa: E402
from tests.prove import crash_hook  # noqa: E402

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
TURN = 0.6  # seconds
LOOKS = 0.3  # seconds between looks for due rows: ten workers at a time must leave time to others
FAULTS = json.loads(os.environ.get("FAULTS", "[]"))  # [{"when": ..., "operation": ..., ...}]
HOLD = float(os.environ.get("HOLD", "0"))  # seconds to leave it running
PROVIDER = os.environ.get("PROVIDER", "vastai")
AIMED = {  # operations whose faults name the offer or label; TensorDock's offers have other names
    "vastai": ("create", "destroy", "instance", "ssh"),
    "tensordock": ("destroy", "instance", "ssh"),
}
held_since: list[float] = []


def act() -> bool:
    """What the person does now; True when all is over."""
    session = Session.objects.first()
    if session is None:
        return launch()
    if session.state == State.RUNNING:
        stop_after_a_while(session)
    return session.state == State.ENDED and not Sighting.objects.filter(gone_at=None).exists()


def stop_after_a_while(session: Session) -> None:
    if not held_since:
        held_since.append(time.monotonic())
        post("running", label=session.attempt.label)
    if time.monotonic() >= held_since[0] + HOLD:
        post("stop", label=session.attempt.label)
        asks.stop(session, session.owner)


def post(when: str, **aim: str) -> None:
    """The faults of this moment, at this session where that is possible."""
    for fault in FAULTS:
        if fault["when"] == when:
            body = {name: value for name, value in fault.items() if name != "when"}
            aimed = body["operation"] in AIMED[PROVIDER]
            body |= aim if aimed else {}
            answer = requests.post(os.environ["CONTROL"] + "/faults", json=body, timeout=30)
            answer.raise_for_status()


def launch() -> bool:
    stock = Offer.objects.filter(
        provider=PROVIDER, gpu_count=1, listed=True, evicted_until=None, interruptible=False
    )
    found = list(stock.filter(gpu_name="RTX 4090").order_by("pk")[:1])
    if found:
        terms = {"provider": found[0].provider, "offer_id": found[0].offer_id}
        post("launch", offer_id=found[0].offer_id)
        can = registry.capabilities(PROVIDER)
        order = asks.Order(
            idempotency_key="crash",
            image=can.default_image,
            disk_gb=max(16, can.offer_min_disk_gb),
            hours=4,
            max_price_per_hour=Decimal(5),
            public_keys=[KEY],
            **terms,
        )
        try:
            asks.launch(get_user_model().objects.first(), order)
        except asks.LaunchRefused as refusal:  # the account is not read yet
            print(refusal)
    return False


def patiently(step: Callable[[], object]) -> object:
    """A paused process may hold the database: what was refused is tried again."""
    while True:
        try:
            return step()
        except OperationalError as error:
            slices.trouble(error)


def main() -> int:
    crash_hook.install()
    signal.signal(signal.SIGALRM, TimeoutHandler(0).raise_timeout_exception)
    try:
        return live()
    except TimeoutException:
        os._exit(
            crash_hook.TIMED_OUT
        )  # as the queue's guard ends a worker whose task took too long


def live() -> int:
    patiently(tasks.prepare)
    pool = ThreadPoolExecutor(8, initializer=slices.forbid_database)
    slices.PAUSE = LOOKS
    work = slices.Work(pool, (reconcile, sweep, jobs))
    while not patiently(act):
        work.turns_until(time.monotonic() + TURN)
        patiently(lambda: audit.write_anchor(timezone.now()))
    work.drain(20)
    verdict = audit.verify()
    print(verdict)
    pool.shutdown(wait=False, cancel_futures=True)
    return 0 if verdict.ok else 3


if __name__ == "__main__":
    sys.exit(main())
