"""Measure a registry as a whole, from any process: a few statements, at any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from registry.artifact import from_micros
from registry.effects import Verb
from registry.sql.queries import FAILURES, OLDEST_NEED
from registry.verbs.counters import MOST_KINDS, OTHER, UNNAMED
from registry.verbs.database import one, run
from registry.verbs.handle import Handle
from registry.verbs.hosts import hosts
from registry.verbs.listing import Stats, stats

__all__ = ["Measurement", "measure"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """How a registry stands just now, whichever process made it so.

    The rarest kinds of failure are counted together, as "(other)". `oldest_need` is None where
    nothing is prepared.
    """

    stats: Stats
    failed_by_kind: Mapping[str, int]
    hosts_alive: int
    oldest_need: datetime | None


def measure(handle: Handle) -> Verb[Measurement]:
    """Measure; the statements are no snapshot together."""
    counted = yield from stats(handle)
    kinds = Counter[str]()
    for kind, count in (yield from run(FAILURES, {"most": MOST_KINDS})):
        kinds[kind or UNNAMED] += count
    others = counted.failed_count - kinds.total()
    if others > 0:
        kinds[OTHER] += others
    alive = [host for host in (yield from hosts(handle)) if host.alive]
    (oldest,) = yield from one(OLDEST_NEED, {})
    since = None if oldest is None else from_micros(oldest)
    return Measurement(counted, kinds, len(alive), since)
