"""Plots for a page of HTML, without scripts: curves in SVG, bars and words in the page itself.

A curve is stretched to whatever width there is, and the words beside it are not: so it can be read
on a telephone too. Colours are the page's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Axis", "Bar", "Curve", "bars", "curves"]

_SIDE = 1000  # of the square that is stretched


@dataclass(frozen=True, slots=True)
class Axis:
    """Where words stand along a side, from 0 to 1."""

    marks: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points from (0, 0), bottom left, to (1, 1); `kind` is its class in the page's style.

    It goes in steps, as what is counted does; closed, down to the bottom, if it is an `area`.
    """

    kind: str
    points: Sequence[tuple[float, float]]
    area: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its length from 0 to 1, and what is said of it."""

    name: str
    length: float
    value: str
    more: str = ""


def curves(drawn: Iterable[Curve], across: Axis, up: Axis, *, says: str) -> str:
    """Draw curves over each other; `says` is for those who cannot see them."""
    paths = "".join(f'<path class="{curve.kind}" d="{_path(curve)}"/>' for curve in drawn)
    lines = "".join(f'<path class="grid" d="M0 {_y(place):.0f}H{_SIDE}"/>' for place, _ in up.marks)
    return (
        f'<div class="plot"><svg viewBox="0 0 {_SIDE} {_SIDE}" preserveAspectRatio="none"'
        f' role="img" aria-label="{escape(says)}">{lines}{paths}</svg>'
        f"{_words(up, 'up', 'bottom')}{_words(across, 'across', 'left')}</div>"
    )


def bars(drawn: Iterable[Bar]) -> str:
    """Draw bars, one beneath the other."""
    return f'<ol class="bars">{"".join(map(_bar, drawn))}</ol>'


def _bar(bar: Bar) -> str:
    more = f'<span class="more">{escape(bar.more)}</span>' if bar.more else ""
    return (
        f'<li><span class="name">{escape(bar.name)}</span>'
        f'<span class="value">{escape(bar.value)}</span>'
        f'<span class="track"><i style="width:{min(max(bar.length, 0), 1):.2%}"></i></span>'
        f"{more}</li>"
    )


def _words(axis: Axis, kind: str, side: str) -> str:
    return "".join(
        f'<span class="{kind}" style="{side}:{place:.2%}">{escape(word)}</span>'
        for place, word in axis.marks
    )


def _path(curve: Curve) -> str:
    if not curve.points:
        return ""
    (x, y), *rest = [(place * _SIDE, _y(height)) for place, height in curve.points]
    steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest)
    if not curve.area:
        return f"M{x:.1f} {y:.1f}{steps}"
    return f"M{x:.1f} {_SIDE}V{y:.1f}{steps}V{_SIDE}Z"


def _y(height: float) -> float:
    """SVG counts downwards."""
    return (1 - height) * _SIDE
