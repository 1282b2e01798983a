"""What the template of the report draws: rows with bars, and plots of curves.

There are no scripts. A curve is SVG and stretches with the page; the text beside it does not, so
the page can be read on a telephone too. The page's style sets the colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Curve", "Mark", "Plot", "Row"]

_SIDE = 1000  # of the square that is stretched


@dataclass(frozen=True, slots=True)
class Mark:
    """A text at a place along a side, from 0 to 1."""

    place: float
    text: str


@dataclass(frozen=True, slots=True)
class Curve:
    """Points from (0, 0), bottom left, to (1, 1), top right; `kind` is its class in the style.

    It goes in steps, as counts do. An `area` is closed down to the bottom.
    """

    kind: str
    points: Sequence[tuple[float, float]]
    area: bool = False

    def path(self) -> str:
        """Write the path in SVG."""
        if not self.points:
            return ""
        (x, y), *rest = [(place * _SIDE, _y(height)) for place, height in self.points]
        steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest)
        if not self.area:
            return f"M{x:.1f} {y:.1f}{steps}"
        return f"M{x:.1f} {_SIDE}V{y:.1f}{steps}V{_SIDE}Z"


@dataclass(frozen=True, slots=True)
class Plot:
    """Curves over each other, with marks at both sides; `about` is read out by screen readers."""

    curves: Sequence[Curve]
    across: Sequence[Mark]
    up: Sequence[Mark]
    about: str
    side: ClassVar[int] = _SIDE

    def grid_line(self, mark: Mark) -> str:
        """Write the horizontal line at a mark in SVG."""
        return f"M0 {_y(mark.place):.0f}H{_SIDE}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a list. With a length, from 0 to 1, it has a value and a bar."""

    name: str
    more: str = ""
    value: str = ""
    length: float | None = None


def _y(height: float) -> float:
    """Turn a height around: SVG counts downwards."""
    return (1 - height) * _SIDE
