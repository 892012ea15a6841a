"""What marketplaces, operators and neighbours can do to us, in whole running worlds.

    python -m tests.prove.drills [--full] [--only TEXT]

Each drill strikes both marketplaces at once while sessions run there. It demands: no session
changes its state, nothing mutating is on the wire, an alert is on record within two minutes and
people see it, and all is as before once the trouble is over. Times are simulated seconds.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

from tests.postgresql import Cluster
from tests.processes import Template, make_template, until
from tests.prove import figures, measure
from tests.prove.stage import Neighbour, Stage
from tests.prove.trouble import (
    CALM,
    Report,
    both,
    differences,
    drill,
    finished,
    raised_after,
    unseen,
)
from tests.stores import Postgresql
from tests.world import PROVIDERS

CLOCK = 10
HOUR, DAY = 3600, 86400
LATE, ORPHAN = 500, 300  # simulated seconds: after any settling; the longest life of an orphan
EACH = 2  # sessions at each marketplace
FAST, FASTEST = 600, 2000  # clock factors for what takes hours
AT_ONCE = 3  # worlds
RENTED = {"vastai": "RTX 4090", "tensordock": "RTX 4090"}
NEIGHBOURS = {"vastai": "RTX 3090", "tensordock": "RTX A4000"}
HALF = {"vastai": "lost_row", "tensordock": "cut_body"}
SEEN_BILLING = ("Still billing", "still billing until confirmed gone")


# -- the drills


def empty_list(stage: Stage) -> Report:
    def strike() -> None:
        stage.fault("list", "empty_list", times=0)

    return drill(stage, "empty list", both("frozen"), strike, stage.lift_faults)


def half_a_list(stage: Stage) -> Report:
    def strike() -> None:
        for provider, fault in HALF.items():
            stage.fault("list", fault, provider=provider, times=0)

    return drill(stage, "half a list", both("listing"), strike, stage.lift_faults)


def other_key(stage: Stage) -> Report:
    """Another account's key: its listing is complete, and empty of ours."""

    def strike() -> datetime:
        return stage.restart(VASTAI_API_KEY="other", TENSORDOCK_API_TOKEN="other")

    def heal() -> None:
        own = {"VASTAI_API_KEY": stage.api_key, "TENSORDOCK_API_TOKEN": stage.tensordock_key}
        stage.restart(**own)

    return drill(stage, "another account's key", both("frozen"), strike, heal)


def outage(stage: Stage) -> Report:
    """503 to everything for an hour, the most of it at a faster clock."""

    def strike() -> None:
        stage.fault("*", "http_503", times=0)

    def heal() -> None:
        stage.restart(GPUBROKER_TIME_SCALE=str(FAST))
        time.sleep((HOUR - CALM) / FAST)
        stage.restart(GPUBROKER_TIME_SCALE=str(stage.clock))
        stage.lift_faults()

    return drill(stage, "503 for an hour", both("listing"), strike, heal)


def other_deployment(stage: Stage) -> Report:
    def strike() -> datetime:
        return stage.restart(DEPLOYMENT_ID="another000")

    def heal() -> None:
        stage.restart(DEPLOYMENT_ID="")

    return drill(stage, "DEPLOYMENT_ID changed", ["identity"], strike, heal)


def restored_backup(stage: Stage) -> Report:
    """What was rented after the backup is unknown to it, and must live on all the same."""
    stage.back_up("backup")
    offers = {name: stage.offers(RENTED[name], 1, name)[0] for name in PROVIDERS}
    stage.rent(offers.values())
    stage.wait_anchored()

    def strike() -> datetime:
        return stage.exchange("backup", keep="truth")

    def heal() -> None:
        stage.exchange("truth")

    return drill(stage, "restored backup", ["identity", "audit"], strike, heal)


def two_brokers(stage: Stage) -> Report:
    """Another gpubroker with the same keys: each is a stranger to the other."""
    began, last, states = time.monotonic(), stage.last_request(), stage.states()
    report = Report("two brokers on one account", stage.store.name)
    with Neighbour(stage) as other:
        other.start()
        offers = [offer for n in PROVIDERS for offer in other.offers(NEIGHBOURS[n], 1, n)]
        other.rent(offers)
        for provider in PROVIDERS:
            for broker, who in ((stage, "first"), (other, "second")):
                key, since = f"twin:{provider}", awaited(broker, other, provider)
                report.alerts[f"{who} {key}"] = raised_after(broker, key, since)
                report.problems += unseen(broker, key)
        report.moved += differences(states, stage.states())
        other.stop_all()
        report.problems += other.violations()
        own = stage.labels()
        report.sent = sum(request["label"] in own for request in stage.mutations(last))
    for key in both("twin"):
        until(f"{key} is over", lambda key=key: not stage.alerted(key))
    report.moved += differences(states, stage.states())
    return finished(report, began)


def awaited(broker: Stage, other: Neighbour, provider: str) -> datetime:
    """The newcomer finds a neighbour as it begins; the other one, once the newcomer rents."""
    if broker is other:
        return other.made_at()
    labels = other.labels()
    rows = [row for row in other.ledger() if row["provider"] == provider]
    return min(row["created_at"] for row in rows if row["label"] in labels)


def late_creates(stage: Stage) -> Report:
    """Each marketplace creates long after everybody has given up: the machine is an orphan."""
    report, began = Report("late creates", stage.store.name), time.monotonic()
    pks = []
    for provider in PROVIDERS:
        offer = stage.offers(NEIGHBOURS[provider], 2, provider)[0]
        stage.spoil(offer, "late", seconds=LATE)
        pks.append(stage.launch(offer))
    stage.wait_states(pks, "running")
    lost = {stage.attempts(pk)[0]["label"] for pk in pks}

    def orphans() -> list[dict]:
        rows = [row for row in stage.ledger() if row["label"] in lost and row["gone_at"]]
        return rows if len(rows) == len(lost) else []

    for row in until("the late machines are gone", orphans):
        seconds = (row["gone_at"] - row["created_at"]).total_seconds() * stage.clock
        report.facts[f"{row['provider']} lived"] = round(seconds)
        report.problems += [f"an orphan lived {seconds:.0f} s"] * (seconds > ORPHAN)
    return finished(report, began)


def destroy_fails_for_a_day(stage: Stage) -> Report:
    report, began = Report("destroy fails for a day", stage.store.name), time.monotonic()
    stage.fault("destroy", "http_500", times=0)
    chosen = [stage.sessions_of(provider)[0] for provider in PROVIDERS]
    asked = datetime.now(UTC)
    for pk in chosen:
        stage.ask_to_stop(pk)
    for pk in chosen:
        report.alerts[f"destroy:{stage.session(pk)['code']}"] = 0
    stage.restart(GPUBROKER_TIME_SCALE=str(FASTEST))
    looks = list(look_for_a_day(stage, chosen))
    report.looks, report.billing = len(looks), sum(looks)
    report.problems += ["a page did not say “still billing”"] * (not all(looks))
    for key in report.alerts:
        event = stage.raised(key, asked)
        report.problems += [] if event else [f"no alert {key}"]
    stage.lift_faults()
    stage.wait_states(chosen, "ended")
    report.facts["tries"] = [stage.attempts(pk)[-1]["destroy_tries"] for pk in chosen]
    stage.restart(GPUBROKER_TIME_SCALE=str(stage.clock))
    outcomes = {stage.session(pk)["outcome"] for pk in chosen}
    gone = all("Confirmed gone" in stage.page(pk) for pk in chosen)
    report.problems += [f"ended {outcomes}, gone on the page: {gone}"] * (
        outcomes != {"ok"} or not gone
    )
    report.alerts.clear()
    return finished(report, began)


def look_for_a_day(stage: Stage, pks: list[str]) -> Iterable[bool]:
    """At each look: does the page say so, and is it still stopping?"""
    end = time.monotonic() + DAY / FASTEST
    while time.monotonic() < end:
        for pk in pks:
            page, state = unescape(stage.page(pk)), stage.session(pk)["state"]
            yield state == "stopping" and all(words in page for words in SEEN_BILLING)
        time.sleep(0.5)


# -- all of them


Drill = Callable[[Stage], Report]
DOUBTS: tuple[Drill, ...] = (two_brokers, empty_list, half_a_list, other_key, other_deployment)
LONG: tuple[Drill, ...] = (restored_backup, outage, destroy_fails_for_a_day)
SAMPLE: tuple[Drill, ...] = (empty_list, restored_backup, other_deployment, late_creates)


def plays(full: bool, only: str, database: str = "") -> list[tuple[str, tuple[Drill, ...]]]:
    """(database, what happens there in this order). Short: a sample on PostgreSQL."""
    on_postgresql = ((*DOUBTS, late_creates), LONG) if full else (SAMPLE,)
    chosen = [
        ("sqlite", DOUBTS),
        ("sqlite", LONG),
        *(("postgresql", each) for each in on_postgresql),
    ]
    kept = [(name, tuple(d for d in each if only in d.__name__)) for name, each in chosen]
    return [(name, each) for name, each in kept if each and database in name]


@dataclass
class Outcome:
    reports: list[Report] = field(default_factory=list)
    samples: list[measure.Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    tampered: dict[str, object] = field(default_factory=dict)
    canaries: int = 0
    hits: int = 0
    log: str = ""


def perform(
    drills: tuple[Drill, ...], directory: Path, template: Template, options: argparse.Namespace
) -> Outcome:
    outcome = Outcome()
    with Stage(directory, template, CLOCK) as stage:
        try:
            act(stage, drills, outcome, options)
        except (AssertionError, OSError, ValueError) as error:
            outcome.problems.append(f"{type(error).__name__}: {error}")
        outcome.log = stage.tails(20) if outcome.problems else ""
    return outcome


def act(
    stage: Stage, drills: tuple[Drill, ...], outcome: Outcome, options: argparse.Namespace
) -> None:  # fmt: skip
    stage.start()
    if two_brokers not in drills:  # a neighbour is to be the first other broker that is seen
        stage.populate()
    offers = [offer for n in PROVIDERS for offer in stage.offers(RENTED[n], EACH, n)]
    stage.rent(offers)
    for each in drills:
        outcome.reports.append(each(stage))
        if each is two_brokers:
            stage.populate()
    stage.stop_all()
    outcome.problems += stage.violations()
    outcome.samples = measure.samples(stage.evidence(), clock=CLOCK, database=stage.store.name)
    outcome.canaries, hits = stage.canary_hits()
    outcome.hits, outcome.problems = len(hits), outcome.problems + hits
    outcome.tampered = stage.tamper(options.flips, options.seed)
    outcome.problems += [f"tampering {text} was not found" for text in outcome.tampered["missed"]]
    outcome.problems += [f"{text} was accepted" for text in outcome.tampered["accepted"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="everything on both databases")
    parser.add_argument("--only", default="", help="drills whose name contains this")
    parser.add_argument("--database", default="", help="sqlite or postgresql alone")
    parser.add_argument("--flips", type=int, default=600, help="bits of the audit to flip")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    chosen = plays(options.full, options.only, options.database)
    with tempfile.TemporaryDirectory(prefix="drills-") as name, Cluster() as cluster:
        templates = made_templates(Path(name), cluster)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            done = list(pool.map(
                lambda number, play: perform(
                    play[1], Path(name) / str(number), templates[play[0]], options
                ),
                range(len(chosen)), chosen,
            ))  # fmt: skip
    return told(done, options.seed)


def made_templates(directory: Path, cluster: Cluster) -> dict[str, Template]:
    cluster.create("template")
    stores = {"sqlite": None, "postgresql": Postgresql(cluster, "template")}
    for name in stores:
        (directory / name).mkdir()
    return {name: make_template(directory / name, store) for name, store in stores.items()}


def told(done: list[Outcome], seed: int) -> int:
    reports = [report for outcome in done for report in outcome.reports]
    problems = [text for each in (*reports, *done) for text in each.problems]
    for outcome in done:
        print(*outcome.problems, outcome.log, sep="\n")
    waits = [seconds for report in reports for seconds in report.alerts.values()]
    tampered = [outcome.tampered for outcome in done if outcome.tampered]
    found = {
        "drills": len(reports),
        "passed": sum(not report.problems for report in reports),
        "wrong_state_changes": sum(report.moved for report in reports),
        "mutating_requests": sum(report.sent for report in reports),
        "looks": sum(report.looks for report in reports),
        "still_billing": sum(report.billing for report in reports),
        "alert_seconds": measure.spread(waits) if waits else {},
        "each": {f"{r.database}: {r.drill}": r.alerts | r.facts for r in reports},
        "tampered": sum(each["tampered"] for each in tampered),
        "tampered_found": sum(each["found"] for each in tampered),
        "raw_changes": sum(each["raw changes"] for each in tampered),
        "raw_changes_refused": sum(each["refused"] for each in tampered),
        "canaries": sum(outcome.canaries for outcome in done),
        "canary_hits": sum(outcome.hits for outcome in done),
        "seed": seed,
    }
    figures.record("drills", **found)
    figures.keep("drills", [sample for outcome in done for sample in outcome.samples])
    print("drills:", found)
    return 1 if problems or not reports else 0


if __name__ == "__main__":
    sys.exit(main())
