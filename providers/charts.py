"""Prices over time as lines of an SVG drawing. Pure; templates draw what is placed here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import floor, log10

from .history import KEPT, Point

SPARK = (120, 28)  # units of the viewBox
CHART = (720, 240)
LEFT, BOTTOM, TOP = 72, 24, 16
TICKS = 4
ROUND = (1, 2, 2.5, 5, 10)  # between lines, times a power of ten


@dataclass(frozen=True, kw_only=True)
class Spark:
    """A line without axes, and what it says in words."""

    path: str
    words: str
    tone: str  # up, down, same


@dataclass(frozen=True, kw_only=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    median: str
    low: str
    prices: list[Tick]
    days: list[Tick]
    words: str


def spark(points: Sequence[Point]) -> Spark | None:
    """Two points make a line; one is no history."""
    if len(points) < 2:
        return None
    width, height = SPARK
    prices = [point.median for point in points]
    low, span = min(prices), max(prices) - min(prices)
    start, seconds = points[0].at, (points[-1].at - points[0].at).total_seconds()
    placed = [
        (
            (point.at - start).total_seconds() / seconds * width,
            height
            - 3
            - float((point.median - low) / span if span else Decimal("0.5")) * (height - 6),
        )
        for point in points
    ]
    return Spark(path=_line(placed), words=words(points), tone=_tone(prices))


def _tone(prices: Sequence[Decimal]) -> str:
    change = _change(prices)
    return "same" if abs(change) < 3 else "up" if change > 0 else "down"


def _change(prices: Sequence[Decimal]) -> int:
    """Whole percent between the first and the last."""
    return round((prices[-1] / prices[0] - 1) * 100) if prices[0] else 0


def words(points: Sequence[Point]) -> str:
    """Median $0.412 now, from $0.380 to $0.455 since 26 Oct, 4 % up."""
    prices = [point.median for point in points]
    change = _change(prices)
    moved = "unchanged" if not change else f"{abs(change)} % {'up' if change > 0 else 'down'}"
    since = f"{points[0].at.day} {points[0].at:%b}"
    return (
        f"Median ${prices[-1]:.3f} now, from ${min(prices):.3f} to ${max(prices):.3f}"
        f" since {since}, {moved}"
    )


def chart(points: Sequence[Point], now: datetime, highest: Decimal) -> Chart:
    """KEPT days up to now; charts of one page share their scale. At least one point."""
    width, height = CHART
    start = now - KEPT
    step = _step(float(highest))
    top = step * TICKS

    def x(at: datetime) -> float:
        return LEFT + max(0.0, (at - start) / KEPT) * (width - LEFT)

    def y(price: float) -> float:
        return height - BOTTOM - price / top * (height - BOTTOM - TOP)

    places = 2 if step >= 0.1 else 3
    days = [start + timedelta(days=n) for n in range(2, 30, 7)]
    return Chart(
        median=_line([(x(p.at), y(float(p.median))) for p in points]),
        low=_line([(x(p.at), y(float(p.low))) for p in points]),
        prices=[
            Tick(at=round(y(step * n), 1), label=f"${step * n:.{places}f}")
            for n in range(TICKS + 1)
        ],
        days=[Tick(at=round(x(day), 1), label=f"{day.day} {day:%b}") for day in days],
        words=words(points),
    )


def _step(highest: float) -> float:
    """The smallest round amount that holds the highest price in TICKS steps."""
    if not highest:
        return 0.25
    power = 10 ** floor(log10(highest / TICKS))
    return next(m * power for m in ROUND if m * power * TICKS >= highest)


def _line(placed: Sequence[tuple[float, float]]) -> str:
    """An SVG path; a single point is a short dash."""
    if len(placed) == 1:
        x, y = placed[0]
        return f"M{x - 3:.1f} {y:.1f}L{x:.1f} {y:.1f}"
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
