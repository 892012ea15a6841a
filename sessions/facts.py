"""What `decide` may know: plain values, gathered by evidence.py, made by hand in tests."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from providers.base import InstanceState

from .idle import Watch
from .states import Resolution, State


@dataclass(frozen=True, kw_only=True)
class AttemptFacts:
    number: int
    created_at: datetime
    sent_at: datetime | None = None
    answered_at: datetime | None = None
    outcome: str = ""
    message: str = ""
    resolution: str = ""
    instance_id: str = ""
    price_per_hour: Decimal = Decimal(0)
    actual_price_per_hour: Decimal | None = None
    keys_missing: int = 0  # public keys that must still be attached
    ever_seen: bool = False
    looks: int = 0
    last_look_at: datetime | None = None
    destroy_sent_at: datetime | None = None
    destroy_accepted_at: datetime | None = None
    absences: int = 0
    first_absence_at: datetime | None = None
    last_absence_at: datetime | None = None

    @property
    def closed(self) -> bool:
        return self.resolution in (Resolution.NOT_CREATED, Resolution.GONE)

    @property
    def unanswered(self) -> bool:
        """Sent, and nobody knows what came of it."""
        return self.sent_at is not None and not self.instance_id and not self.resolution


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Our instance as the newest listing shows it."""

    instance_id: str
    state: InstanceState
    message: str = ""
    has_endpoint: bool = False
    price_per_hour: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    state: State
    state_since: datetime
    created_at: datetime
    expires_at: datetime
    max_price_per_hour: Decimal
    attempt: AttemptFacts | None = None  # the newest
    offers_tried: int = 0  # create calls that count against the limit
    first_sent_at: datetime | None = None  # of all attempts; waiting for a rate lane is no try
    seen: Seen | None = None  # in the newest listing, complete or not
    listed_at: datetime | None = None  # start of the newest complete listing of this account
    listed: bool = False  # id or label is in that complete listing
    news: dict = field(default_factory=dict)  # columns in which the listing differs from the row
    frozen: str = ""  # why nothing automatic may be done about absence
    read_only: str = ""  # why this deployment may not mutate anything
    ssh_refusals: int = 0
    ssh_seen_at: datetime | None = None
    host_key_changed: bool = False
    hardware: tuple[str, ...] | None = None  # None = not read; empty = what was sold
    ssh_message: str = ""
    ssh_checked_at: datetime | None = None
    idle: Watch | None = None  # None = no stop when idle
