"""A plot of a few lines on logarithmic axes, as a small SVG with its own labels.

It has no background, and its colours can be read on light and on dark pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

__all__ = ["Plot"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 70, 170, 40, 50
COLOURS = (
    *("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"),
    *("#8c564b", "#7f7f7f", "#e377c2", "#bcbd22", "#e6ab02", "#aec7e8"),
)
Line = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """Lines by their names; x is a number of things, y what `unit` words of it."""

    title: str
    x_title: str
    lines: Mapping[str, Line]
    unit: Callable[[float], str]

    def svg(self) -> str:
        """The whole file."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
            _text(LEFT, 22, self.title, size=15),
            _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, self.x_title, anchor="middle"),
            *self._grid(),
        ]
        for number, (name, line) in enumerate(self._from_the_top()):
            parts += self._line(name, line, COLOURS[number % len(COLOURS)], 20 * number)
        return "\n".join([*parts, "</svg>", ""])

    def _from_the_top(self) -> list[tuple[str, Line]]:
        return sorted(self.lines.items(), key=lambda named: -named[1][-1][1])

    def _grid(self) -> list[str]:
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = []
        for y in _decades([y for line in self.lines.values() for _, y in line]):
            at = self._y(y)
            parts.append(f'<path d="M{LEFT} {at:.0f}H{right}" stroke="#8884"/>')
            parts.append(_text(LEFT - 6, at + 4, self.unit(y), anchor="end"))
        for x in sorted({x for line in self.lines.values() for x, _ in line}):
            at = self._x(x)
            parts.append(f'<path d="M{at:.0f} {TOP}V{bottom}" stroke="#8883"/>')
            parts.append(_text(at, bottom + 18, f"{x:,.0f}", anchor="middle"))
        return parts

    def _line(self, name: str, line: Line, colour: str, down: float) -> list[str]:
        points = " ".join(f"{self._x(x):.0f},{self._y(y):.0f}" for x, y in line)
        at = WIDTH - RIGHT + 14
        return [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<path d="M{at} {TOP + down + 6:.0f}h18" stroke="{colour}" stroke-width="2"/>',
            _text(at + 24, TOP + down + 10, name),
        ]

    def _x(self, x: float) -> float:
        return _along(x, [x for line in self.lines.values() for x, _ in line], LEFT, WIDTH - RIGHT)

    def _y(self, y: float) -> float:
        decades = _decades([y for line in self.lines.values() for _, y in line])
        return _along(y, decades, HEIGHT - BOTTOM, TOP)


def _along(value: float, values: Sequence[float], start: float, end: float) -> float:
    low, high = log10(min(values)), log10(max(values))
    return start + (end - start) * (log10(value) - low) / ((high - low) or 1)


def _decades(values: Sequence[float]) -> list[float]:
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    where = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
    font = f'font-family="sans-serif" font-size="{size}" fill="#808080"'
    return f"<text {where} {font}>{escape(words)}</text>"
