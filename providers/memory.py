"""How our own tries of offers went. What failed is trusted less, or rests for a while; people see
the record next to each offer. Rests follow the clock factor; records are of real days."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Q

from .models import Experience, Kind, Offer
from .waits import span

RECORD = timedelta(days=30)  # kept, and counted in success rates
TODAY = timedelta(hours=24)  # "failed here"
LEAST = 0.05

OFFER_DECAY = 0.7  # for each failure of the offer that is younger than
OFFER_SECONDS = 1800
OFFER_FAILURES = 3  # so many of them: it rests as long, from the last one
MACHINE_FAILURES = 2
# A try that fails at its last deadline takes 25 minutes: two of them need a long window to meet.
MACHINE_SECONDS = 24 * 3600  # two failures inside it, or wrong hardware once: a rest as long
PLACE_DECAY = 0.5  # after a failure as the last try there, where machines have no names
PLACE_SECONDS = 1800
TYPE_DECAY = 0.3
TYPE_FAILURES = 3  # different offers of one GPU and marketplace
TYPE_SECONDS = 3600

Key = tuple[str, str]  # provider and id
Tries = Sequence[Experience]  # oldest first


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Of `tried` offers of our own history, so many came to run."""

    scope: str  # in words: "RTX 4090 in Spain"
    ok: int
    tried: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    confidence: float = 1.0  # LEAST to 1: for the order of what costs about the same
    rests_until: datetime | None = None  # left out of what is tried next by itself
    failures: tuple[Experience, ...] = ()  # here, TODAY, newest first
    rates: tuple[Rate, ...] = ()  # the narrowest scope first

    @property
    def rate(self) -> Rate | None:
        return self.rates[0] if self.rates else None

    @property
    def record(self) -> str:
        """12:31 did not start; 12:04 was gone."""
        return "; ".join(f"{e.at:%H:%M} {e.get_kind_display()}" for e in self.failures)


def remember(
    provider: str, offer_id: str, facts: Mapping[str, object], kind: Kind, now: datetime
) -> None:
    """One more try, inside the caller's transaction. `facts` as in Attempt.offer."""
    experience(provider, offer_id, facts, kind, now).save(force_insert=True)
    Experience.objects.filter(at__lt=now - RECORD).delete()


def experience(
    provider: str, offer_id: str, facts: Mapping[str, object], kind: Kind, now: datetime
) -> Experience:
    """Not saved."""
    return Experience(
        provider=provider,
        offer_id=offer_id,
        machine_id=facts.get("machine_id") or "",
        place=facts.get("place") or facts.get("country") or "",
        gpu_name=facts["gpu_name"],
        kind=kind,
        at=now,
    )


# ---- pure arithmetic


def unforgiven(tries: Tries) -> list[Experience]:
    """Failures since the last success: that one has proven the contrary."""
    found: list[Experience] = []
    for one in tries:
        found = [] if one.kind == Kind.OK else [*found, one]
    return found


def younger(tries: Iterable[Experience], seconds: float, now: datetime) -> list[Experience]:
    return [one for one in tries if now - one.at < span(seconds)]


def rest(failures: Tries, number: int, seconds: float, now: datetime) -> datetime | None:
    """The end of the rest that `number` failures within these seconds have earned, if to come."""
    pairs = zip(failures, failures[number - 1 :], strict=False)
    ends = [last.at + span(seconds) for first, last in pairs if last.at - first.at < span(seconds)]
    return max((end for end in ends if end > now), default=None)


def offer_rest(tries: Tries, now: datetime) -> datetime | None:
    return rest(unforgiven(tries), OFFER_FAILURES, OFFER_SECONDS, now)


def machine_rest(tries: Tries, now: datetime) -> datetime | None:
    """An offer that was gone says nothing about its machine."""
    failures = [one for one in unforgiven(tries) if one.kind != Kind.GONE]
    wrong = [one for one in failures if one.kind == Kind.HARDWARE]
    rests = (
        rest(failures, MACHINE_FAILURES, MACHINE_SECONDS, now),
        rest(wrong, 1, MACHINE_SECONDS, now),
    )
    return max(filter(None, rests), default=None)


def offer_factor(tries: Tries, now: datetime) -> float:
    return OFFER_DECAY ** len(younger(unforgiven(tries), OFFER_SECONDS, now))


def place_factor(tries: Tries, now: datetime) -> float:
    return PLACE_DECAY if younger(unforgiven(tries), PLACE_SECONDS, now) else 1


def type_factor(tries: Tries, now: datetime) -> float:
    """Different offers of one GPU fail: the marketplace has fewer of them than it says."""
    failed = {one.offer_id for one in younger(tries, TYPE_SECONDS, now) if one.kind != Kind.OK}
    return TYPE_DECAY if len(failed) >= TYPE_FAILURES else 1


# ---- what is remembered now


class Memory:
    """Tries of TODAY and counts of the RECORD at one moment, for any number of offers."""

    def __init__(
        self,
        tries: Iterable[Experience],
        now: datetime,
        counts: Iterable[Mapping[str, str | int]] = (),
    ) -> None:
        self.now = now
        self.offers, self.machines, self.places, self.types = (
            defaultdict[Key, list[Experience]](list) for _ in range(4)
        )
        for one in sorted(tries, key=lambda e: e.at):
            self.add(one)
        self.counts = defaultdict[tuple[str, str, str], tuple[int, int]](lambda: (0, 0))
        for row in counts:
            self._count(row)

    def add(self, one: Experience) -> None:
        """The newest try, which happened or is only supposed."""
        self.offers[one.provider, one.offer_id].append(one)
        self.types[one.provider, one.gpu_name].append(one)
        if one.machine_id:
            self.machines[one.provider, one.machine_id].append(one)
        elif one.place:
            self.places[one.provider, one.place].append(one)

    def _count(self, row: Mapping[str, str | int]) -> None:
        """Into every scope that holds it; "" stands for any."""
        provider, place, gpu = row["provider"], row["place"], row["gpu_name"]
        for scope in {(provider, p, g) for p in (place, "") for g in (gpu, "")}:
            ok, tried = self.counts[scope]
            self.counts[scope] = ok + row["ok"], tried + row["tried"]

    def standing(self, offer: Offer) -> Standing:
        now, (own, machine) = self.now, self._here(offer)
        place = self.places.get((offer.provider, place_of(offer)), [])
        kind = self.types.get((offer.provider, offer.gpu_name), [])
        factor = offer_factor(own, now) * place_factor(place, now) * type_factor(kind, now)
        rests = (offer_rest(own, now), machine_rest(machine, now))
        return Standing(
            confidence=max(LEAST, factor),
            rests_until=max(filter(None, rests), default=None),
            failures=tuple(self._today([*machine, *own])),
            rates=tuple(self._rates(offer)),
        )

    def _here(self, offer: Offer) -> tuple[Tries, Tries]:
        """Tries of the offer, and of its machine, which is the offer where nothing is known."""
        own = self.offers.get((offer.provider, offer.offer_id), [])
        if not offer.machine_id:
            return own, own
        return own, self.machines.get((offer.provider, offer.machine_id), [])

    def _today(self, tries: Iterable[Experience]) -> list[Experience]:
        """Failures of the last day, newest first, each once."""
        failed = {id(one): one for one in tries if self._failed_today(one)}
        return sorted(failed.values(), key=lambda one: one.at, reverse=True)

    def _failed_today(self, one: Experience) -> bool:
        return one.kind != Kind.OK and self.now - one.at < TODAY

    def _rates(self, offer: Offer) -> Iterable[Rate]:
        """Of the scopes in which anything was tried."""
        place, gpu = place_of(offer), offer.gpu_name
        scopes = {
            (place, gpu): f"{gpu} in {place}",
            ("", gpu): f"{gpu} anywhere",
            (place, ""): f"all GPUs in {place}",
            ("", ""): "all offers",
        }
        if not place:
            scopes = {("", gpu): f"{gpu} anywhere", ("", ""): "all offers"}
        for scope, words in scopes.items():
            ok, tried = self.counts.get((offer.provider, *scope), (0, 0))
            if tried:
                yield Rate(scope=words, ok=ok, tried=tried)

    def resting(self) -> Q:
        """Offers that are left out of what is tried next by itself."""
        return _either(
            (key for key, tries in self.offers.items() if self._offer_rests(tries)),
            (key for key, tries in self.machines.items() if machine_rest(tries, self.now)),
        )

    def _offer_rests(self, tries: Tries) -> bool:
        nameless = not tries[-1].machine_id
        rests = offer_rest(tries, self.now) or (nameless and machine_rest(tries, self.now))
        return bool(rests)

    def failed_today(self) -> Q:
        """Offers that failed TODAY, or whose machine did."""
        return _either(
            (key for key, tries in self.offers.items() if self._today(tries)),
            (key for key, tries in self.machines.items() if self._today(tries)),
        )


def place_of(offer: Offer) -> str:
    return offer.place or offer.country


def _either(offers: Iterable[Key], machines: Iterable[Key]) -> Q:
    found = Q(pk__in=[])
    for column, keys in (("offer_id", offers), ("machine_id", machines)):
        by_provider = defaultdict(list)
        for provider, name in keys:
            by_provider[provider].append(name)
        for provider, names in by_provider.items():
            found |= Q(provider=provider, **{f"{column}__in": names})
    return found


def recall(now: datetime) -> Memory:
    """Everything that is remembered, in two queries, however much is asked of it."""
    long_ago = now - max(TODAY, 2 * span(MACHINE_SECONDS))
    rows = Experience.objects.filter(at__gt=now - RECORD, at__lte=now).order_by()
    counts = rows.values("provider", "place", "gpu_name").annotate(
        ok=Count("pk", filter=Q(kind=Kind.OK)), tried=Count("pk")
    )
    return Memory(rows.filter(at__gt=long_ago), now, counts)


# ---- what is tried next

SAME_PRICE = Decimal("0.10")  # offers within a tenth of each other cost about the same


def rank(offers: Sequence[Offer], prices: Sequence[Decimal], memory: Memory) -> list[Offer]:
    """Cheapest first by classes of SAME_PRICE; in one class, what has not failed comes first."""
    cheapest = min(prices, default=Decimal(0))

    def key(pair: tuple[Offer, Decimal]) -> tuple[int, float, Decimal]:
        offer, price = pair
        dearer = (price / cheapest - 1) if cheapest else price
        return int(dearer / SAME_PRICE), -memory.standing(offer).confidence, price

    return [offer for offer, _ in sorted(zip(offers, prices, strict=True), key=key)]
