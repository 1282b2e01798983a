"""What `registry watch` shows at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry import Artifact, HistoryEvent, HostInfo, Settings, Stats

__all__ = ["Glance"]


@dataclass(frozen=True, slots=True)
class Glance:
    """How the cache stands at one moment; `hits` and `misses` are a second, None at the first."""

    at: datetime
    stats: Stats
    settings: Settings
    hits: float | None
    misses: float | None
    hosts: tuple[HostInfo, ...]
    preparing: tuple[Artifact, ...]
    evicted: tuple[HistoryEvent, ...]
