"""The two plots of the report: what pruning would free, and the use over time."""

from __future__ import annotations

import math
from datetime import datetime

from registry.cli.report.figures import Figures
from registry.cli.report.plots import Curve, Mark, Plot
from registry.cli.units import near_size

__all__ = ["plot_freed", "plot_past"]

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_AGE_MARKS = (
    (_MINUTE, "1m"),
    (_HOUR, "1h"),
    (_DAY, "1d"),
    (7 * _DAY, "1w"),
    (30 * _DAY, "30d"),
    (365 * _DAY, "1y"),
)


def plot_freed(figures: Figures) -> Plot | None:
    """Plot the bytes that pruning would free, by the age from which on it deletes."""
    points = figures.freed_by_age
    if not points:
        return None
    stale = figures.settings.min_stale_time.total_seconds()
    longest = max(points[-1][0], stale, _HOUR) * 1.2
    top = _round_up(points[0][1])

    def across(age: float) -> float:
        return math.log1p(age / _MINUTE) / math.log1p(longest / _MINUTE)

    curve = [(0.0, points[0][1] / top), *((across(age), size / top) for age, size in points)]
    curve.append((curve[-1][0], 0.0))
    kept = [(across(stale), 0.0), (across(stale), 1.0)]
    return Plot(
        (Curve("freed", curve, area=True), Curve("limit", kept)),
        [Mark(across(age), text) for age, text in _AGE_MARKS if age <= longest],
        _mark_sizes(top),
        about=f"pruning everything would free {near_size(points[0][1])}",
    )


def plot_past(figures: Figures) -> Plot | None:
    """Plot the bytes held over time."""
    if len(figures.past) < 2:
        return None
    first, last = figures.past[0].at, figures.past[-1].at
    span = (last - first).total_seconds() or 1.0
    most = max(moment.held for moment in figures.past)
    limit = figures.stats.cache_limit
    top = _round_up(max(most, limit))

    def across(at: datetime) -> float:
        return min(max((at - first).total_seconds() / span, 0.0), 1.0)

    held = [(across(moment.at), moment.held / top) for moment in figures.past]
    line = [(0.0, limit / top), (1.0, limit / top)]
    return Plot(
        (Curve("held", held, area=True), Curve("limit", line)),
        _mark_times(first, last),
        _mark_sizes(top),
        about=f"{near_size(figures.past[-1].held)} now, {near_size(most)} at most",
    )


def _mark_times(first: datetime, last: datetime) -> list[Mark]:
    shown = "%H:%M:%S" if (last - first).total_seconds() < _DAY else "%b %d"
    marks = [Mark(part, f"{first + (last - first) * part:{shown}}") for part in (0.0, 0.33, 0.67)]
    return [*marks, Mark(1.0, "now")]


def _mark_sizes(top: int) -> list[Mark]:
    return [Mark(0.0, "0"), Mark(0.5, near_size(top // 2)), Mark(1.0, near_size(top))]


def _round_up(size: int) -> int:
    """Return the next size that has few digits."""
    step = 1024 ** max(0, int(math.log(size, 1024))) if size else 1
    for factor in (1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400, 600, 800, 1024):
        if factor * step >= size:
            return factor * step
    return size
