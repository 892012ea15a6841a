"""Vast.ai's offers: one query, its rows, and the pages of a refresh put together. All pure."""

import re
from decimal import Decimal

from . import clean, gpus
from .base import BadResponse, OfferListing, OfferRecord
from .vastai_answers import Json

SEARCH_PAGE = 64  # the server never returns more
PRICED_DISK_GB = 8  # what the search prices into dph_total
HOURS_A_MONTH = 720  # of storage_cost
HIGHEST_PRICE = 200  # USD per hour
MICRO, NANO = Decimal("0.000001"), Decimal("0.000000001")


class BadRow(Exception):
    """One offer that cannot be believed."""


def search_query(at_least: Decimal | None) -> dict[str, object]:
    """Verified on-demand machines that are free now, by rising price."""
    query: dict[str, object] = {
        "verified": {"eq": True},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "external": {"eq": False},
        "type": "on-demand",
        "allocated_storage": PRICED_DISK_GB,
        "order": [["dph_total", "asc"]],
        "limit": SEARCH_PAGE,
    }
    if at_least is not None:
        query["dph_total"] = {"gte": float(at_least)}
    return query


def parse_offer_rows(body: Json) -> list[object]:
    rows = body.get("offers")
    if not isinstance(rows, list):
        raise BadResponse("a search without a list of offers")
    return rows


class Stock:
    """The pages of one reading, put together."""

    def __init__(self, after: str = "") -> None:
        self.start = Decimal(after or 0)
        self.highest: Decimal | None = Decimal(after) if after else None  # dph_total
        self.offers: dict[str, OfferRecord] = {}
        self.seen: set[str] = set()  # of all rows, usable or not
        self.searches = 0
        self.dropped = 0
        self.longest = 0
        self.ended = False

    def add(self, rows: list[object]) -> bool:
        """True while there may be more. The last page is shorter than one before it."""
        before = len(self.seen)
        for row in rows:
            self._add(row)
        self.searches += 1
        self.ended = not rows or len(rows) < self.longest
        self.longest = max(self.longest, len(rows))
        return not self.ended and len(self.seen) > before

    def _add(self, found: object) -> None:
        row = found if isinstance(found, dict) else {}
        price = clean.number(row.get("dph_total"), 0, HIGHEST_PRICE)
        if price is not None:
            self.highest = max(price, self.highest or price)
        key = clean.numeric_id(row.get("id")) or f"unreadable {self.dropped}"
        if key in self.seen:
            return
        self.seen.add(key)
        try:
            offer = parse_offer(row)
        except BadRow:
            self.dropped += 1
        else:
            if offer:
                self.offers[offer.offer_id] = offer

    def listing(self) -> OfferListing:
        """To the end, or up to the highest price read; a page full of one price is skipped."""
        stuck = not self.ended and self.highest == self.start
        below = HIGHEST_PRICE + 1 if self.ended else self.highest
        onward = str((self.highest or 0) + (MICRO if stuck else 0))
        return OfferListing(
            offers=tuple(self.offers.values()),
            complete=self.ended and not self.start,
            complete_from=self.start,
            complete_below=None if below is None else Decimal(below),
            next_after="" if self.ended else onward,
            note=self._note(),
            dropped=self.dropped,
        )

    def _note(self) -> str:
        since = f" from ${self.start:.3f} an hour" if self.start else ""
        plural = "" if self.searches == 1 else "es"
        note = f"{len(self.seen)} offers seen in {self.searches} search{plural}{since}"
        note += "" if self.ended else ", more at higher prices"
        return note + (f", {self.dropped} unusable" if self.dropped else "")


def parse_offer(row: Json) -> OfferRecord | None:
    """None for what was not asked for. Raises BadRow for what cannot be believed."""
    offer_id, raw = clean.numeric_id(row.get("id")), clean.clean(row.get("gpu_name"), 80)
    if not offer_id:
        raise BadRow
    if not _asked_for(row):
        return None
    base, disk_price = _prices(row)
    count = clean.whole(row.get("num_gpus"), 1, 64)
    memory = clean.whole(row.get("gpu_ram"), 256, 10**7)
    disk = clean.whole(row.get("disk_space"), PRICED_DISK_GB, 10**7)
    if not (raw and count and memory and disk):
        raise BadRow
    cores, ram_mb = _share(row)
    place, country = _place(row)
    return OfferRecord(
        provider="vastai",
        offer_id=offer_id,
        machine_id=clean.numeric_id(row.get("machine_id")),
        gpu_name=gpus.canonical(raw),
        gpu_name_raw=raw,
        gpu_count=count,
        gpu_memory_mb=memory,
        base_price_per_hour=base,
        disk_price_per_gb_hour=disk_price,
        disk_gb_max=disk,
        cpu_name=clean.clean(row.get("cpu_name"), 120),
        cpu_cores=cores,
        ram_mb=ram_mb,
        inet_down_mbps=clean.whole(row.get("inet_down"), 0, 10**7),
        inet_up_mbps=clean.whole(row.get("inet_up"), 0, 10**7),
        inet_down_price_per_gb=_traffic_price(row.get("inet_down_cost")),
        inet_up_price_per_gb=_traffic_price(row.get("inet_up_cost")),
        reliability=_reliability(row),
        cuda_max=_version(row.get("cuda_max_good")),
        driver_version=clean.clean(row.get("driver_version"), 40),
        country=country,
        place=place,
        verified=True,
        ends_at=clean.instant(row.get("end_date")),
        details={
            "host_id": clean.numeric_id(row.get("host_id")),
            "direct_ports": clean.whole(row.get("direct_port_count"), 0, 65535) or 0,
        },
    )


def _asked_for(row: Json) -> bool:
    """The server does not always honour its filters."""
    return (
        row.get("verification") == "verified"
        and row.get("rentable") is not False
        and row.get("rented") is not True
        and row.get("is_bid") is not True
        and row.get("external") is not True
    )


def _prices(row: Json) -> tuple[Decimal, Decimal]:
    """(all GPUs per hour without disk, one GB of disk per hour). The dearer reading counts."""
    total = clean.number(row.get("dph_total"), MICRO, HIGHEST_PRICE)
    gpu_part = clean.number(row.get("dph_base"), 0, HIGHEST_PRICE)
    storage = clean.number(row.get("storage_cost"), 0, HOURS_A_MONTH)
    if total is None or gpu_part is None or storage is None:
        raise BadRow
    disk = storage / HOURS_A_MONTH
    base = max(total - PRICED_DISK_GB * disk, gpu_part).quantize(MICRO)
    if base <= 0:
        raise BadRow
    return base, disk.quantize(NANO)


def _share(row: Json) -> tuple[int, int]:
    """(cores, RAM in MB) of this slice: the API gives the RAM of the whole machine."""
    cores = clean.number(row.get("cpu_cores_effective"), 0, 10**5)
    of_machine = clean.number(row.get("cpu_cores"), 1, 10**5)
    ram = clean.number(row.get("cpu_ram"), 0, 10**9)
    share = cores / of_machine if cores and of_machine else _fraction(row)
    return round(cores or 0), int((ram or 0) * min(share, Decimal(1)))


def _fraction(row: Json) -> Decimal:
    return clean.number(row.get("gpu_frac"), 0, 1) or Decimal(0)


def _place(row: Json) -> tuple[str, str]:
    """ "California, US" -> ("California", "US"); ", CN" -> ("", "CN")."""
    text = clean.clean(row.get("geolocation"), 120)
    place, _, country = text.rpartition(",")
    country = country.strip()
    return (place.strip(), country) if re.fullmatch("[A-Z]{2}", country) else (text, "")


def _traffic_price(value: object) -> Decimal | None:
    price = clean.number(value, 0, 1000)
    return None if price is None else price.quantize(MICRO)


def _reliability(row: Json) -> float | None:
    found = clean.number(row.get("reliability2", row.get("reliability")), 0, 1)
    return None if found is None else float(found)


def _version(value: object) -> str:
    found = clean.number(value, 1, 1000)
    return "" if found is None else f"{found:.1f}"
