"""The figures of a report, read through the public verbs and reduced to what a page can show.

The artifacts are read once, the most recently needed first, and not kept in memory: a cache may
hold a million. The past is the journal's last 10,000 events.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from typing import TYPE_CHECKING

from registry.artifact import Artifact, State

if TYPE_CHECKING:
    from registry import HistoryEvent, Registry, Settings, Stats
    from registry.verbs.hosts import HostInfo

__all__ = ["AGES", "LINES", "AgeClass", "Figures", "Moment", "collect"]

# The most points of a curve, and the most lines of a list.
POINTS = 400
LINES = 12
AGES = (
    ("an hour", timedelta(hours=1)),
    ("a day", timedelta(days=1)),
    ("a week", timedelta(days=7)),
    ("30 days", timedelta(days=30)),
    ("a year", timedelta(days=365)),
)
_ENDS = frozenset({"pruned", "removed", "missing", "damaged", "hostile"})


@dataclass(slots=True)
class AgeClass:
    """The artifacts last needed within a time, but not within the shorter one before it."""

    within: str
    count: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """The bytes held at one time."""

    at: datetime
    held: int


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of a report. Sizes are bytes, ages are seconds since the last need."""

    at: datetime
    cache: str
    stats: Stats
    settings: Settings
    failed_by_kind: Mapping[str, int]
    by_age: Sequence[AgeClass]
    freed_by_age: Sequence[tuple[float, int]]  # pruning from this age on frees so many bytes
    next_prune: Sequence[Artifact]
    next_prune_count: int
    next_prune_size: int
    past: Sequence[Moment]
    prepared_lately: int  # since the first of `past`, like the two below
    pruned_lately: int
    prepare_seconds_lately: float
    dearest: Sequence[Artifact]
    hosts: Sequence[HostInfo]


def collect(registry: Registry) -> Figures:
    """Read everything. This is no snapshot: other processes keep working."""
    now, stats = datetime.now(UTC), registry.stats()
    events = list(registry.events())[::-1]
    events.sort(key=lambda event: event.at)
    published = [event for event in events if event.event == "published"]
    held = _Held(now)
    for artifact in registry.artifacts(state=State.PREPARED):
        held.add(artifact)
    next_prune = registry.prune(dry_run=True)
    return Figures(
        at=now,
        cache=str(registry.cache_dir),
        stats=stats,
        settings=registry.settings(),
        failed_by_kind=registry.measure().failed_by_kind,
        by_age=held.by_age,
        freed_by_age=held.freed_by_age(),
        next_prune=next_prune[:LINES],
        next_prune_count=len(next_prune),
        next_prune_size=sum(artifact.size or 0 for artifact in next_prune),
        past=_past(events, stats.prepared_bytes, now),
        prepared_lately=len(published),
        pruned_lately=sum(event.event == "pruned" for event in events),
        prepare_seconds_lately=sum(event.prepare_seconds or 0.0 for event in published),
        dearest=held.dearest(),
        hosts=registry.hosts(),
    )


class _Held:
    """Adds up the prepared artifacts as they are read, the most recently needed first."""

    def __init__(self, now: datetime) -> None:
        self.by_age = [AgeClass(name) for name, _ in AGES] + [AgeClass("longer ago")]
        self._now = now
        self._size = 0
        self._curve: list[tuple[float, int]] = []  # age, and the size of what is younger
        self._every, self._count = 1, 0
        self._expensive: list[Artifact] = []

    def add(self, artifact: Artifact) -> None:
        """Add one artifact."""
        needed = artifact.last_time_needed or self._now
        age, size = max(self._now - needed, timedelta(0)), artifact.size or 0
        place = self.by_age[bisect_left([longest for _, longest in AGES], age)]
        place.count += 1
        place.size += size
        if self._count % self._every == 0:
            self._curve.append((age.total_seconds(), self._size))
        if len(self._curve) > 2 * POINTS:
            self._curve, self._every = self._curve[::2], self._every * 2
        self._count += 1
        self._size += size
        self._expensive.append(artifact)
        if len(self._expensive) > 1000:
            self._expensive = self.dearest()

    def freed_by_age(self) -> list[tuple[float, int]]:
        """Return how many bytes are unused for each age or longer."""
        return [(age, self._size - younger) for age, younger in self._curve]

    def dearest(self) -> list[Artifact]:
        """Return the artifacts that took longest to prepare."""
        return nlargest(LINES, self._expensive, key=lambda it: it.prepare_seconds or 0.0)


def _past(events: Sequence[HistoryEvent], held: int, now: datetime) -> list[Moment]:
    """Go back from the bytes held now: fewer before a publish, more before a deletion."""
    past = [Moment(now, held)]
    for event in reversed(events):
        if event.event == "published" or event.event in _ENDS:
            past.append(Moment(event.at, held))
            held += (event.size or 0) * (1 if event.event in _ENDS else -1)
            held = max(held, 0)  # the journal does not know all deletions
    past.reverse()
    step = max(1, len(past) // POINTS)
    return [*past[:-1][::step], past[-1]]
