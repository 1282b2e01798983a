"""The guarded statements that move an artifact from state to state; how they are made, and why so,
is told in `registry.sql.core.transitions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from registry.sql.legal_moves import MOVES, Event
from registry.sql.sqlite import SQLITE
from registry.sql.statement import Statement

__all__ = ["FORGET_BATCH", "MOVES", "PRUNE_BATCH", "TRANSITIONS", "Event"]

# The write lock is held for one batch: 256 deletions take some milliseconds.
PRUNE_BATCH = 256
# Each may hold 64 KiB of an error, and all of the batch is read to sum it up.
FORGET_BATCH = 32

TRANSITIONS: Mapping[Event, Statement] = MappingProxyType(
    {event: SQLITE[event.value] for event in Event}
)
