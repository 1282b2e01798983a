"""Warnings about the limits of a cache, the same in every view."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from registry.cli.units import near_size, near_span

if TYPE_CHECKING:
    from registry import Stats

__all__ = ["alarms"]


def alarms(stats: Stats) -> Iterator[str]:
    """Return a line for each warning; usually none."""
    if stats.over_limit:
        over = near_size(stats.prepared_bytes - stats.cache_limit)
        yield f"over the limit by {over}: the rest was needed too recently"
    if stats.limit_below_working_set:
        yield "too small: the artifacts needed within min_stale_time exceed it; raise cache_limit"
    again = stats.rebuilt_lately
    if again.count:
        yield (
            f"too small: {again.count} prepared again within a day of being pruned, in "
            f"{near_span(again.seconds)}, since yesterday; raise cache_limit"
        )
