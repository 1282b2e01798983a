"""A live view of the cache, redrawn every second until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from os import getpid
from typing import TYPE_CHECKING

import click

from registry.artifact import State
from registry.cli import output
from registry.cli.options import read_by
from registry.cli.report.glance import Glance
from registry.cli.session import Session, in_session
from registry.cli.units import parse_span
from registry.clock_slack import CLOCK_SLACK

if TYPE_CHECKING:
    from registry import Registry, Stats

__all__ = ["Watcher", "watch"]

_EVICTIONS = 5
# Hits and misses are averaged over this time.
_WINDOW = timedelta(seconds=10)
_EACH, _SHORTEST = timedelta(seconds=1), timedelta(milliseconds=100)


class Watcher:
    """Read a cache repeatedly, and compute its hits and misses a second."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._seen: deque[tuple[datetime, Mapping[str, int]]] = deque()  # time, and totals
        pruned = (event for event in registry.events() if event.event == "pruned")
        self._evicted = list(islice(pruned, _EVICTIONS))

    def look(self) -> Glance:
        """Read the cache once."""
        registry, now, stats = self._registry, datetime.now(UTC), self._registry.stats()
        self._remember(now, stats)
        return Glance(
            at=now,
            stats=stats,
            settings=registry.settings(),
            hits=self._rate("hits"),
            misses=self._rate("misses"),
            hosts=tuple(host for host in registry.hosts() if host.pid != getpid()),
            preparing=tuple(registry.artifacts(state=State.PREPARING)),
            evicted=tuple(self._evicted),
        )

    def _remember(self, now: datetime, stats: Stats) -> None:
        self._seen.append((now, stats.totals))
        while not now - _WINDOW <= self._seen[0][0] <= now:  # the clock may have been set back
            self._seen.popleft()
        latest = now + CLOCK_SLACK
        recent = takewhile(
            lambda event: now - 2 * _WINDOW < event.at <= latest, self._registry.events()
        )
        every = {*self._evicted, *(event for event in recent if event.event == "pruned")}
        ranked = sorted(every, key=lambda event: (event.at <= latest, event.at), reverse=True)
        self._evicted = ranked[:_EVICTIONS]

    def _rate(self, name: str) -> float | None:
        (begun, before), (now, counted) = self._seen[0], self._seen[-1]
        spent = (now - begun).total_seconds()
        return (counted[name] - before[name]) / spent if spent > 0 else None


@click.command()
@in_session
@click.option("--once", is_flag=True, help="Show it once and exit.")
@click.option(
    "--interval",
    callback=read_by(parse_span),
    metavar="TIME",
    help="Redraw after this time [default: 1s].",
)
def watch(session: Session, once: bool, interval: timedelta | None) -> None:
    """Watch the cache live, until Ctrl-C.

    Shows usage, processes, preparations and their age, hits and misses a second (over ten seconds)
    and the last evictions. Without a terminal, or on a dumb one, it is shown once.
    """
    watcher = Watcher(session.registry)
    if session.json:
        session.write(watcher.look(), ())
        return
    from registry.cli.report.frame import draw

    if once or not output.moves_the_cursor(sys.stdout):
        draw(watcher.look(), session.cache_dir, output=sys.stdout)
        return
    _live(watcher, max(interval or _EACH, _SHORTEST), session)


def _live(watcher: Watcher, interval: timedelta, session: Session) -> None:
    from rich.console import Console
    from rich.live import Live

    from registry.cli.report.frame import Frame

    def frame() -> Frame:
        return Frame(watcher.look(), session.cache_dir)

    with Live(frame(), console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval.total_seconds())
            live.update(frame(), refresh=True)
