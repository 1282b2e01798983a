"""How `registry watch` looks: one glance at the cache, in as many columns as the terminal has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from registry.cli.output import visible
from registry.cli.units import coarse_span, near_age, near_size, near_span

if TYPE_CHECKING:
    from registry import Artifact, HistoryEvent
    from registry.cli.watch import Glance

__all__ = ["Frame", "draw"]

_BAR = 40
# What is narrower loses the columns that people miss least.
_WIDE = 72
_PREPARING = ("SINCE", "BY", "FAILURES", "LABEL")
_EVICTED = ("EVICTED", "SIZE", "UNUSED", "PREPARED IN", "BECAUSE OF", "LABEL")
# What other people called things, of any length.
_NAMES = ("LABEL", "COMMAND", "PREPARES")
Cells = Sequence[str]


class Frame:
    """A glance, to be rendered at whatever width there is; names from outside are never markup."""

    def __init__(self, glance: Glance, cache: Path) -> None:
        self._glance = glance
        self._cache = cache

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        yield self._title(wide)
        yield self._usage(options.max_width)
        yield from _warnings(self._glance)
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
        stats = self._glance.stats
        held, limit = stats.prepared_bytes, stats.cache_limit
        share = held / limit if limit else float(held > 0)
        grid = Table.grid(padding=(0, 1))
        grid.add_column(style="dim")
        grid.add_column(no_wrap=True, overflow="ellipsis")
        style = "red" if stats.over_limit else "green"
        bar = ProgressBar(
            total=1, completed=min(share, 1), width=min(_BAR, width - 11), complete_style=style
        )
        grid.add_row("usage", bar)
        grid.add_row("", f"{near_size(held)} of {near_size(limit)}, {share:.0%}")
        kinds = (stats.prepared_count, stats.preparing_count, stats.failed_count)
        grid.add_row("artifacts", "{} prepared, {} preparing, {} failed".format(*kinds))
        hits, misses, totals = self._glance.hits, self._glance.misses, stats.totals
        if hits is not None and misses is not None:
            grid.add_row("a second", f"{hits:.1f} hits, {misses:.1f} misses")
        grid.add_row("in all", "{hits} hits, {misses} misses, {coalesced} waits".format(**totals))
        return grid

    def _hosts(self) -> Iterator[Cells]:
        for host in self._glance.hosts:
            process = str(host.pid) if host.alive else f"{host.pid} (dead)"
            prepares = ", ".join(artifact.label or artifact.id.short for artifact in host.prepares)
            yield process, near_age(host.opened_at, self._glance.at), prepares or "-", host.command

    def _preparing(self, artifact: Artifact) -> Cells:
        holder = artifact.holder
        since = coarse_span(self._glance.at - holder.since) if holder else "-"
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
    """Write one frame, plainly where it is no terminal."""
    console = Console(file=output, highlight=False)
    with console.capture() as captured:
        console.print(Frame(glance, cache))
    output.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())


def _warnings(glance: Glance) -> Iterator[Text]:
    stats = glance.stats
    if stats.over_limit:
        over = near_size(stats.prepared_bytes - stats.cache_limit)
        yield Text(f"over the limit by {over}", "red")
    if stats.rebuilt_lately.count:
        again = (
            f"{stats.rebuilt_lately.count} prepared again soon after being pruned, since yesterday"
        )
        yield Text(f"too small: {again}", "yellow")


def _section(heading: str, titles: Cells, rows: list[Cells]) -> Iterator[RenderableType]:
    """A table under its heading; without rows, the heading alone."""
    yield Text("")
    yield Text(heading, "bold")
    if not rows:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for title in titles:
        ratio = 1 if title in _NAMES else None  # they share what the others leave
        table.add_column(title, no_wrap=True, overflow="ellipsis", ratio=ratio)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row[: len(titles)]))
    yield table
