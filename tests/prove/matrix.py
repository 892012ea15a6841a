"""The fault matrix (safety.md 6.3) as data: what goes wrong, when, and how it must end."""

from collections.abc import Iterator
from dataclasses import dataclass

UNDONE = ("http_500", "http_502", "http_503", "http_504", "drop", "hang", "not_json", "empty_body")
UNDONE += ("redirect", "huge_body")
DONE = ("lost_500", "lost_502", "lost_504", "lost_drop", "lost_hang", "lost_not_json", "cut_body")
OUTAGE, LONG = 60, 240  # simulated seconds: a fault at the end, a fault in the middle
GONE = {"vastai": ("no_such_ask_400", "no_such_ask_404", "no_such_ask_410")}
GONE |= {"tensordock": ("no_nodes", "no_nodes_400", "hostnode_unavailable", "no_public_ip")}
POOR = {"vastai": ("missing_billing", "insufficient_credit"), "tensordock": ("low_balance",)}
REFUSED = {"vastai": ("auth_401", "auth_403"), "tensordock": ("auth_401", "auth_403")}
INVALID = {"vastai": ("invalid_args",), "tensordock": ("ssh_rule",)}
LISTS = {"vastai": ("duplicate_rows", "lost_row", "total_shifts", "token_loop", "strange_ids")}
LISTS |= {"tensordock": ("duplicate_rows", "strange_ids", "row_without_id", "unknown_shape")}
BAD_MACHINES = {  # fault of the machine -> why its session must fail
    "boot_never_ends": "boot_timeout",
    "exits_at_once": "boot_failed",
    "price_raised": "price_breach",
    "ssh_refused": "ssh_timeout",
    "ssh_mute": "ssh_timeout",
    "auth_refused": "ssh_refused",
    "wrong_gpu": "wrong_hardware",
    "no_driver": "ssh_timeout",
}
VAST_ONLY = ("exits_at_once", "price_raised")


@dataclass(frozen=True)
class Cell:
    """`when`: the step of the session at which the fault is posted."""

    provider: str
    step: str  # create, running, destroy, confirm
    operation: str
    fault: str
    when: str  # launch, running, stop
    seconds: float = 0
    outcome: str = "ok"
    reason: str = "user"
    attempts: tuple[str, ...] = ()  # resolution or outcome of each, when it is fixed

    @property
    def name(self) -> str:
        seconds = f"/{self.seconds:g}" if self.fault == "list_lag" else ""
        return f"{self.provider}/{self.step}/{self.operation}/{self.fault}{seconds}"

    def body(self) -> dict[str, object]:
        seconds = {"seconds": self.seconds} if self.seconds else {}
        return {"operation": self.operation, "fault": self.fault} | seconds


def cells(provider: str) -> Iterator[Cell]:
    yield from creates(provider)
    yield from machines(provider)
    yield from while_running(provider)
    yield from at_the_end(provider)


def creates(provider: str) -> Iterator[Cell]:
    def cell(fault: str, *attempts: str, **more: object) -> Cell:
        return Cell(provider, "create", "create", fault, "launch", attempts=attempts, **more)

    for fault in UNDONE:
        yield cell(fault, "not_created", "gone")
    for fault in DONE:
        yield cell(fault, "adopted")
    for fault in GONE[provider]:
        yield cell(fault, "offer_gone", "gone")
    for fault in POOR[provider]:
        yield cell(fault, "no_funds", outcome="failed", reason="no_funds")
    for fault in REFUSED[provider]:
        yield cell(fault, "auth", outcome="failed", reason="auth")
    for fault in INVALID[provider]:
        yield cell(fault, "invalid", outcome="failed", reason="invalid")
    yield cell("rate_limited", "rate", "gone")
    if provider == "vastai":
        yield cell("orphan", "leftover", "gone")
        yield cell("late", "adopted", seconds=170)
    for seconds in (10, 60, 170):
        yield cell("list_lag", "gone", seconds=seconds)


def machines(provider: str) -> Iterator[Cell]:
    for fault, reason in BAD_MACHINES.items():
        if provider == "vastai" or fault not in VAST_ONLY:
            yield Cell(
                provider, "verify", "create", fault, "launch", outcome="failed", reason=reason
            )  # fmt: skip


def while_running(provider: str) -> Iterator[Cell]:
    """Long enough to be called lost, if it were believed; and nothing may happen."""

    def cell(operation: str, fault: str, **more: object) -> Cell:
        return Cell(provider, "running", operation, fault, "running", LONG, **more)

    for fault in (*UNDONE, "cut_body", "rate_limited", "empty_list", *LISTS[provider]):
        if fault != "huge_body":
            yield cell("list", fault)
    for fault in ("auth_401", "http_503", "drop", "other_account"):
        yield cell("*", fault)
    for fault in ("ssh_refused", "ssh_mute", "host_key_changed", "no_driver"):
        yield cell("ssh", fault)
    for fault in ("outbid", "offline") if provider == "vastai" else ():
        yield cell("instance", fault)
    yield Cell(
        provider, "running", "instance", "vanish", "running", 1, outcome="lost", reason="vanished"
    )  # fmt: skip


def at_the_end(provider: str) -> Iterator[Cell]:
    for fault in (*UNDONE, *DONE, "rate_limited"):
        if fault != "huge_body":
            yield Cell(provider, "destroy", "destroy", fault, "stop", OUTAGE)
    yield Cell(provider, "destroy", "instance", "immortal", "stop", OUTAGE + 30)
    yield Cell(provider, "destroy", "destroy", "still_listed", "stop", OUTAGE)
    yield Cell(provider, "destroy", "*", "auth_401", "stop", OUTAGE)
    yield Cell(provider, "destroy", "*", "other_account", "stop", OUTAGE)
    for operation in ("list", "read"):
        for fault in ("http_500", "http_502", "drop", "not_json", "rate_limited"):
            yield Cell(provider, "confirm", operation, fault, "stop", OUTAGE)
    for fault in ("empty_list", *LISTS[provider]):
        yield Cell(provider, "confirm", "list", fault, "stop", OUTAGE)
