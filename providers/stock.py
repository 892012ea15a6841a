"""Which offers this process shows: those of the newest version (models.Stock), or soon.

A Table is one version: its rows and the indexes that were asked for. A small one is made anew by
the first who asks after news. A large one takes longer than a person should wait: people are shown
the one before, for a moment, while the keeper, a thread of the web process, makes the newest with
the orders that are in use. What is shown of an offer is always read from its row, and an offer
that went is not shown at all.
"""

import logging
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Count, QuerySet, Sum

from .models import Offer, Stock
from .table import FIELDS, NANO, PRICES, Columns, Index, Row, rank
from .usage import Usage

logger = logging.getLogger(__name__)

Version = dict[str, tuple[int, datetime]]  # provider -> number and time of its last change
Key = tuple[Usage, str]  # of an index: the use and the order
Behind = dict[str, datetime | None]  # provider with newer offers -> when those shown changed last

PROVIDER = FIELDS.index("provider")
TEXTS = slice(1, 4)  # of FIELDS
MARGIN = timedelta(minutes=5)  # of the clock that stamps what changed
FORGETS = timedelta(hours=12)  # rows that went are deleted after a day: then all is read anew
INDEXES = 12  # kept of one version: about 3 MB each at 100,000 offers
FIRST: Key = (Usage(), "price")  # what everybody sees first
LARGE = 20_000  # offers: up to here a person waits for less than a tenth of a second
LATE = 30.0  # seconds that a large table is shown after it was the newest; then people wait
LATELY = 600.0  # seconds: what was asked within is prepared for the next who asks
PREPARED = 4
LOOK_SECONDS = 2.0

_reading = threading.Lock()
_current: "Table | None" = None


class Table:
    """One version of the stock."""

    def __init__(self, version: Version, offers: Iterable[Row]) -> None:
        self.version = version
        self.newest_at = time.monotonic()  # when there was none newer
        self.doubted = False  # a row went although the version stayed
        self.offers = tuple(sorted(offers, key=rank))
        self.columns = Columns(self.offers)
        self._indexes: dict[Key, Index] = {}
        self._lock = threading.Lock()

    def is_newest(self, wanted: Version) -> bool:
        """Where nothing was ever stored, nothing is believed."""
        if not wanted or self.version != wanted:
            return False
        self.newest_at = time.monotonic()
        return not self.doubted

    def behind(self, wanted: Version) -> Behind:
        others = (name for name in wanted if self.version.get(name) != wanted[name])
        return {name: self.version.get(name, (0, None))[1] for name in others}

    @property
    def will_do(self) -> bool:
        """Whether people rather see this for a moment than wait."""
        return len(self.offers) >= LARGE and time.monotonic() - self.newest_at < LATE

    def index(self, usage: Usage, sort: str) -> Index:
        with self._lock:
            found = self._index((usage, sort))
        found.asked_at = time.monotonic()
        return found

    def _index(self, key: Key) -> Index:
        found = self._indexes.pop(key, None) or self._made(*key)
        self._indexes[key] = found  # the newest last
        if len(self._indexes) > INDEXES:
            del self._indexes[next(iter(self._indexes))]
        return found

    def _made(self, usage: Usage, sort: str) -> Index:
        if sort == "price":
            return Index.by_price(self.columns, usage)
        return self._index((usage, "price")).sorted(sort)

    def prepare(self, former: "Table | None") -> None:
        """What is asked first, and what people asked the former table for lately."""
        asked = former.lately() if former else {}
        with self._lock:
            for key in dict.fromkeys((FIRST, *asked)):
                index = self._index(key)
                index.warm(asked.get(key))
                index.asked_at = asked[key].asked_at if key in asked else 0.0

    def lately(self) -> dict[Key, Index]:
        since = time.monotonic() - LATELY
        with self._lock:
            recent = {key: i for key, i in self._indexes.items() if i.asked_at > since}
        return dict(list(recent.items())[-PREPARED:])


def version() -> Version:
    """Empty while nothing was ever stored."""
    rows = Stock.objects.order_by("provider").values_list("provider", "version", "changed_at")
    return {provider: (number, at) for provider, number, at in rows}


def current() -> tuple[Table, Behind]:
    """The newest table; or the one before it (see above), and of whom there is a newer one."""
    held = _current
    if held:
        wanted = version()
        if held.is_newest(wanted):
            return held, {}
        if held.will_do:
            keep()
            _wake.set()
            return held, held.behind(wanted)
    return renew(), {}


def renew() -> Table:
    """The newest table, made now where nobody has made it. One thread at a time."""
    global _current
    with _reading:
        wanted, held = version(), _current
        if held and held.is_newest(wanted):
            return held
        table = Table(wanted, _offers(wanted, held if wanted else None))
        table.prepare(held)
        _current = table
        return table


# ---- the keeper

_starting = threading.Lock()
_wake = threading.Event()
_keeper: threading.Thread | None = None


def keep() -> None:
    """Let a thread of this process follow the news from now on."""
    global _keeper
    with _starting:
        if _keeper is None or not _keeper.is_alive():
            _keeper = threading.Thread(target=_keep, name="stock", daemon=True)
            _keeper.start()


def _keep() -> None:
    while True:
        try:
            renew()
        except Exception:
            logger.exception("the offers could not be read; those from before stay a while")
        finally:
            connection.close()  # as after a request: it may lead to a database that is no more
        _wake.wait(LOOK_SECONDS)
        _wake.clear()


# ---- reading


def _offers(wanted: Version, held: Table | None) -> Sequence[Row]:
    """All listed offers; where the rest is held already, only what changed is read."""
    if held and held.version.keys() <= wanted.keys():
        offers = _renewed(wanted, held)
        total = Offer.objects.filter(listed=True).aggregate(number=Count("pk"), keys=Sum("pk"))
        if (total["number"], total["keys"] or 0) == (len(offers), sum(o[0] for o in offers)):
            return offers
    return list(_read(Offer.objects.filter(listed=True)))


def _renewed(wanted: Version, held: Table) -> list[Row]:
    """In the order that they have, as far as they stay: nearly sorted is quick to sort."""
    offers, fresh = list(held.offers), []
    for provider, (number, at) in wanted.items():
        before, since = held.version.get(provider, (None, at))
        if before == number:
            continue
        rows = Offer.objects.filter(provider=provider)
        if before is None or not timedelta(0) <= at - since < FORGETS:
            offers = [offer for offer in offers if offer[PROVIDER] != provider]
        else:
            rows = rows.filter(changed_at__gte=since - MARGIN)
            changed = set(rows.values_list("pk", flat=True))
            offers = [offer for offer in offers if offer[0] not in changed]
        fresh += _read(rows.filter(listed=True))
    return offers + fresh


def _read(offers: QuerySet[Offer]) -> Iterable[Row]:
    """What is not said is nothing. Equal texts are one: 100,000 copies are slow to compare."""
    for row in offers.values_list(*FIELDS).iterator(chunk_size=5000):
        texts = map(sys.intern, row[TEXTS])
        nano = (int((price or 0) * NANO) for price in row[PRICES])
        yield (row[0], *texts, *row[TEXTS.stop : PRICES.start], *nano, *row[PRICES.stop :])


def evicted(now: datetime) -> list[int]:
    """Primary keys of what a launch found gone a moment ago; never remembered."""
    rows = Offer.objects.filter(evicted_until__gt=now, listed=True)
    return list(rows.values_list("pk", flat=True))
