"""The page of `registry report`: one file, which asks no network and runs no script.

Everything that came from outside is escaped where it is written, and a policy in the page forbids
the browser to fetch or run anything at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

from registry.artifact import Artifact
from registry.cli.output import visible
from registry.cli.report.alarms import alarms
from registry.cli.report.figures import Figures
from registry.cli.report.plots import Axis, Bar, Curve, bars, curves
from registry.cli.report.style import STYLE
from registry.cli.units import near_age, near_size, near_span

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["page"]

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_AGE_MARKS = (
    (_MINUTE, "1m"),
    (_HOUR, "1h"),
    (_DAY, "1d"),
    (7 * _DAY, "1w"),
    (30 * _DAY, "30d"),
    (365 * _DAY, "1y"),
)


def page(figures: Figures) -> str:
    """Write the whole page."""
    title = f"registry: {visible(figures.cache)}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join((_head(figures), "<main>", *_sections(figures), "</main>"))
        + "\n</body>\n</html>\n"
    )


def _head(figures: Figures) -> str:
    stats = figures.stats
    facts = (
        ("held", f"{near_size(stats.prepared_bytes)} of {near_size(stats.cache_limit)}"),
        ("prepared", f"{stats.prepared_count}"),
        ("preparing", f"{stats.preparing_count}"),
        ("failed", f"{stats.failed_count}"),
        ("would be pruned now", near_size(figures.next_prune_size)),
    )
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return (
        f"<header><h1>{escape(visible(figures.cache))}</h1>"
        f"<p>{figures.at:%Y-%m-%d %H:%M:%S} UTC</p><dl>{cells}</dl>{_warnings(figures)}</header>"
    )


def _warnings(figures: Figures) -> str:
    return "".join(f'<p class="warning">{escape(it)}</p>' for it in alarms(figures.stats))


def _sections(figures: Figures) -> Iterator[str]:
    yield _section("Size by age", "Bytes, by when they were last needed.", _by_age(figures))
    yield _section(
        "What pruning would free",
        "By deleting all that has been unused for so long, or longer. The line is min_stale_time: "
        "pruning keeps what was needed more recently.",
        _freed(figures),
    )
    yield _section("Use over time", _past_says(figures), _past(figures))
    yield _section("Failures", "What failed, by kind.", _failures(figures))
    yield _section("The dearest", "What took longest to prepare.", _dearest(figures))
    yield _section("The next prune", _next_says(figures), _list(figures, figures.next_prune))


def _section(title: str, says: str, content: str) -> str:
    nothing = '<p class="nothing">nothing</p>'
    return f"<section><h2>{escape(title)}</h2><p>{escape(says)}</p>{content or nothing}</section>"


def _by_age(figures: Figures) -> str:
    most = max((each.size for each in figures.by_age), default=0) or 1
    if not figures.stats.prepared_count:
        return ""
    return bars(
        Bar(
            each.within if each.within.startswith("longer") else f"within {each.within}",
            each.size / most,
            near_size(each.size),
            f"{each.count} artifact{'' if each.count == 1 else 's'}",
        )
        for each in figures.by_age
    )


def _freed(figures: Figures) -> str:
    points = figures.freed_by_age
    if not points:
        return ""
    stale = figures.settings.min_stale_time.total_seconds()
    longest = max(points[-1][0], stale, _HOUR) * 1.2
    top = _round_up(points[0][1])

    def across(age: float) -> float:
        return math.log1p(age / _MINUTE) / math.log1p(longest / _MINUTE)

    curve = [(0.0, points[0][1] / top), *((across(age), size / top) for age, size in points)]
    curve.append((curve[-1][0], 0.0))
    kept = [(across(stale), 0.0), (across(stale), 1.0)]
    marks = [(across(age), word) for age, word in _AGE_MARKS if age <= longest]
    return curves(
        (Curve("freed", curve, area=True), Curve("limit", kept)),
        Axis(marks),
        _sizes(top),
        says=f"pruning everything would free {near_size(points[0][1])}",
    )


def _past_says(figures: Figures) -> str:
    if len(figures.past) < 2:
        return "Bytes held, as far back as the journal goes."
    return (
        f"Bytes held since {figures.past[0].at:%Y-%m-%d %H:%M} UTC, as far back as the journal "
        f"goes: {figures.prepared_lately} prepared in {near_span(figures.prepare_seconds_lately)}, "
        f"{figures.pruned_lately} pruned. The line is cache_limit."
    )


def _past(figures: Figures) -> str:
    if len(figures.past) < 2:
        return ""
    first, last = figures.past[0].at, figures.past[-1].at
    span = (last - first).total_seconds() or 1.0
    most = max(moment.held for moment in figures.past)
    limit = figures.stats.cache_limit
    top = _round_up(max(most, limit) if limit < 4 * most else most)

    def across(at: datetime) -> float:
        return min(max((at - first).total_seconds() / span, 0.0), 1.0)

    held = [(across(moment.at), moment.held / top) for moment in figures.past]
    line = [(0.0, limit / top), (1.0, limit / top)] if limit <= top else []
    shown = "%H:%M:%S" if span < _DAY else "%b %d"
    marks = [(part, f"{first + (last - first) * part:{shown}}") for part in (0.0, 0.33, 0.67)]
    return curves(
        (Curve("held", held, area=True), Curve("limit", line)),
        Axis([*marks, (1.0, "now")]),
        _sizes(top),
        says=f"{near_size(figures.past[-1].held)} now, {near_size(most)} at most",
    )


def _dearest(figures: Figures) -> str:
    dear = [artifact for artifact in figures.dearest if artifact.prepare_seconds]
    if not dear:
        return ""
    most = dear[0].prepare_seconds or 1.0
    return bars(
        Bar(
            _name(artifact),
            (artifact.prepare_seconds or 0.0) / most,
            near_span(artifact.prepare_seconds or 0.0),
            _needed(figures, artifact),
        )
        for artifact in dear
    )


def _next_says(figures: Figures) -> str:
    count = figures.next_prune_count
    if not count:
        return "What it takes, by the limits as they are set."
    shown = len(figures.next_prune)
    first = f"; the first {shown} of them" if count > shown else ""
    return f"{count} artifacts, {near_size(figures.next_prune_size)}, the oldest first{first}."


def _list(figures: Figures, artifacts: Iterable[Artifact]) -> str:
    items = "".join(
        f'<li><span class="name">{escape(_name(artifact))}</span>'
        f'<span class="more">{escape(_needed(figures, artifact))}</span></li>'
        for artifact in artifacts
    )
    return items and f'<ol class="bars">{items}</ol>'


def _failures(figures: Figures) -> str:
    kinds = figures.failed_by_kind
    most = max(kinds.values(), default=1)
    drawn = [Bar(visible(kind), count / most, str(count)) for kind, count in kinds.items()]
    return bars(drawn) if drawn else ""


def _name(artifact: Artifact) -> str:
    return visible(artifact.label or artifact.id.short)


def _needed(figures: Figures, artifact: Artifact) -> str:
    needed = artifact.last_time_needed
    ago = "never" if needed is None else near_age(needed, figures.at)
    return f"{near_size(artifact.size or 0)}, needed {ago}, {artifact.id.short}"


def _sizes(top: int) -> Axis:
    return Axis([(0.0, "0"), (0.5, near_size(top // 2)), (1.0, near_size(top))])


def _round_up(size: int) -> int:
    """The next size that is written in few digits."""
    step = 1024 ** max(0, int(math.log(size, 1024))) if size else 1
    for factor in (1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400, 600, 800, 1024):
        if factor * step >= size:
            return factor * step
    return size
