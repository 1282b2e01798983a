"""What one handle has done since it was opened, in plain numbers, for `registry.metrics`.

Adding to them takes no lock: without a global interpreter lock, threads that share a handle may
lose a count now and then. Nothing depends on them.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace

from registry.artifact import ArtifactId

__all__ = ["MOST_KINDS", "OTHER", "UNNAMED", "Counters", "Evicted", "Tally"]

# Kinds of failure are words of backends and names of exceptions. Each becomes a time series where
# metrics are collected, so their number is bounded.
MOST_KINDS = 50
KIND_CHARACTERS = 100
UNNAMED = "error"
OTHER = "(other)"
# About 400 bytes each: some 4 MB for what one process has pruned.
EVICTED_LIMIT = 10_000


class Tally(Counter[str]):
    """How often each kind was met; beyond `MOST_KINDS`, all others together."""

    def note(self, kind: str | None) -> None:
        """Count one more."""
        word = (kind or UNNAMED)[:KIND_CHARACTERS]
        self[word if word in self or len(self) < MOST_KINDS else OTHER] += 1


@dataclass(slots=True)
class Counters:
    """What one handle has done since it was opened."""

    hits: int = 0  # needs answered at once
    misses: int = 0  # needs that were not
    coalesced: int = 0  # waits for what another was preparing already
    prepared: int = 0
    prepared_again: int = 0  # of those, what this handle had pruned before
    pruned: int = 0
    pruned_bytes: int = 0
    forgotten: int = 0  # failures beyond their bounds
    discarded: int = 0  # prepared, but their file was missing or damaged
    failures: Tally = field(default_factory=Tally)  # that this handle recorded, by kind

    def copy(self) -> Counters:
        """Take them as they are now."""
        return replace(self, failures=Tally(self.failures))


class Evicted(OrderedDict[ArtifactId, None]):
    """What this handle has pruned, so that it knows it again; bounded, the oldest goes first."""

    def note(self, id: ArtifactId) -> None:
        """Remember one."""
        self[id] = None
        self.move_to_end(id)
        while len(self) > EVICTED_LIMIT:
            self.popitem(last=False)

    def take(self, id: ArtifactId) -> bool:
        """Forget one; whether it was remembered."""
        known = id in self
        self.pop(id, None)
        return known
