"""What every marketplace offers us: the records, the outcomes, and the calls.

Shapes follow contracts proposed for five marketplaces. Money is Decimal USD, memory MB,
disk GB, instants timezone-aware UTC. An adapter keeps no state and never retries a create.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from .dead_man import Lease


class ProviderError(Exception):
    """A read or a destroy that gave no usable answer. It proves nothing; come back later."""


class NotSent(ProviderError):
    """The request never left: DNS, connection refused, TLS, or our breaker is open."""


class RateLimited(ProviderError):
    """The provider said "too often". Counts as no answer and not as a failure."""


class AuthRefused(ProviderError):
    """The provider does not accept our credential."""


class RequestRefused(ProviderError):
    """The provider understood the request and calls it wrong; repeating it will not help."""


class BadResponse(ProviderError):
    """An answer that cannot be believed: not JSON, cut off, too large, or of the wrong shape."""


# [host[:port]/]name[/name...][:tag][@sha256:digest]
CONTAINER_IMAGE = (
    r"([a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]{1,5})?/)?"
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


class InstanceState(StrEnum):
    """What the provider says of a machine. Everything except GONE counts as present (I11)."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"


class CreateOutcome(StrEnum):
    """How a create call ended. Only CREATED, LEFTOVER and UNKNOWN may have cost money."""

    CREATED = "created"
    LEFTOVER = "leftover"  # refused, yet an instance exists: it must be destroyed
    OFFER_GONE = "offer_gone"
    NO_FUNDS = "no_funds"
    AUTH = "auth"
    INVALID = "invalid"
    RATE = "rate"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"  # resolve by label; never send again


class DestroyOutcome(StrEnum):
    ACCEPTED = "accepted"  # not a proof of absence
    NOT_FOUND = "not_found"
    RETRY = "retry"


@dataclass(frozen=True, kw_only=True)
class OfferRecord:
    """Something rentable now. price(disk) = base_price_per_hour + disk * disk_price_per_gb_hour."""

    provider: str
    offer_id: str
    gpu_name: str  # canonical, see gpus.py
    gpu_name_raw: str
    gpu_count: int
    gpu_memory_mb: int  # of one GPU
    base_price_per_hour: Decimal  # all GPUs, with CPU and RAM where those are sold apart
    disk_price_per_gb_hour: Decimal
    disk_gb_max: int
    machine_id: str = ""
    cpu_name: str = ""
    cpu_cores: int = 0
    ram_mb: int = 0
    inet_down_mbps: int | None = None
    inet_up_mbps: int | None = None
    inet_down_price_per_gb: Decimal | None = None
    inet_up_price_per_gb: Decimal | None = None
    reliability: float | None = None  # 0..1
    cuda_max: str = ""
    driver_version: str = ""
    country: str = ""  # two letters, upper case
    place: str = ""
    verified: bool = False
    interruptible: bool = False
    ends_at: datetime | None = None
    details: Mapping[str, object] = field(default_factory=dict)  # what create() needs, JSON only


@dataclass(frozen=True, kw_only=True)
class OfferListing:
    offers: tuple[OfferRecord, ...]
    complete: bool  # the whole stock that matches was read
    complete_from: Decimal = Decimal(0)  # else: no price (with the least disk) from here on ...
    complete_below: Decimal | None = None  # ... and below this was missed
    next_after: str = ""  # where the next reading goes on; empty = at the start
    note: str = ""  # how much was seen, for people
    dropped: int = 0  # rows that could not be believed


@dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """All that a create call carries. The label goes inside it, never in a second call (I3)."""

    label: str
    offer_id: str
    gpu_name_raw: str
    gpu_count: int
    image: str
    disk_gb: int
    ssh_public_keys: tuple[str, ...]
    expires_at: datetime
    startup_script: str = ""
    lease: Lease | None = None  # for the switch of an instance that can end itself
    details: Mapping[str, object] = field(default_factory=dict)  # the offer's


@dataclass(frozen=True, kw_only=True)
class CreateResult:
    outcome: CreateOutcome
    instance_id: str = ""
    message: str = ""  # the provider's words, cleaned
    http_status: int | None = None


@dataclass(frozen=True, kw_only=True)
class SSHEndpoint:
    host: str
    port: int
    user: str


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A machine as the provider knows it."""

    provider: str
    instance_id: str
    label: str
    state: InstanceState
    raw_state: str = ""
    status_message: str = ""
    endpoints: tuple[SSHEndpoint, ...] = ()  # the best way first
    price_per_hour: Decimal | None = None  # as billed now, disk included
    gpu_name_raw: str = ""
    gpu_count: int = 0
    machine_id: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Every instance on the account. Only provably complete readings become a Listing (I12)."""

    instances: tuple[Instance, ...]
    account_id: str


@dataclass(frozen=True, kw_only=True)
class DestroyResult:
    outcome: DestroyOutcome
    message: str = ""
    http_status: int | None = None


@dataclass(frozen=True, kw_only=True)
class Account:
    account_id: str
    balance: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What differs between marketplaces and what the lifecycle must know. Seconds are unscaled."""

    ssh_users: tuple[str, ...] = ("root",)
    attach_key: bool = False  # keys travel in a call after the create
    self_destroy: bool = False  # an instance ends itself by its lease when the broker is dead
    create_seconds: int = 75  # the total deadline of one create request
    settle_seconds: int = 180  # how long a lost create may still turn up
    key_grace_seconds: int = 60  # how long a refused key means nothing
    boot_seconds: int = 900
    offers_ttl_seconds: int = 60
    offer_min_disk_gb: int = 8
    script_max_chars: int = 4096
    default_image: str = "nvidia/cuda:12.4.1-devel-ubuntu22.04"
    image_pattern: str = CONTAINER_IMAGE  # full match


class Provider(ABC):
    """One account of one marketplace. Calls block, each inside its own total deadline."""

    name: str  # "vastai"
    title: str  # "Vast.ai"
    capabilities: Capabilities

    @abstractmethod
    def account(self) -> Account:
        """Who we are and what is left. Raises AuthRefused when the key is not accepted."""

    @abstractmethod
    def search_offers(self, after: str = "") -> OfferListing:
        """The stock, or a part: `after` is the last part's next_after. Raises ProviderError."""

    @abstractmethod
    def create(self, spec: LaunchSpec) -> CreateResult:
        """Exactly one request. Never raises ProviderError: not knowing is an outcome."""

    @abstractmethod
    def list_instances(self) -> Listing:
        """Every instance on the account, or raise: never a partial list."""

    @abstractmethod
    def get_instance(
        self, instance_id: str, details: Mapping[str, object] | None = None
    ) -> Instance | None:
        """None only when the provider says that it does not exist.

        `details`: of the offer that it was rented by, where that is known.
        """

    @abstractmethod
    def destroy(self, instance_id: str) -> DestroyResult:
        """Safe to repeat. Never raises ProviderError: no answer is RETRY."""

    def attach_key(self, instance_id: str, public_key: str) -> None:
        """Install one more public key where capabilities.attach_key says so."""
        raise RequestRefused(f"{self.title} takes keys only with the create call")
