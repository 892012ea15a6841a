"""Offers, prices, and what we know of each marketplace's health."""

from decimal import Decimal

from django.db import models


class Offer(models.Model):
    """The last good reading of one rentable thing. Rows are replaced by catalog.py alone."""

    provider = models.CharField(max_length=20)
    offer_id = models.CharField(max_length=200)
    machine_id = models.CharField(max_length=100, blank=True)
    gpu_name = models.CharField(max_length=80)
    gpu_name_raw = models.CharField(max_length=80)
    gpu_count = models.PositiveSmallIntegerField()
    gpu_memory_mb = models.PositiveIntegerField()
    base_price_per_hour = models.DecimalField(max_digits=10, decimal_places=6)
    disk_price_per_gb_hour = models.DecimalField(max_digits=12, decimal_places=9)
    disk_gb_max = models.PositiveIntegerField()
    cpu_name = models.CharField(max_length=120, blank=True)
    cpu_cores = models.PositiveIntegerField(default=0)
    ram_mb = models.PositiveIntegerField(default=0)
    inet_down_mbps = models.PositiveIntegerField(null=True)
    inet_up_mbps = models.PositiveIntegerField(null=True)
    inet_down_price_per_gb = models.DecimalField(max_digits=10, decimal_places=6, null=True)
    inet_up_price_per_gb = models.DecimalField(max_digits=10, decimal_places=6, null=True)
    reliability = models.FloatField(null=True)
    cuda_max = models.CharField(max_length=20, blank=True)
    driver_version = models.CharField(max_length=40, blank=True)
    country = models.CharField(max_length=2, blank=True)
    place = models.CharField(max_length=120, blank=True)
    verified = models.BooleanField(default=False)
    interruptible = models.BooleanField(default=False)
    ends_at = models.DateTimeField(null=True)
    details = models.JSONField(default=dict)
    fingerprint = models.CharField(max_length=64)  # of all above: unchanged rows stay unwritten
    first_seen_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    listed = models.BooleanField(default=True)  # in the last good reading
    evicted_until = models.DateTimeField(null=True)  # a launch found it gone

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "offer_id"], name="offer_once"),
        ]
        indexes = [
            models.Index(fields=["listed", "gpu_name", "base_price_per_hour"]),
            models.Index(fields=["listed", "base_price_per_hour"]),
            models.Index(
                fields=["evicted_until"],
                condition=models.Q(evicted_until__isnull=False),
                name="offer_evicted",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.gpu_count}x {self.gpu_name} ({self.provider} {self.offer_id})"

    def price_per_hour(self, disk_gb: int) -> Decimal:
        return self.base_price_per_hour + disk_gb * self.disk_price_per_gb_hour


class Kind(models.TextChoices):
    """How one try of an offer went. What is not the offer's doing has no kind."""

    OK = "ok", "worked"
    GONE = "gone", "was gone"
    BOOT = "boot", "did not start"
    SSH = "ssh", "let nobody in by SSH"
    HARDWARE = "hardware", "was not the hardware that was sold"
    PRICE = "price", "was billed above its price"


class Experience(models.Model):
    """One try of an offer by a session, written and forgotten by memory.py alone."""

    provider = models.CharField(max_length=20)
    offer_id = models.CharField(max_length=200)
    machine_id = models.CharField(max_length=100, blank=True)
    place = models.CharField(max_length=120, blank=True)  # or the country, where that is all
    gpu_name = models.CharField(max_length=80)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.provider} {self.offer_id} {self.get_kind_display()}"


class ProviderHealth(models.Model):
    """One row a provider: due work, the last good readings, and the account that we saw."""

    provider = models.CharField(max_length=20, primary_key=True)
    account_id = models.CharField(max_length=64, blank=True)
    balance = models.DecimalField(max_digits=12, decimal_places=4, null=True)
    account_checked_at = models.DateTimeField(null=True)
    account_asked_at = models.DateTimeField(null=True)  # a person waits for a reading; until then
    account_read_at = models.DateTimeField(null=True)  # last good reading
    account_error = models.CharField(max_length=300, blank=True)  # of the newest reading
    auth_error = models.CharField(max_length=300, blank=True)  # empty = the key is accepted
    auth_refused_at = models.DateTimeField(null=True)  # since when it is not
    offers_due_at = models.DateTimeField()
    offers_claimed_until = models.DateTimeField(null=True)
    offers_fence = models.PositiveIntegerField(default=0)
    offers_read_at = models.DateTimeField(null=True)  # last good reading
    offers_error = models.CharField(max_length=300, blank=True)
    offers_failures = models.PositiveIntegerField(default=0)
    offers_note = models.CharField(max_length=300, blank=True)
    listing_due_at = models.DateTimeField()
    listing_claimed_until = models.DateTimeField(null=True)
    listing_fence = models.PositiveIntegerField(default=0)
    listing_error = models.CharField(max_length=300, blank=True)
    listing_failures = models.PositiveIntegerField(default=0)
    frozen_reason = models.CharField(max_length=300, blank=True)  # no automatic destroy (I13)
    version = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "provider health"

    def __str__(self) -> str:
        return self.provider


class Snapshot(models.Model):
    """The latest listing of an account. Incomplete ones prove presence, never absence (I12)."""

    provider = models.CharField(max_length=20, db_index=True)
    started_at = models.DateTimeField()  # before the first page left
    finished_at = models.DateTimeField()
    complete = models.BooleanField()
    account_id = models.CharField(max_length=64, blank=True)
    error = models.CharField(max_length=300, blank=True)
    instances = models.JSONField(default=list)  # [{instance_id, label, state, ...}]

    class Meta:
        indexes = [models.Index(fields=["provider", "-started_at"])]

    def __str__(self) -> str:
        return f"{self.provider} {self.started_at:%H:%M:%S}"


class Lane(models.Model):
    """When the next request of one kind may leave; shared by all processes (I27)."""

    provider = models.CharField(max_length=20)
    operation = models.CharField(max_length=20)  # create, destroy, read, list, attach, offers
    next_at = models.DateTimeField()
    failures = models.PositiveIntegerField(default=0)  # in a row
    open_until = models.DateTimeField(null=True)  # breaker; never honoured for destroy
    opened = models.PositiveIntegerField(default=0)  # times in a row, for the back-off

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "operation"], name="lane_once"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.operation}"


class CallHour(models.Model):
    """The calls of one kind in one hour, written by stats.py alone."""

    provider = models.CharField(max_length=20)
    operation = models.CharField(max_length=20)  # as in Lane
    hour = models.DateTimeField()
    calls = models.PositiveIntegerField(default=0)  # all that came back, whatever they found
    errors = models.PositiveIntegerField(default=0)
    rate_limited = models.PositiveIntegerField(default=0)
    latencies = models.JSONField(default=list)  # answered calls in each bucket of stats.BOUNDS

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "operation", "hour"], name="hour_once"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.operation} {self.hour:%Y-%m-%d %H}:00"


class Stock(models.Model):
    """What the listed offers of one provider are, as one number: another number, other offers."""

    provider = models.CharField(max_length=20, primary_key=True)
    version = models.PositiveBigIntegerField()  # random, so that none ever comes again
    changed_at = models.DateTimeField()
    prices_at = models.DateTimeField(null=True)  # last time that history.py collected them

    def __str__(self) -> str:
        return f"{self.provider} {self.version}"


class PriceHour(models.Model):
    """What one GPU cost at one provider in one hour, written and forgotten by history.py alone."""

    provider = models.CharField(max_length=20)
    gpu_name = models.CharField(max_length=80)
    hour = models.DateTimeField(db_index=True)
    low = models.DecimalField(max_digits=10, decimal_places=6)  # P10, USD per GPU and hour
    median = models.DecimalField(max_digits=10, decimal_places=6)
    offers = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["gpu_name", "provider", "hour"], name="price_hour_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.gpu_name} ({self.provider}) {self.hour:%Y-%m-%d %H}:00"
