"""The guarded statements that change an artifact's state.

`registry.sql.core.transitions` is their source, and explains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from registry.sql.legal_moves import MOVES, Event
from registry.sql.sqlite import SQLITE
from registry.sql.statement import Statement

__all__ = ["FORGET_BATCH", "MOVES", "PRUNE_BATCH", "TRANSITIONS", "Event"]

# The write lock is held for one batch: 256 deletions take a few milliseconds.
PRUNE_BATCH = 256
# Each failure may hold 64 KiB of an error, and the whole batch is read to add up their sizes.
FORGET_BATCH = 32

TRANSITIONS: Mapping[Event, Statement] = MappingProxyType(
    {event: SQLITE[event.value] for event in Event}
)
