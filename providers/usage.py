"""What a person means to use: disk, traffic, hours; and so what an hour really costs. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # deciding needs MAX_HOURS, and runs without rows
    from .models import Offer

DISK_GB = 40
HOURS = 4
MAX_HOURS = 12  # of the longest session: nobody can use an offer for longer


@dataclass(frozen=True, kw_only=True)
class Usage:
    """A disk for the whole time, and a download spread over it.

    An offer that does not say what traffic costs is counted as if it were free.
    """

    disk_gb: int = DISK_GB
    traffic_gb: int = 0
    hours: int = HOURS

    def apply(self, offer: "Offer") -> None:
        """Adds .disk, .traffic and .price, all in (USD per hour), and .total of all hours (USD)."""
        offer.disk = self.disk_gb * offer.disk_price_per_gb_hour
        offer.traffic = self.traffic_gb * (offer.inet_down_price_per_gb or Decimal(0)) / self.hours
        offer.price = offer.base_price_per_hour + offer.disk + offer.traffic
        offer.total = offer.price * self.hours

    def nano_per_hour(
        self, base: Iterable[int], disk: Iterable[int], traffic: Iterable[int]
    ) -> list[int]:
        """The prices of many offers from those of their parts, in whole nano-dollars."""
        gb, down, hours = self.disk_gb, self.traffic_gb, self.hours
        rows = zip(base, disk, traffic, strict=True)
        return [b + gb * d + down * t // hours for b, d, t in rows]
