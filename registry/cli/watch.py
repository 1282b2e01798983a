"""The cache as it lives: a view that is drawn anew each second, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from os import getpid
from typing import TYPE_CHECKING, Annotated

import typer

from registry.artifact import Artifact, State
from registry.cli.options import reading
from registry.cli.session import Session, in_session
from registry.cli.units import parse_span

if TYPE_CHECKING:
    from registry import HistoryEvent, HostInfo, Registry, Settings, Stats

__all__ = ["Glance", "Watcher", "app"]

app = typer.Typer()

_EVICTIONS = 5
_MISSES = ("claimed", "taken over")
# Over how much time hits and misses are averaged.
_WINDOW = timedelta(seconds=10)
_EACH, _SHORTEST = timedelta(seconds=1), timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Glance:
    """How the cache stands at one moment; `hits` and `misses` are a second.

    `hits` are what the processes have told the cache, each once a second at most, since the first
    look of the last ten seconds; `misses` counts claims.
    """

    at: datetime
    stats: Stats
    settings: Settings
    hits: float
    misses: float
    hosts: tuple[HostInfo, ...]
    preparing: tuple[Artifact, ...]
    evicted: tuple[HistoryEvent, ...]


class Watcher:
    """Look at a cache again and again, and remember enough to tell how quickly it is used."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._seen: deque[tuple[datetime, int]] = (
            deque()
        )  # when it was looked, and all hits until then
        pruned = (event for event in registry.events() if event.event == "pruned")
        self._evicted = [event for event, _ in zip(pruned, range(_EVICTIONS), strict=False)]

    def look(self) -> Glance:
        """Look once."""
        registry, now = self._registry, datetime.now(UTC)
        recent = list(takewhile(lambda event: event.at > now - _WINDOW, registry.events()))
        self._remember(event for event in recent if event.event == "pruned")
        misses = sum(event.event in _MISSES for event in recent)
        stats = registry.stats()
        return Glance(
            at=now,
            stats=stats,
            settings=registry.settings(),
            hits=self._hits(now, stats.totals["hits"]),
            misses=misses / _WINDOW.total_seconds(),
            hosts=tuple(host for host in registry.hosts() if host.pid != getpid()),
            preparing=tuple(registry.artifacts(state=State.PREPARING)),
            evicted=tuple(self._evicted),
        )

    def _hits(self, now: datetime, hits: int) -> float:
        """How many a second since the window's first look; of one look nothing can be told."""
        self._seen.append((now, hits))
        while self._seen[0][0] < now - _WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        return (hits - before) / max((now - since).total_seconds(), 1.0)

    def _remember(self, pruned: Iterable[HistoryEvent]) -> None:
        every = {*self._evicted, *pruned}
        self._evicted = sorted(every, key=lambda event: event.at, reverse=True)[:_EVICTIONS]


@app.command()
@in_session
def watch(
    session: Session,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    interval: Annotated[
        timedelta | None,
        typer.Option(
            parser=reading(parse_span), metavar="TIME", help="Draw it so often, else each second."
        ),
    ] = None,
) -> None:
    """Watch the cache live, until Ctrl-C.

    Usage, hosts, what is being prepared and since when, hits and misses a second, the last
    evictions. Hits are told by each process once a second at most. Where nobody is at a terminal,
    it is shown once, without hits a second, which take two looks.
    """
    watcher = Watcher(session.registry)
    if session.json:
        session.write(watcher.look(), ())
        return
    from registry.cli.frame import draw

    if once or not sys.stdout.isatty():
        draw(watcher.look(), session.cache_dir, output=sys.stdout)
        return
    _live(watcher, max(interval or _EACH, _SHORTEST), session)


def _live(watcher: Watcher, interval: timedelta, session: Session) -> None:
    from rich.console import Console
    from rich.live import Live

    from registry.cli.frame import Frame

    def frame() -> Frame:
        return Frame(watcher.look(), session.cache_dir)

    with Live(frame(), console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval.total_seconds())
            live.update(frame(), refresh=True)
