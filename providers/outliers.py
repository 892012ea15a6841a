"""Prices too good to be true: a typing error, a bait, a field that changed its unit. Pure.

Of the prices of one GPU for one hour, a price is unusual when it is
- zero or less, or
- below a quarter of the median, where at least five prices can be compared.
An honest bargain on these marketplaces costs about half of the median. Unusual offers are shown and
can be rented, but they stand behind all others, and no "from $" speaks of them.
"""

from collections.abc import Sequence
from decimal import Decimal
from statistics import median

SHARE = 4  # of the median: one SHARE-th
LEAST = 5  # prices


def unusual(prices: Sequence[Decimal] | Sequence[int]) -> set[int]:
    """Positions of the unusual ones."""
    ceiling = median(prices) if len(prices) >= LEAST else 0
    return {at for at, price in enumerate(prices) if price <= 0 or price * SHARE < ceiling}
