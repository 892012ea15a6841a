"""What we rented, from intent to proof: the rows. moves.py alone changes a session's state."""

import uuid
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from .states import Fallback, Outcome, Resolution, State


class SSHKey(models.Model):
    """A person's public key, normalised to `type base64`; never a private one."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="ssh_keys"
    )
    name = models.CharField(max_length=80)
    public_key = models.TextField()
    fingerprint = models.CharField(max_length=60)  # SHA256:...
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "fingerprint"], name="key_once_per_person"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint})"


class SessionQuerySet(models.QuerySet):
    def visible_to(self, user) -> "SessionQuerySet":
        """The only rule of who may see a session: its owner, and those who may see all."""
        if not user.is_authenticated:
            return self.none()
        if user.has_perm("gpu_sessions.view_all_sessions"):
            return self
        return self.filter(owner=user)

    def open(self) -> "SessionQuerySet":
        return self.exclude(state=State.ENDED)


class Session(models.Model):
    """One rental. moves.py writes its state; `outcome` and `reason` are written once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    code = models.CharField(max_length=16, unique=True, editable=False)  # in labels and in talk
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="gpu_sessions"
    )
    idempotency_key = models.CharField(max_length=64)
    state = models.CharField(max_length=12, choices=State.choices, default=State.REQUESTED)
    state_since = models.DateTimeField()
    outcome = models.CharField(max_length=8, choices=Outcome.choices, blank=True)
    reason = models.CharField(max_length=40, blank=True)  # a word of explain.py
    reason_text = models.CharField(max_length=500, blank=True)  # the provider's or our own words
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()
    stop_requested_at = models.DateTimeField(null=True)

    # what the person fixed at launch
    provider = models.CharField(max_length=20)
    offer_id = models.CharField(max_length=200)  # the offer that was clicked
    gpu_name = models.CharField(max_length=80)
    gpu_count = models.PositiveSmallIntegerField()
    gpu_memory_mb = models.PositiveIntegerField()
    max_price_per_hour = models.DecimalField(max_digits=10, decimal_places=6)  # absolute
    fallback = models.CharField(max_length=10, choices=Fallback.choices, default=Fallback.SAME_GPU)
    requirements = models.JSONField(default=dict)  # countries, min_reliability, verified_only
    image = models.CharField(max_length=300)
    disk_gb = models.PositiveIntegerField()
    startup_script = models.TextField(blank=True)
    idle_minutes = models.PositiveSmallIntegerField(null=True)  # None = no stop when idle
    public_keys = models.JSONField(default=list)  # of the person, as they were at launch

    # secrets, encrypted (vault.py); erased at the end
    checker_key = models.TextField(blank=True)  # gpubroker's own private key
    checker_public_key = models.TextField(blank=True)
    generated_key = models.TextField(blank=True)  # for a person without a key of their own

    # what verification found
    host_key = models.TextField(blank=True)  # `type base64`, pinned on first contact
    ssh_attempts = models.PositiveIntegerField(default=0)
    ssh_refusals = models.PositiveIntegerField(default=0)  # of our key, after the grace
    ssh_stage = models.CharField(max_length=12, blank=True)  # "", open, key, gpu
    ssh_message = models.CharField(max_length=300, blank=True)
    ssh_open_at = models.DateTimeField(null=True)
    ssh_key_at = models.DateTimeField(null=True)
    verified_at = models.DateTimeField(null=True)
    ssh_seen_at = models.DateTimeField(null=True)  # last successful login
    ssh_checked_at = models.DateTimeField(null=True)  # last look, whatever it found
    ssh_failures = models.PositiveIntegerField(default=0)  # in a row, while running
    ssh_way = models.JSONField(default=dict)  # the {host, port, user} that let us in last
    host_key_changed = models.BooleanField(default=False)  # nothing is run there any more
    found = models.JSONField(default=dict)  # gpus [[name, memory_mb]], driver, cuda, problems []
    unreachable_since = models.DateTimeField(null=True)

    # the stop when idle, while running
    idle_from = models.DateTimeField(null=True)  # somebody said "in use": samples before are void
    idle_warned_at = models.DateTimeField(null=True)
    idle_stops_at = models.DateTimeField(null=True)  # as announced by that warning; never earlier

    # the engine
    due_at = models.DateTimeField()
    claimed_until = models.DateTimeField(null=True)
    fence = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)  # of the present step, in a row
    version = models.PositiveIntegerField(default=1)  # of what people see
    changed_at = models.DateTimeField()

    objects = SessionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="launch_once"),
            models.CheckConstraint(
                condition=~Q(state=State.ENDED) | (Q(ended_at__isnull=False) & ~Q(outcome="")),
                name="ended_has_outcome",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=~Q(state="ended"), name="session_due"),
            models.Index(fields=["owner", "-created_at"]),
            models.Index(fields=["changed_at"]),
        ]
        permissions = [
            ("view_all_sessions", "Can see everybody's sessions"),
            ("stop_all_sessions", "Can stop everybody's sessions"),
        ]

    def __str__(self) -> str:
        return f"{self.code} ({self.state})"

    @property
    def is_open(self) -> bool:
        return self.state != State.ENDED

    @property
    def attempt(self) -> "Attempt | None":
        """The newest attempt."""
        return self.attempts.order_by("-number").first()


class Attempt(models.Model):
    """One create call. The label is unique and known before the call (I3, I5)."""

    session = models.ForeignKey(Session, on_delete=models.PROTECT, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    provider = models.CharField(max_length=20)
    account_id = models.CharField(max_length=64, blank=True)
    label = models.CharField(max_length=60, unique=True)
    offer_id = models.CharField(max_length=200)
    # the offer as it was shown: facts and details; "rates": what was billed before [[until, price]]
    offer = models.JSONField(default=dict)
    price_per_hour = models.DecimalField(max_digits=10, decimal_places=6)  # agreed, disk included
    actual_price_per_hour = models.DecimalField(max_digits=10, decimal_places=6, null=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)  # the permit: committed before the request leaves
    answered_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=12, blank=True)  # CreateOutcome, as answered
    message = models.CharField(max_length=500, blank=True)  # the provider's own words
    instance_id = models.CharField(max_length=80, blank=True)  # never erased
    resolution = models.CharField(max_length=12, choices=Resolution.choices, blank=True)
    resolved_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)  # the provider said running, with an address
    raw_state = models.CharField(max_length=40, blank=True)
    status_message = models.CharField(max_length=300, blank=True)
    endpoints = models.JSONField(default=list)  # [{host, port, user}]
    keys_attached = models.PositiveSmallIntegerField(default=0)
    last_seen_at = models.DateTimeField(null=True)  # in a listing or a by-id read
    looks = models.PositiveSmallIntegerField(default=0)  # for a lost create, in complete listings
    last_look_at = models.DateTimeField(null=True)
    destroy_sent_at = models.DateTimeField(null=True)
    destroy_accepted_at = models.DateTimeField(null=True)
    destroy_tries = models.PositiveIntegerField(default=0)
    destroy_message = models.CharField(max_length=500, blank=True)
    absences = models.PositiveSmallIntegerField(default=0)  # pieces of evidence in a row
    first_absence_at = models.DateTimeField(null=True)
    last_absence_at = models.DateTimeField(null=True)
    gone_at = models.DateTimeField(null=True)
    switch_at = models.DateTimeField(null=True)  # the end that the machine's own switch goes by
    switch_seen_at = models.DateTimeField(null=True)  # when the machine itself last said so
    ended_itself_at = models.DateTimeField(null=True)  # its switch fired: no destroy of ours

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "number"], name="attempt_number"),
            models.UniqueConstraint(
                fields=["session"],
                condition=~Q(resolution__in=["not_created", "gone"]),
                name="one_open_attempt",
            ),
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def is_closed(self) -> bool:
        return self.resolution in (Resolution.NOT_CREATED, Resolution.GONE)

    def cost(self, now, since: datetime | None = None) -> Decimal:
        """USD since the permit (or since then): until now, or until billing ended as the proof has
        shown (I22). What was billed at another price counts at that one."""
        if not self.sent_at or self.resolution == Resolution.NOT_CREATED:
            return Decimal(0)
        total, start = Decimal(0), max(self.sent_at, since or self.sent_at)
        end = self.billed_until(now)
        for until, price in self.rates(end):
            until = min(until, end)
            total += Decimal(max((until - start).total_seconds(), 0)) / 3600 * price
            start = max(start, until)
        return total

    def rates(self, end: datetime) -> list[tuple[datetime, Decimal]]:
        """Each price per hour with the instant until which it was billed, in order."""
        earlier = self.offer.get("rates", ())
        before = [(datetime.fromisoformat(until), Decimal(price)) for until, price in earlier]
        return [*before, (end, self.actual_price_per_hour or self.price_per_hour)]

    def billed_until(self, now) -> datetime:
        """Proven gone, it was billed until the destroy that worked, or until it was missed."""
        if not self.gone_at:
            return now
        missed_at = self.first_absence_at or self.gone_at
        return self.ended_itself_at or self.destroy_accepted_at or missed_at


class GPUSample(models.Model):
    """What one look at a running session saw of its GPUs. None = the machine did not tell."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="gpu_samples")
    at = models.DateTimeField(db_index=True)
    load = models.PositiveSmallIntegerField(null=True)  # per cent, of the busiest GPU
    memory_mb = models.PositiveIntegerField(null=True)  # in use, on all GPUs together

    class Meta:
        indexes = [models.Index(fields=["session", "at"])]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {self.load} %"


class AuditEventQuerySet(models.QuerySet):
    def visible_to(self, user) -> "AuditEventQuerySet":
        """What happened to the sessions that one may see; everything for those who see all."""
        if not user.is_authenticated:
            return self.none()
        if user.has_perm("gpu_sessions.view_all_sessions"):
            return self
        return self.filter(session_code__in=Session.objects.visible_to(user).values("code"))


class AuditEvent(models.Model):
    """One fact that can never be changed. Rows are written by audit.append alone (I23)."""

    sequence = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()
    action = models.CharField(max_length=40)  # "session.state", "provider.create.intent", ...
    actor = models.CharField(max_length=80)  # "user:7", "worker", "system"
    reason = models.CharField(max_length=200, blank=True)
    session_code = models.CharField(max_length=16, blank=True, db_index=True)
    provider = models.CharField(max_length=20, blank=True)
    label = models.CharField(max_length=60, blank=True)
    request_id = models.CharField(max_length=40, blank=True)
    data = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        ordering = ["sequence"]
        indexes = [models.Index(fields=["action"]), models.Index(fields=["at"])]

    def __str__(self) -> str:
        return f"{self.sequence} {self.action}"


class Deployment(models.Model):
    """Who we are: one row, made at first start (I2). The secret signs our labels."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    deployment_id = models.CharField(max_length=10)
    secret = models.TextField()  # encrypted (vault.py)
    installation_id = models.CharField(max_length=40)  # also in the data directory
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.deployment_id


class Sighting(models.Model):
    """An instance with our label that no open attempt explains (orphan), until it is gone."""

    provider = models.CharField(max_length=20)
    instance_id = models.CharField(max_length=80)
    label = models.CharField(max_length=60)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    looks = models.PositiveIntegerField(default=1)
    destroy_tries = models.PositiveIntegerField(default=0)
    next_destroy_at = models.DateTimeField(null=True)
    absences = models.PositiveSmallIntegerField(default=0)
    last_absence_at = models.DateTimeField(null=True)
    gone_at = models.DateTimeField(null=True)
    hurried_at = models.DateTimeField(null=True)  # somebody wants no quarantine
    ignored_at = models.DateTimeField(null=True)  # somebody wants it to live: never destroyed
    ignored_by = models.CharField(max_length=80, blank=True)  # "user:7"
    ignored_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "instance_id"], name="sighting_once"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.instance_id}"


class Slot(models.Model):
    """One long-lived slice: who holds it and when it last lived."""

    number = models.PositiveSmallIntegerField(primary_key=True)
    generation = models.PositiveIntegerField(default=0)
    beat_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"slot {self.number}"


class Heartbeat(models.Model):
    """The newest sign of life of a part of the whole ("worker", "canary")."""

    name = models.CharField(max_length=40, primary_key=True)
    at = models.DateTimeField()
    data = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name
