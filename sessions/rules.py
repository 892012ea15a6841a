"""Every waiting rule of a session's life, in one place and in seconds (safety.md sections 2-4)."""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal

from providers.usage import MAX_HOURS
from providers.waits import seconds

MAX_OFFERS = 5  # create calls that count, per session
LOOKS_NEEDED = 4  # complete listings without the label before a lost create is "not created"
ABSENCES_AFTER_DESTROY = 2
ABSENCES_VANISHED = 3
REFUSALS_NEEDED = 3  # of our key, after the grace
UNREACHABLE_AFTER = 3  # failed SSH looks in a row
PRICE_TOLERANCE = Decimal("1.05")
CENT_OF_A_CENT = Decimal("0.0001")  # USD: marketplaces round as they like (I26)
EXTEND_HOURS = 1


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Seconds, as long as they are in production; `scaled()` gives those to wait by now."""

    offers: float = 600  # trying offers
    boot: float = 900
    verify: float = 600
    create_call: float = 75  # the longest a create request can be on its way
    permit: float = 10  # a permit older than this is not used
    settle: float = 180  # after which a lost create cannot turn up any more
    key_grace: float = 60
    poll: float = 3  # between looks at a waiting session
    ssh_retry: float = 5
    ssh_watch: float = 60  # between looks at a running session
    switch_look: float = 600  # between questions how a machine's own switch is
    idle_gap: float = 300  # without a look for longer, nobody knows that a GPU was idle
    idle_notice: float = 600  # from the warning to the stop of an idle machine
    absence_gap: float = 20  # between two pieces of evidence after a destroy
    vanish_span: float = 180  # from the first to the last piece when nobody destroyed
    destroy_again: float = 60  # still listed after an accepted destroy
    destroy_alert: float = 300
    backoff_cap: float = 60
    backoff_cap_late: float = 300  # for a destroy that fails for 15 minutes
    destroy_late: float = 900
    orphan_gap: float = 60  # between the two looks at an orphan
    orphan_quarantine: float = 1800  # ours by label, but no row knows it

    def scaled(self) -> "Rules":
        return replace(self, **{f.name: seconds(getattr(self, f.name)) for f in fields(self)})


RULES = Rules()


def latest_end(created_at: datetime) -> datetime:
    """Of a session, however often it is extended."""
    return created_at + timedelta(hours=MAX_HOURS)


def next_extension(created_at: datetime, expires_at: datetime) -> timedelta:
    """What one more adds; nothing once the session is as long as it may be."""
    left = latest_end(created_at) - expires_at
    return max(min(left, timedelta(hours=EXTEND_HOURS)), timedelta(0))


def rules_for(*, create_call: float, settle: float, key_grace: float, boot: float) -> Rules:
    """The scaled rules with what a marketplace asks for (capabilities, unscaled seconds)."""
    own = {"create_call": create_call, "settle": settle, "key_grace": key_grace, "boot": boot}
    return replace(RULES, **own).scaled()
