"""The listed offers in memory, one bit an offer: counts and pages without reading every row.

Columns hold what filters and orders need. An Index is the columns in one order for one use
(usage.Usage): position 0 is the first offer of the first page. A set of offers is an int with the
bit of each position, so that "and" and counting cost microseconds, the first offer is the lowest
bit, and a page is the next fifty.

What is long is a tuple of plain values, or a dict of them: the garbage collector would look
through lists again and again, which takes longer than answering.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cached_property

from .outliers import unusual
from .usage import Usage

Bits = int
Row = tuple  # FIELDS; prices are whole nano-dollars, so that sums are exact
NANO = Decimal(10) ** 9
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
MASKS = 200  # of one index, 12 kB each at 100,000 offers
WARMED = 6  # of them, in the next index
Test = Callable[["Index"], Iterable[bool]]  # of the rows, in the order of the columns


def rank(offer: Row) -> int:
    """The cheapest base price first, and what was seen first: the same order in all processes."""
    return offer[BASE] << 64 | offer[0]


class Columns:
    """FIELDS of the offers, in their order."""

    def __init__(self, offers: Sequence[Row]) -> None:
        columns = zip(*offers, strict=True) if offers else [()] * len(FIELDS)
        self._columns: dict[str, tuple] = dict(zip(FIELDS, columns, strict=True))

    def __getitem__(self, name: str) -> tuple:
        return self._columns[name]

    def __len__(self) -> int:
        return len(self["pk"])

    @cached_property
    def rows(self) -> dict[int, int]:
        """Primary key -> row."""
        return dict(zip(self["pk"], range(len(self)), strict=True))

    @cached_property
    def odd(self) -> set[int]:
        """Rows whose price is unusual for their GPU; interruptible ones have their own prices."""
        kinds = defaultdict(list)
        for row, kind in enumerate(zip(self["gpu_name"], self["interruptible"], strict=True)):
            kinds[kind].append(row)
        prices, counts = self[FIELDS[BASE]], self["gpu_count"]
        found: set[int] = set()
        for rows in kinds.values():
            found |= {rows[at] for at in unusual([prices[r] // (counts[r] or 1) for r in rows])}
        return found


class Index:
    """One order of the offers for one use. `prices` are those of the rows, `order` is of rows."""

    def __init__(self, columns: Columns, prices: tuple[int, ...], order: Iterable[int]) -> None:
        self.columns = columns
        self.prices = prices
        self.order = tuple(order)
        self.asked_at = 0.0  # monotonic
        self._facets: dict[str, dict[object, Bits]] = {}
        self._masks: dict[tuple[str, object], Bits] = {}
        self._tests: dict[tuple[str, object], Test] = {}  # that somebody asked for, the newest last

    @classmethod
    def by_price(cls, columns: Columns, usage: Usage) -> "Index":
        prices = tuple(usage.nano_per_hour(*(columns[name] for name in FIELDS[PRICES])))
        order = sorted(range(len(prices)), key=prices.__getitem__)
        return cls(columns, prices, _odd_last(columns.odd, order))

    def sorted(self, sort: str) -> "Index":
        """The same offers in another order; rows alike keep the one they have."""
        order = sorted(self.order, key=ORDERS[sort](self).__getitem__)
        if sort in CHEAPEST:
            order = _odd_last(self.columns.odd, order)
        return Index(self.columns, self.prices, order)

    def warm(self, former: "Index | None" = None) -> None:
        """All that a first question, and those that the former index was asked, would wait for."""
        for name in FACETS:
            self.facet(name)
        self.of(self.columns["pk"][:1])
        self.cheapest(self.everything)
        for key, test in list(former._tests.items())[-WARMED:] if former else ():
            self._masks[key] = self.bits(test(self))

    @property
    def everything(self) -> Bits:
        return (1 << len(self.order)) - 1

    @cached_property
    def usual(self) -> Bits:
        return self.everything & ~self._at(self.positions[row] for row in self.columns.odd)

    @cached_property
    def positions(self) -> dict[int, int]:
        """Row -> position."""
        return dict(zip(self.order, range(len(self.order)), strict=True))

    def facet(self, name: str) -> Mapping[object, Bits]:
        """Value -> the offers that have it."""
        if name not in self._facets:
            self._facets[name] = self._bitmaps(self.columns[FACETS[name]])
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

    def where(self, name: str, wanted: object, test: Test) -> Bits:
        """The offers that pass a test of their rows; remembered under name and wanted."""
        key = (name, wanted)
        found = self._masks.get(key)
        if found is None:
            found = self.bits(test(self))
            if len(self._masks) >= MASKS:
                self._masks.clear()
                self._tests.clear()
            self._masks[key] = found
        self._tests.pop(key, None)
        self._tests[key] = test
        return found

    def bits(self, flags: Iterable[bool]) -> Bits:
        """One flag for each row, in the order of the columns."""
        digits = bytes(flags).translate(DIGITS)
        return int(bytes(map(digits.__getitem__, reversed(self.order))) or b"0", 2)

    def of(self, pks: Iterable[int]) -> Bits:
        rows = (self.columns.rows.get(pk) for pk in pks)
        return self._at(self.positions[row] for row in rows if row is not None)

    def _at(self, positions: Iterable[int]) -> Bits:
        bits = bytearray(len(self.order) // 8 + 1)
        for position in positions:
            bits[position >> 3] |= 1 << (position & 7)
        return int.from_bytes(bits, "little")

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


def _odd_last(odd: set[int], order: list[int]) -> list[int]:
    return sorted(order, key=odd.__contains__) if odd else order


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


# ---- orders


def _per_gpu(index: Index) -> list[float]:
    counts = index.columns["gpu_count"]
    return [p / (n or 1) for p, n in zip(index.prices, counts, strict=True)]


def _sizes(index: Index) -> list[int]:
    counts, memory = index.columns["gpu_count"], index.columns["gpu_memory_mb"]
    return [n * m for n, m in zip(counts, memory, strict=True)]


def _per_memory(index: Index) -> list[float]:
    return [p / (size or 1) for p, size in zip(index.prices, _sizes(index), strict=True)]


def _most(column: Sequence[float | None]) -> list[float]:
    return [1 if value is None else -value for value in column]


ORDERS: dict[str, Callable[[Index], Sequence[float]]] = {
    "gpu": _per_gpu,
    "memory": _per_memory,
    "size": lambda index: _most(_sizes(index)),
    "reliability": lambda index: _most(index.columns["reliability"]),
    "network": lambda index: _most(index.columns["inet_down_mbps"]),
}
CHEAPEST = ("price", "gpu", "memory")
