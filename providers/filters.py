"""What a person asked of the offers page: its address -> Filters and back. Pure."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from urllib.parse import urlencode

from .usage import DISK_GB, HOURS, MAX_HOURS, Usage

SORTS = {
    "price": "Cheapest, all in",
    "gpu": "Cheapest per GPU",
    "memory": "Cheapest per GB of GPU memory",
    "size": "Most GPU memory",
    "reliability": "Most reliable",
    "network": "Fastest download",
}
MANY = ("gpu", "provider", "country")
BOUNDS = {  # of the numbers: at least, at most
    "count": (1, 64),
    "memory": (1, 1_000),
    "price": (Decimal("0.001"), 10_000),
    "disk": (1, 100_000),
    "hours": (1, MAX_HOURS),
    "traffic": (0, 100_000),
    "reliability": (0, 100),
    "page": (1, 100_000),
}
SWITCHES = ("verified", "unfailed")
VIEWS = {"": "Offers", "gpu": "By GPU"}
COMPARED = 4  # offers side by side
KNOWN = {*MANY, *BOUNDS, *SWITCHES, "sort", "view", "compare"}


@dataclass(frozen=True, kw_only=True)
class Filters:
    gpu: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    country: tuple[str, ...] = ()
    count: int | None = None  # exactly so many GPUs
    memory: int | None = None  # GB of one GPU, at least
    price: Decimal | None = None  # USD per hour with disk and traffic, at most
    disk: int = DISK_GB
    hours: int = HOURS  # of use, over which the traffic is spread
    traffic: int = 0  # GB to download in that time
    reliability: Decimal | None = None  # percent, at least
    verified: bool = False
    unfailed: bool = False  # nothing that failed here today, by our own record
    sort: str = "price"
    page: int = 1
    view: str = ""  # one of VIEWS
    compare: tuple[str, ...] = ()  # "provider:offer_id", at most COMPARED
    ignored: tuple[str, ...] = ()  # sentences about what was not understood

    def query(self, **changes: object) -> str:
        """The shortest query string that means this; a changed filter starts on page one."""
        other = replace(self, **{"page": 1} | changes)
        plain = Filters()
        pairs = [(name, value) for name in MANY for value in getattr(other, name)]
        pairs += [
            (name, plain_number(getattr(other, name)))
            for name in BOUNDS
            if getattr(other, name) != getattr(plain, name)
        ]
        pairs += [(name, "1") for name in SWITCHES if getattr(other, name)]
        pairs += [("sort", other.sort)] if other.sort != plain.sort else []
        pairs += [("view", other.view)] if other.view else []
        pairs += [("compare", one) for one in other.compare]
        return urlencode(pairs)

    def without(self, name: str, value: str = "") -> str:
        """The query string without one filter, or without one of its values."""
        if name in MANY:
            return self.query(**{name: tuple(v for v in getattr(self, name) if v != value)})
        return self.query(**{name: getattr(Filters(), name)})

    @property
    def usage(self) -> Usage:
        return Usage(disk_gb=self.disk, traffic_gb=self.traffic, hours=self.hours)

    @property
    def by_gpu(self) -> bool:
        return self.view == "gpu"

    def picked(self, one: str) -> str:
        """The query string with an offer put into the comparison, or taken out again."""
        others = tuple(other for other in self.compare if other != one)
        added = () if one in self.compare else (one,)
        return self.query(page=self.page, compare=(*others, *added)[-COMPARED:])

    @property
    def active(self) -> list[str]:
        """Names of the filters that can hide an offer, except the usage, which always count."""
        plain = Filters()
        names = (*MANY, "count", "memory", "price", "reliability", *SWITCHES)
        return [name for name in names if getattr(self, name) != getattr(plain, name)]


def plain_number(value: object) -> str:
    """1.50 -> 1.5, 10 -> 10, never an exponent."""
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse(query: Mapping[str, Sequence[str]]) -> Filters:
    """Never raises: what makes no sense is left out and named in `ignored`."""
    found: dict[str, object] = {}
    ignored = [f"“{clean(name)}” is not a filter." for name in query if name not in KNOWN]
    for name in MANY:
        found[name] = tuple(dict.fromkeys(filter(None, map(clean, query.get(name, ())))))[:50]
    for name in BOUNDS:
        text = clean(_last(query, name))
        value = _number(name, text)
        if value is not None:
            found[name] = value
        elif text:
            low, high = BOUNDS[name]
            ignored.append(f"{name} “{text}” is not a number from {low} to {high}.")
    found["country"], strange = _countries(found["country"])
    ignored += [f"country “{text}” is not a two-letter code." for text in strange]
    found |= {name: _last(query, name) in ("1", "on", "true") for name in SWITCHES}
    sort = clean(_last(query, "sort"))
    if sort in SORTS:
        found["sort"] = sort
    elif sort:
        ignored.append(f"sort “{sort}” is not an order.")
    found["view"] = clean(_last(query, "view"))
    if found["view"] not in VIEWS:
        ignored.append(f"view “{found.pop('view')}” is not a view.")
    found["compare"] = compared(query.get("compare", ()))
    return Filters(**found, ignored=tuple(ignored[:10]))


def compared(texts: Sequence[str]) -> tuple[str, ...]:
    """The newest COMPARED of "provider:offer_id"; anything else is no offer."""
    whole = (clean_id(text) for text in texts[-100:])
    return tuple(dict.fromkeys(text for text in whole if re.fullmatch(r"[a-z]+:.+", text)))[
        -COMPARED:
    ]


def clean_id(text: str) -> str:
    """As clean(), as long as an offer's id may be."""
    return "".join(c for c in text if unicodedata.category(c)[0] != "C")[:240]


def clean(text: str) -> str:
    """Printable, normalised and short: the address bar is not to be trusted either."""
    text = unicodedata.normalize("NFC", text)
    return "".join(c for c in text if unicodedata.category(c)[0] != "C").strip()[:80]


def _last(query: Mapping[str, Sequence[str]], name: str) -> str:
    values = query.get(name) or [""]
    return values[-1]


def _number(name: str, text: str) -> int | Decimal | None:
    """A number inside its bounds, or None. Whole numbers except price and reliability."""
    if not re.fullmatch(r"[0-9]{1,9}([.,][0-9]{0,6})?", text):
        return None
    low, high = BOUNDS[name]
    value = Decimal(text.replace(",", "."))
    if not low <= value <= high:
        return None
    if name in ("price", "reliability"):
        return value
    return int(value) if value == int(value) else None


def _countries(texts: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    codes = tuple(t.upper() for t in texts if re.fullmatch(r"[A-Za-z]{2}", t))
    return codes, [t for t in texts if t.upper() not in codes]
