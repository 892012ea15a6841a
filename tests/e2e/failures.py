"""Every failure that the simulator can inject and a person can meet, and what its page must say.

`create` is met by the create call, `strike` by the machine once it runs. `passes` is the rule that
would have to run out (the test lets time pass), or "none" for one that a busy machine must not let
run out. What pages say is given as regular expressions.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.world import World, asked_for, until

NOTHING, ENDED, FLOWS, STILL = "nothing was charged", "It cost", "Billing", "Still billing"
BUSY = "too (frequent|many requests)|HTTP 429"
GONE, LEFT = "(no_such_ask|[Nn]ot? available|unavailable)", "Refused, but a machine was left behind"


@dataclass(frozen=True, kw_only=True)
class Failure:
    create: str = ""
    more: tuple[tuple[str, object], ...] = ()
    strike: tuple[str, str] = ("", "")  # operation, fault
    stop: bool = False
    passes: str = ""  # boot, verify, offers, settle, end, or now = the end of the rented time
    provider: str = "vastai"
    fallback: str = "none"
    gpu: str = ""  # a model of which it has all offers to itself
    all_of_them: bool = False  # meet the fault
    gpus: int = 1
    pinned: bool = False  # struck as soon as its host key is known
    state: str = "ended"
    reason: str = ""
    pill: str = "Failed"
    title: str
    next: str = ""  # what one can do, or what comes next
    words: str = ""  # somebody else's, in the attempts
    said: str = ""  # somebody else's, or ours, in the notice
    tried: str = ""  # our verdict on an attempt
    money: str = ENDED
    alert: str = ""  # what people who look after it all are told


def refused(create: str, reason: str, title: str, next: str, words: str, **more: object) -> Failure:
    return Failure(
        create=create, reason=reason, title=f"Failed: {title}", next=next, words=words,
        said=words, tried="not created", money=NOTHING, **more,
    )  # fmt: skip


def bad(create: str, reason: str, title: str, next: str, said: str = "", **more: object) -> Failure:
    return Failure(
        create=create, reason=reason, title=f"Failed: {title}", next=next, said=said,
        tried="confirmed gone", **more,
    )  # fmt: skip


def alive(title: str, next: str, alert: str, **more: object) -> Failure:
    return Failure(
        state="running", title=title, next=next, alert=alert, money=FLOWS,
        **({"tried": "in use"} | more),
    )  # fmt: skip


ONLY = ("no_offers", "the chosen offer gave no machine", "another offer, or allow comparable ones")
FUNDS = ("no_funds", "the marketplace account has no funds", "Add credit")
KEY = ("auth", "the marketplace does not accept our key", "administrator must replace the key")
WRONG = ("invalid", "the marketplace calls the request wrong", "Check image and disk size")
BOOT = ("boot_failed", "the machine failed to start", "try another offer")
LATE = ("boot_timeout", "the machine did not start in time", "Try another offer")
MUTE = ("ssh_timeout", "SSH did not answer in time", "try another offer")
NO_GPU = ("ssh_timeout", "the GPU could not be checked in time", "driver is missing")
NO_KEY = ("ssh_refused", "SSH refused the key", "another image or offer")
OTHER = ("wrong_hardware", "not the GPU that was sold", "an offer from another host")
DOCK = {"provider": "tensordock"}

# Those whose machine must run first, so that they are launched first.
RUNNING: dict[str, Failure] = {
    "outbid after a lost answer": alive(
        "SSH does not answer", "Stop it if you do not want to wait", "SSH does not answer",
        create="lost_500", strike=("instance", "outbid"), pill="Unreachable",
        words="Internal Server Error", said="reports the machine as “",
        tried="found by its label after an unclear answer",
    ),
    "offline after too many requests": alive(
        "SSH does not answer", "Stop it if you do not want to wait", "SSH does not answer",
        create="rate_limited", strike=("instance", "offline"), pill="Unreachable",
        words=BUSY, said="reports the machine as “",
        tried="Too many requests; trying again later. Nothing billed.",
    ),
    "other host key after another offer": alive(
        "The SSH host key changed", "Stop it unless you know why", "the SSH host key changed",
        create="no_such_ask_404", fallback="gpu", gpu="RTX A4000",
        strike=("ssh", "host_key_changed"), pill="Host key changed",
        words=GONE, said="nothing was run there",
        tried="The offer is gone. Nothing billed.",
    ),
    "price raised after a leftover": alive(
        "The price has risen", "Stop it if that is too much", "billed .* an hour, agreed were",
        create="orphan", fallback="gpu", gpu="RTX A5000", strike=("instance", "price_raised"),
        pill="Running", tried=LEFT,
    ),
    "port closed after a lost answer": alive(
        "SSH does not answer", "Stop it if you do not want to wait", "SSH does not answer",
        create="lost_500", strike=("ssh", "ssh_refused"), pill="Unreachable", **DOCK,
        words="Internal Server Error", said="closed", tried="found by its label",
    ),
    "vanished": Failure(
        strike=("instance", "vanish"), reason="vanished", pill="Lost",
        title="The machine vanished", next="Launch again", tried="confirmed gone",
    ),
    "destroy refused": Failure(
        strike=("destroy", "http_500"), stop=True, passes="end", state="stopping", reason="user",
        pill="Stopping", title="Stopped on request, but it is not gone yet",
        next="If it stays, destroy it at Vast.ai", words="Internal Server Error",
        said=r"try \d+, repeated until it is gone.*Internal Server Error",
        tried="being destroyed", money=STILL, alert="not yet gone, still billed; destroy sent",
    ),
    "destroy without effect": Failure(
        strike=("instance", "immortal"), stop=True, passes="end", state="stopping", reason="user",
        pill="Stopping", title="Stopped on request, but it is not gone yet", **DOCK,
        next="If it stays, destroy it at TensorDock", said="TensorDock accepted the destroy",
        tried="being destroyed", money=STILL, alert="not yet gone, still billed; destroy sent",
    ),
}  # fmt: skip
REFUSED: dict[str, Failure] = {
    "every offer gone": refused(
        "no_such_ask_410", "offer_gone", "the offers were already taken", "Refresh the offers",
        "no longer available", fallback="gpu", gpu="RTX 3090", all_of_them=True,
        passes="none",
    ),
    "late machine": Failure(
        create="late", more=(("seconds", 450),), passes="settle", reason=ONLY[0],
        title=f"Failed: {ONLY[1]}", next=ONLY[2], words="no answer",
        said="A machine turned up later all the same",
        tried="came late.*billed until then", money="late machine cost is not counted",
    ),
    "too many requests": refused(
        "rate_limited", "not_created", "no machine could be created in time", "Try again later",
        BUSY, more=(("times", 0),), passes="offers",
    ),
    "gone": refused("no_such_ask_410", *ONLY, GONE),
    "gone in place": refused("hostnode_unavailable", *ONLY, GONE, **DOCK),
    "no funds": refused("missing_billing", *FUNDS, "You lack credit"),
    "low balance": refused("low_balance", *FUNDS, r"need at least \$1.00", **DOCK),
    "key refused": refused("auth_401", *KEY, "Invalid user key"),
    "key forbidden": refused("auth_403", *KEY, "Forbidden", **DOCK),
    "wrong request": refused("invalid_args", *WRONG, "Invalid args"),
    "wrong disk": refused("validation", *WRONG, "storage_gb", **DOCK),
    "server error": refused("http_502", *ONLY, "502", passes="settle"),
    "server error in place": refused("http_500", *ONLY, "Internal", passes="settle", **DOCK),
    "cut connection": refused("drop", *ONLY, "no answer", passes="settle"),
    "no answer": refused("hang", *ONLY, "no answer", passes="settle"),
    "leftover": Failure(
        create="orphan", reason=ONLY[0], title=f"Failed: {ONLY[1]}", next=ONLY[2], tried=LEFT
    ),
}  # fmt: skip
BAD: dict[str, Failure] = {
    "boot never ends": bad("boot_never_ends", *LATE, "nvidia/cuda", passes="boot"),
    "place never boots": bad("boot_never_ends", *LATE, passes="boot", **DOCK),
    "no address": bad("address_late", *LATE, passes="boot", **DOCK),
    "error state": bad("fails", *BOOT, **DOCK),
    "exits": bad("exits_at_once", *BOOT, "exited"),
    "no such image": bad("image_missing", *BOOT, "manifest unknown"),
    "port closed": bad("ssh_refused", *MUTE, "The port is closed", passes="verify"),
    "port mute": bad("ssh_mute", *MUTE, "not as an SSH server", passes="verify"),
    "key not installed": bad("auth_refused", *NO_KEY, "does not accept gpubroker's key"),
    "key not installed in place": bad("auth_refused", *NO_KEY, "does not accept", **DOCK),
    "no driver": bad("no_driver", *NO_GPU, "no nvidia-smi", passes="verify"),
    "no GPU": bad("missing_gpu", *NO_GPU, "No devices", passes="verify"),
    "wrong GPU": bad("wrong_gpu", *OTHER, "found GTX 1660 Super.*on each GPU, found 6144 MB"),
    "fewer GPUs": bad("missing_gpu", *OTHER, "Sold with 2 GPU, found 1", gpu="RTX 5090", gpus=2),
    "dearer": bad(
        "price_raised", "price_breach", "billed above the agreed price", "Choose another offer",
        r"billed \$.*, agreed \$",
    ),
    "host key swapped": bad(
        "no_driver", "host_key_changed", "the SSH host key changed", "Trust nothing",
        "nothing was run there", strike=("ssh", "host_key_changed"), pinned=True,
    ),
    "time over": bad(
        "boot_never_ends", "expired", "reached its end time", "Launch again", passes="now"
    ),
}  # fmt: skip
FAILURES = RUNNING | REFUSED | BAD
NOT_HERE = {  # reasons of explain.py that are no failure, and who tests them
    "admin": "a person's wish, as user is: tests/web/test_access.py",
    "idle": "asked for by a person: tests/e2e/test_idle.py",
    "provider_gone": "no reason of an end: a marketplace without its key, below",
}


STAMP = "%Y-%m-%d %H:%M:%f"
AGAIN = 2
PASSES = {  # simulated seconds that pass
    "boot": [("session", "state_since", 2400)],
    "verify": [("session", "state_since", 600)],
    "offers": [("attempt", "sent_at", 600)],
    "settle": [("attempt", "answered_at", 300)],
    "end": [("session", "state_since", 400)],
    "now": [("session", "expires_at", 5 * 3600 * 20)],
}
PASSED: dict[str, Callable[[Failure, dict, dict], object]] = {  # from when on
    "boot": lambda f, s, a: s["state"] == "booting" and re.search(f.said, a["status_message"]),
    "verify": lambda f, s, a: s["state"] == "verifying" and re.search(f.said, s["ssh_message"]),
    "offers": lambda f, s, a: a["number"] > 1 and a["message"],
    "settle": lambda f, s, a: a["outcome"] == "unknown",
    "end": lambda f, s, a: s["state"] == "stopping" and a["destroy_tries"] > 1,
    "now": lambda f, s, a: s["state"] == "booting",
}


class Stand:
    """A world in which all of them are met, each with an offer of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pks: dict[str, str] = {}
        self.struck: set[str] = set()  # sessions
        self.passed: set[str] = set()
        self.again: list[str] = []  # what a busy machine spoilt, and how
        self.stock = {"vastai": iter(self.single()), "tensordock": iter(self.shared())}
        self.pairs = iter(self.two())

    # -- offers

    def single(self) -> list[dict]:
        own = {failure.gpu for failure in FAILURES.values()}
        return [offer for offer in self.world.offers() if offer["gpu_name"] not in own]

    def shared(self) -> list[dict]:
        """One a place and GPU, reached through forwarded ports, cheapest first."""
        sql = "SELECT * FROM providers_offer WHERE listed AND provider = 'tensordock'"
        shared = "gpu_count = 1 AND offer_id LIKE '%:shared'"
        rows = self.world.rows(f"{sql} AND {shared} ORDER BY CAST(base_price_per_hour AS REAL)")
        return list({asked_for(row["offer_id"]): row for row in rows}.values())

    def two(self) -> list[dict]:
        """Two GPUs each, of a model that no other failure rents."""
        sql = "SELECT * FROM providers_offer WHERE listed AND gpu_count = 2 AND gpu_name = ?"
        [model] = {failure.gpu for failure in FAILURES.values() if failure.gpus == 2}
        rows = self.world.rows(f"{sql} AND provider = 'vastai'", model)
        return list({row["machine_id"]: row for row in rows}.values())

    def offer(self, failure: Failure) -> dict:
        if failure.gpus == 2:
            return next(self.pairs)
        return (
            self.world.offers(failure.gpu)[0] if failure.gpu else next(self.stock[failure.provider])
        )

    # -- what happens

    def launch(self, name: str) -> None:
        failure = FAILURES[name]
        offer = self.offer(failure)
        spoilt = self.world.offers(failure.gpu) if failure.all_of_them else [offer]
        for each in spoilt if failure.create else ():
            self.world.spoil(each, failure.create, **dict(failure.more))
        self.pks[name] = self.world.launch(offer, fallback=failure.fallback)

    def label(self, name: str) -> str:
        return self.world.attempts(self.pks[name])[-1]["label"]

    def tend(self) -> None:
        """Strike what runs, and let the time pass that somebody would have to wait."""
        rows = self.world.rows("SELECT * FROM gpu_sessions_session WHERE state != 'ended'")
        sessions = {row["id"]: row for row in rows}
        for name, pk in self.pks.items():
            if pk in sessions:
                self.strike(name, FAILURES[name], sessions[pk])
                self.let_pass(name, FAILURES[name], sessions[pk])

    def strike(self, name: str, failure: Failure, session: dict) -> None:
        ready = session["state"] == "running" or (failure.pinned and session["host_key"])
        if not failure.strike[0] or not ready or session["id"] in self.struck:
            return
        self.struck.add(session["id"])
        operation, fault = failure.strike
        lasting = {"times": 0} if operation == "destroy" else {}
        self.world.fault(operation, fault, label=self.label(name), **lasting)
        if failure.stop:
            self.world.ask_to_stop(session["id"])

    def let_pass(self, name: str, failure: Failure, session: dict) -> None:
        attempts = self.world.attempts(session["id"])
        if failure.passes == "none":
            self.hold(session["id"])
        if session["id"] in self.passed or not attempts or failure.passes in ("", "none"):
            return
        if PASSED[failure.passes](failure, session, attempts[-1]):
            self.passed.add(session["id"])
            for table, column, seconds in PASSES[failure.passes]:
                self.earlier(table, column, seconds, session["id"])
            if failure.create == "late":  # what comes late is to stay until somebody has seen it
                self.world.fault("destroy", "http_500", label=self.label(name), times=0)

    def hold(self, pk: str) -> None:
        """As if its tries had begun just now."""
        sql = f"UPDATE gpu_sessions_attempt SET sent_at = strftime('{STAMP}', 'now')"
        self.world.write(f"{sql} WHERE session_id = ? AND resolution = 'not_created'", pk)

    def earlier(self, table: str, column: str, seconds: float, pk: str) -> None:
        """As if it had been so many simulated seconds before."""
        own = "id" if table == "session" else "session_id"
        sql = f"UPDATE gpu_sessions_{table} SET {column} = strftime('{STAMP}', {column}, ?)"
        self.world.write(f"{sql} WHERE {own} = ?", f"-{seconds / self.world.clock} seconds", pk)

    # -- how it went

    def wait(self, name: str) -> str:
        """Until all is as it will be; the session. What a busy machine spoilt is played again."""
        until(f"the end of “{name}”", lambda: self.tend() or self.settled(name))
        for _ in range(AGAIN):
            if self.as_wanted(name):
                break
            self.again.append(f"{name}: {self.world.session(self.pks[name])['reason']}")
            self.launch(name)
            until(f"the end of “{name}”", lambda: self.tend() or self.settled(name))
        assert self.as_wanted(name), self.world.story(self.pks[name])
        return self.pks[name]

    def as_wanted(self, name: str) -> bool:
        failure, session = FAILURES[name], self.world.session(self.pks[name])
        starved = self.world.attempts(self.pks[name])[-1]["outcome"] == "not_sent"
        wanted = (session["state"], session["reason"]) == (failure.state, failure.reason)
        return wanted and not starved

    def settled(self, name: str) -> bool:
        failure, session = FAILURES[name], self.world.session(self.pks[name])
        if session["state"] == "ended":
            return failure.create != "late" or bool(self.sighted(name))
        if failure.state == "stopping":
            return session["id"] in self.passed
        if failure.state != "running" or session["state"] != "running":
            return False
        attempt = self.world.attempts(session["id"])[-1]
        dearer = (attempt["actual_price_per_hour"] or 0) > 1.2 * float(attempt["price_per_hour"])
        return bool(session["unreachable_since"] or session["host_key_changed"] or dearer)

    def sighted(self, name: str) -> list[dict]:
        sql = "SELECT * FROM gpu_sessions_sighting WHERE label = ?"
        return self.world.rows(sql, self.label(name))
