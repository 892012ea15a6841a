"""The listed offers in memory, one bit an offer: counts and pages without reading every row.

A Table holds the columns that filters and orders need, read once for each version of the stock
(models.Stock). An Index is the table in one order for one use (usage.Usage): position 0 is the
first offer of the first page. A set of offers is an int with the bit of each position, so that
"and" and counting cost microseconds, the first offer is the lowest bit, and a page is the next
fifty.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from operator import itemgetter

from django.db.models import Count, QuerySet, Sum

from .models import Offer, Stock
from .outliers import unusual
from .usage import Usage

Bits = int
Version = dict[str, tuple[int, datetime]]  # provider -> number and time of its last change
Rows = dict[int, tuple]  # primary key -> FIELDS
NANO = Decimal(10) ** 9  # prices are whole nano-dollars: sums are exact
FACETS = {"gpu": "gpu_name", "provider": "provider", "country": "country", "count": "gpu_count"}
FIELDS = (
    "pk",
    *FACETS.values(),
    "gpu_memory_mb",
    "base_price_per_hour",
    "disk_price_per_gb_hour",
    "inet_down_price_per_gb",
    "disk_gb_max",
    "reliability",
    "verified",
    "inet_down_mbps",
    "interruptible",
)
BASE = FIELDS.index("base_price_per_hour")
PRICES = slice(BASE, BASE + 3)  # of GPU, disk and traffic
PROVIDER = FIELDS.index("provider")
MARGIN = timedelta(minutes=5)  # of the clock that stamps what changed
FORGETS = timedelta(hours=12)  # rows that went are deleted after a day: then all is read anew
INDEXES = 12  # kept of one version: about 3 MB each at 100,000 offers
MASKS = 200

_lock = threading.Lock()
_current: "Table | None" = None


def version() -> Version:
    """Empty while nothing was ever stored."""
    rows = Stock.objects.order_by("provider").values_list("provider", "version", "changed_at")
    return {provider: (number, at) for provider, number, at in rows}


def current(*, anew: bool = False) -> "Table":
    """The table of the newest version; while one thread reads it, others use the one before."""
    global _current
    wanted, held = version(), _current
    if held and wanted and held.version == wanted and not anew:
        return held
    if not _lock.acquire(blocking=held is None or anew or not wanted):
        return held
    try:
        if _current is held or not wanted:
            known = None if anew or not wanted else held
            _current = Table(wanted, _rows(wanted, known))
        return _current
    finally:
        _lock.release()


def _rows(wanted: Version, held: "Table | None") -> Rows:
    """All listed offers; where the rest is held already, only what changed is read."""
    if held and held.version.keys() <= wanted.keys():
        rows = _renewed(wanted, held)
        total = Offer.objects.filter(listed=True).aggregate(number=Count("pk"), keys=Sum("pk"))
        if (total["number"], total["keys"] or 0) == (len(rows), sum(rows)):
            return rows
    return {row[0]: row for row in _read(Offer.objects.filter(listed=True))}


def _renewed(wanted: Version, held: "Table") -> Rows:
    rows = dict(held.by_pk)
    for provider, (number, at) in wanted.items():
        before, since = held.version.get(provider, (None, at))
        if before == number:
            continue
        offers = Offer.objects.filter(provider=provider)
        if before is None or not timedelta(0) <= at - since < FORGETS:
            rows = {pk: row for pk, row in rows.items() if row[PROVIDER] != provider}
        else:
            offers = offers.filter(changed_at__gte=since - MARGIN)
            for pk in offers.filter(listed=False).values_list("pk", flat=True):
                rows.pop(pk, None)
        rows |= {row[0]: row for row in _read(offers.filter(listed=True))}
    return rows


def _read(offers: QuerySet[Offer]) -> Iterable[tuple]:
    """FIELDS of each, prices as whole nano-dollars; what is not said is nothing."""
    for row in offers.values_list(*FIELDS).iterator(chunk_size=5000):
        nano = (int((price or 0) * NANO) for price in row[PRICES])
        yield (*row[: PRICES.start], *nano, *row[PRICES.stop :])


class Table:
    """Columns of all listed offers, the cheapest base price first."""

    def __init__(self, version: Version, rows: Rows) -> None:
        self.version = version
        self.by_pk = rows
        ordered = sorted(rows.values(), key=itemgetter(BASE, 0))
        columns = list(zip(*ordered, strict=True)) or [() for _ in FIELDS]
        self.column: dict[str, Sequence] = dict(zip(FIELDS, columns, strict=True))
        self.pks = self.column["pk"]
        self._indexes: dict[tuple[Usage, str], Index] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.pks)

    @cached_property
    def rows(self) -> dict[int, int]:
        """Primary key -> row."""
        return {pk: row for row, pk in enumerate(self.pks)}

    @cached_property
    def odd(self) -> set[int]:
        """Rows whose price is unusual for their GPU; interruptible ones have their own prices."""
        kinds, found = defaultdict(list), set()
        for row, kind in enumerate(
            zip(self.column["gpu_name"], self.column["interruptible"], strict=True)
        ):
            kinds[kind].append(row)
        base, counts = self.column["base_price_per_hour"], self.column["gpu_count"]
        for rows in kinds.values():
            odd = unusual([base[row] // (counts[row] or 1) for row in rows])
            found |= {rows[at] for at in odd}
        return found

    def index(self, usage: Usage, sort: str) -> "Index":
        key = (usage, sort)
        with self._lock:
            found = self._indexes.pop(key, None) or Index(self, usage, sort)
            self._indexes[key] = found  # the newest last
            if len(self._indexes) > INDEXES:
                del self._indexes[next(iter(self._indexes))]
        return found


class Index:
    """One order of a table for one use."""

    def __init__(self, table: Table, usage: Usage, sort: str) -> None:
        self.table = table
        parts = (table.column[name] for name in FIELDS[PRICES])
        self.prices = usage.nano_per_hour(*parts)  # of rows
        order = sorted(range(len(table)), key=self.prices.__getitem__)
        key = ORDERS[sort]
        if key:
            order.sort(key=key(self).__getitem__)
        if sort in CHEAPEST and table.odd:
            order = [r for r in order if r not in table.odd] + [r for r in order if r in table.odd]
        self.order = order
        self._facets: dict[str, dict[object, Bits]] = {}
        self._masks: dict[tuple[str, object], Bits] = {}

    @property
    def everything(self) -> Bits:
        return (1 << len(self.order)) - 1

    @cached_property
    def usual(self) -> Bits:
        odd = self.table.odd
        return self.bits(row not in odd for row in range(len(self.table))) if odd else -1

    @cached_property
    def positions(self) -> dict[int, int]:
        """Row -> position."""
        return {row: position for position, row in enumerate(self.order)}

    def facet(self, name: str) -> dict[object, Bits]:
        """Value -> the offers that have it."""
        if name not in self._facets:
            self._facets[name] = self._bitmaps(self.table.column[FACETS[name]])
        return self._facets[name]

    def _bitmaps(self, column: Sequence) -> dict[object, Bits]:
        size = len(self.order) // 8 + 1
        found: dict[object, bytearray] = {}
        for position, row in enumerate(self.order):
            value = column[row]
            bits = found.get(value)
            if bits is None:
                bits = found[value] = bytearray(size)
            bits[position >> 3] |= 1 << (position & 7)
        return {value: int.from_bytes(bits, "little") for value, bits in found.items()}

    def where(self, name: str, wanted: object, test: Callable[["Index"], Iterable[bool]]) -> Bits:
        """The offers that pass a test of their rows; remembered under name and wanted."""
        key = (name, wanted)
        if key not in self._masks:
            if len(self._masks) >= MASKS:
                self._masks.clear()
            self._masks[key] = self.bits(test(self))
        return self._masks[key]

    def bits(self, flags: Iterable[bool]) -> Bits:
        """One flag for each row, in the table's order."""
        digits = bytes(flags).translate(DIGITS)
        return int(bytes(map(digits.__getitem__, reversed(self.order))) or b"0", 2)

    def of(self, pks: Iterable[int]) -> Bits:
        rows = (self.table.rows.get(pk) for pk in pks)
        return sum(1 << self.positions[row] for row in rows if row is not None)

    def page(self, bits: Bits, first: int, size: int) -> list[int]:
        """Rows `first` to `first + size` of a set."""
        skipped = nth(bits, first)
        bits >>= skipped
        rows = []
        while bits and len(rows) < size:
            step = lowest(bits)
            rows.append(self.order[skipped + step])
            skipped += step + 1
            bits >>= step + 1
        return rows

    def cheapest(self, bits: Bits) -> int | None:
        """Row of the first offer whose price is usual."""
        bits &= self.usual
        return self.order[lowest(bits)] if bits else None


DIGITS = bytes([48, 49, *range(2, 256)])


def lowest(bits: Bits) -> int:
    return (bits & -bits).bit_length() - 1


def nth(bits: Bits, number: int) -> int:
    """Position of the bit that has `number` bits below it; past the last where there is none."""
    place, width = 0, bits.bit_length()
    while width > 1:  # halves, so that all steps together cost two looks at the whole
        half = width // 2
        lower = bits & ((1 << half) - 1)
        below = lower.bit_count()
        if number < below:
            bits, width = lower, half
        else:
            bits, width, place, number = bits >> half, width - half, place + half, number - below
    return place + (number >= bits)


# ---- orders; rows alike keep the order of their prices


def _per_gpu(index: Index) -> list[float]:
    counts = index.table.column["gpu_count"]
    return [p / (n or 1) for p, n in zip(index.prices, counts, strict=True)]


def _sizes(index: Index) -> list[int]:
    counts, memory = index.table.column["gpu_count"], index.table.column["gpu_memory_mb"]
    return [n * m for n, m in zip(counts, memory, strict=True)]


def _per_memory(index: Index) -> list[float]:
    return [p / (size or 1) for p, size in zip(index.prices, _sizes(index), strict=True)]


def _most(column: Sequence[float | None]) -> list[float]:
    return [1 if value is None else -value for value in column]


ORDERS: dict[str, Callable[[Index], Sequence[float]] | None] = {
    "price": None,
    "gpu": _per_gpu,
    "memory": _per_memory,
    "size": lambda index: _most(_sizes(index)),
    "reliability": lambda index: _most(index.table.column["reliability"]),
    "network": lambda index: _most(index.table.column["inet_down_mbps"]),
}
CHEAPEST = ("price", "gpu", "memory")


def evicted(now: datetime) -> list[int]:
    """Primary keys of what a launch found gone a moment ago; never remembered."""
    rows = Offer.objects.filter(evicted_until__gt=now, listed=True)
    return list(rows.values_list("pk", flat=True))
