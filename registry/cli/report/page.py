"""The page of `registry report`: one file that loads nothing from the network and runs no script.

The template escapes all text. A policy in the page forbids the browser to load or run anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from registry.artifact import Artifact
from registry.cli.output import visible
from registry.cli.report.alarms import alarms
from registry.cli.report.curves import plot_freed, plot_past
from registry.cli.report.figures import LINES, Figures
from registry.cli.report.plots import Plot, Row
from registry.cli.units import near_age, near_command, near_size, near_span

__all__ = ["page"]

_COMMAND_WIDTH = 60  # characters

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, slots=True)
class Section:
    """A box of the page: a plot, or rows; without both it says "nothing"."""

    title: str
    about: str
    rows: Sequence[Row] = ()
    plot: Plot | None = None


def page(figures: Figures) -> str:
    """Write the whole page."""
    return _TEMPLATES.get_template("page.html").render(
        cache=visible(figures.cache),
        at=f"{figures.at:%Y-%m-%d %H:%M:%S}",
        facts=_facts(figures),
        alarms=list(alarms(figures.stats)),
        sections=_sections(figures),
    )


def _facts(figures: Figures) -> list[tuple[str, str]]:
    stats = figures.stats
    return [
        ("held", f"{near_size(stats.prepared_bytes)} of {near_size(stats.cache_limit)}"),
        ("prepared", f"{stats.prepared_count}"),
        ("preparing", f"{stats.preparing_count}"),
        ("failed", f"{stats.failed_count}"),
        ("hit rate", _hit_rate(stats.totals)),
        ("would be pruned now", near_size(figures.next_prune_size)),
    ]


def _sections(figures: Figures) -> list[Section]:
    return [
        Section("Size by age", "Bytes, by the time of their last need.", _list_ages(figures)),
        Section(
            "What pruning would free",
            "Bytes freed by deleting everything unused for this long or longer. The dashed line is "
            "min_stale_time: pruning keeps what was needed more recently.",
            plot=plot_freed(figures),
        ),
        Section("Use over time", _describe_past(figures), plot=plot_past(figures)),
        Section("Failures", "Failed artifacts, by kind.", _list_failures(figures)),
        Section("Most expensive", "The longest preparations.", _list_expensive(figures)),
        Section("The next prune", _describe_next(figures), _list_next(figures)),
        Section("Processes", "Those that use the cache, and what they prepare.", _hosts(figures)),
    ]


def _hit_rate(totals: Mapping[str, int]) -> str:
    needs = totals["hits"] + totals["misses"]
    return f"{totals['hits'] / needs:.1%}" if needs else "-"


def _hosts(figures: Figures) -> list[Row]:
    return [
        Row(
            visible(near_command(host.command, _COMMAND_WIDTH)),
            f"process {host.pid} on {visible(host.hostname)}, "
            f"opened {near_age(host.opened_at, figures.at)}{'' if host.alive else ', dead'}; "
            f"prepares {', '.join(_name(each) for each in host.prepares) or 'nothing'}",
        )
        for host in figures.hosts[:LINES]
    ]


def _list_ages(figures: Figures) -> list[Row]:
    if not figures.stats.prepared_count:
        return []
    most = max(each.size for each in figures.by_age) or 1
    return [
        Row(
            each.within if each.within.startswith("longer") else f"within {each.within}",
            f"{each.count} artifact{'' if each.count == 1 else 's'}",
            near_size(each.size),
            each.size / most,
        )
        for each in figures.by_age
    ]


def _list_failures(figures: Figures) -> list[Row]:
    kinds = figures.failed_by_kind
    most = max(kinds.values(), default=1)
    return [
        Row(visible(kind), value=str(count), length=count / most) for kind, count in kinds.items()
    ]


def _list_expensive(figures: Figures) -> list[Row]:
    timed = [(artifact, artifact.prepare_seconds or 0.0) for artifact in figures.dearest]
    most = max((seconds for _, seconds in timed), default=0.0)
    return [
        Row(_name(artifact), _describe(figures, artifact), near_span(seconds), seconds / most)
        for artifact, seconds in timed
        if seconds
    ]


def _list_next(figures: Figures) -> list[Row]:
    return [Row(_name(each), _describe(figures, each)) for each in figures.next_prune]


def _describe_past(figures: Figures) -> str:
    if len(figures.past) < 2:
        return "Bytes held, as far back as the journal goes."
    return (
        f"Bytes held since {figures.past[0].at:%Y-%m-%d %H:%M} UTC, as far back as the journal "
        f"goes: {figures.prepared_lately} prepared in {near_span(figures.prepare_seconds_lately)}, "
        f"{figures.pruned_lately} pruned. The dashed line is cache_limit, "
        f"{near_size(figures.stats.cache_limit)}."
    )


def _describe_next(figures: Figures) -> str:
    count = figures.next_prune_count
    if not count:
        return "What it would delete with the current limits."
    shown = len(figures.next_prune)
    first = f"; the first {shown} of them" if count > shown else ""
    return f"{count} artifacts, {near_size(figures.next_prune_size)}, the oldest first{first}."


def _name(artifact: Artifact) -> str:
    return visible(artifact.label or artifact.id.short)


def _describe(figures: Figures, artifact: Artifact) -> str:
    needed = artifact.last_time_needed
    ago = "never" if needed is None else near_age(needed, figures.at)
    return f"{near_size(artifact.size or 0)}, needed {ago}, {artifact.id.short}"
