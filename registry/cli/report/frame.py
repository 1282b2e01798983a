"""One frame of `registry watch`, in the width of the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from registry.cli.output import visible
from registry.cli.report.alarms import alarms
from registry.cli.units import coarse_span, near_age, near_size, near_span

if TYPE_CHECKING:
    from registry import Artifact, HistoryEvent
    from registry.cli.report.glance import Glance

__all__ = ["Frame", "draw"]

_BAR, _HEADING = 40, len("artifacts")
# A narrower terminal gets fewer columns.
_WIDE = 72
_PREPARING = ("SINCE", "BY", "FAILURES", "LABEL")
_EVICTED = ("EVICTED", "SIZE", "UNUSED", "PREPARED IN", "BECAUSE OF", "LABEL")
# Names from outside, of any length.
_NAMES = ("LABEL", "COMMAND", "PREPARES")
Cells = Sequence[str]


class Frame:
    """A frame, rendered in any width; names from outside are never markup."""

    def __init__(self, glance: Glance, cache: Path) -> None:
        self._glance = glance
        self._cache = cache

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        yield self._title(wide)
        yield self._usage(options.max_width)
        yield from (Text(alarm, "yellow") for alarm in alarms(self._glance.stats))
        yield from _section(
            f"hosts: {sum(host.alive for host in self._glance.hosts)}",
            ("PROCESS", "SINCE", "PREPARES", "COMMAND")[: 4 if wide else 3],
            list(self._hosts()),
        )
        preparing = list(map(self._preparing, self._glance.preparing))
        yield from _section(f"preparing: {len(preparing)}", _PREPARING, preparing)
        evicted = [self._evicted(event, wide) for event in self._glance.evicted]
        titles = _EVICTED if wide else (*_EVICTED[:2], _EVICTED[-1])
        yield from _section("last evictions" if evicted else "no evictions yet", titles, evicted)

    def _title(self, wide: bool) -> Text:
        title = Text.assemble((visible(str(self._cache)), "bold"), overflow="ellipsis")
        title.no_wrap = True
        if wide:
            title.append(f"  {self._glance.at:%H:%M:%S} UTC", "dim")
        return title

    def _usage(self, width: int) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()  # truncated before the headings
        grid.add_row("usage", self._bar(width))
        for heading, figures in self._figures():
            grid.add_row(heading, Text(figures, no_wrap=True, overflow="ellipsis"))
        return grid

    def _bar(self, width: int) -> ProgressBar:
        colour = "red" if self._glance.stats.over_limit else "green"
        return ProgressBar(
            total=1,
            completed=min(self._share(), 1),
            width=min(_BAR, width - _HEADING - 2),
            complete_style=colour,
            finished_style=colour,
        )

    def _share(self) -> float:
        held, limit = self._glance.stats.prepared_bytes, self._glance.stats.cache_limit
        return held / limit if limit else float(held > 0)

    def _figures(self) -> Iterator[tuple[str, str]]:
        stats, hits, misses = self._glance.stats, self._glance.hits, self._glance.misses
        sizes = near_size(stats.prepared_bytes), near_size(stats.cache_limit)
        yield "", "{} of {}, {:.0%}".format(*sizes, self._share())
        kinds = stats.prepared_count, stats.preparing_count, stats.failed_count
        yield "artifacts", "{} prepared, {} preparing, {} failed".format(*kinds)
        if hits is not None and misses is not None:
            yield "a second", f"{hits:.1f} hits, {misses:.1f} misses"
        yield "in all", "{hits} hits, {misses} misses, {coalesced} waits".format(**stats.totals)

    def _hosts(self) -> Iterator[Cells]:
        for host in self._glance.hosts:
            process = str(host.pid) if host.alive else f"{host.pid} (dead)"
            prepares = ", ".join(artifact.label or artifact.id.short for artifact in host.prepares)
            yield process, near_age(host.opened_at, self._glance.at), prepares or "-", host.command

    def _preparing(self, artifact: Artifact) -> Cells:
        holder = artifact.holder
        # It may have begun while we read.
        since = coarse_span(max(self._glance.at - holder.since, timedelta(0))) if holder else "-"
        by = str(holder.pid) if holder and holder.pid else "-"
        return since, by, str(artifact.num_failures), artifact.label or artifact.id.short

    def _evicted(self, event: HistoryEvent, wide: bool) -> Cells:
        when = near_age(event.at, self._glance.at)
        size = "-" if event.size is None else near_size(event.size)
        label = event.label or event.id.short
        if not wide:
            return when, size, label
        took = event.prepare_seconds
        needed = event.last_time_needed
        unused = "-" if needed is None else coarse_span(abs(event.at - needed))
        spent = "-" if took is None else near_span(took)
        return when, size, unused, spent, event.reason or "-", label


def draw(glance: Glance, cache: Path, *, output: TextIO) -> None:
    """Write one frame; plain text if it is no terminal."""
    console = Console(file=output, highlight=False)
    with console.capture() as captured:
        console.print(Frame(glance, cache))
    output.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())


def _section(heading: str, titles: Cells, rows: list[Cells]) -> Iterator[RenderableType]:
    """Draw a table under its heading; without rows, only the heading."""
    yield Text("")
    yield Text(heading, "bold")
    if not rows:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for title in titles:
        ratio = 1 if title in _NAMES else None  # they share the remaining width
        table.add_column(title, no_wrap=True, overflow="ellipsis", ratio=ratio)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row[: len(titles)]))
    yield table
