"""Who is to maintain a cache is decided by clocks, and no two of them tell the very same time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from freezegun.api import FrozenDateTimeFactory
from support.tables import connected

from registry import Registry
from registry.artifact import to_micros
from registry.sql.queries import MAINTAIN
from registry.world import clock as clocks

HOUR = timedelta(hours=1)


def test_a_host_that_looked_at_the_clock_a_little_earlier_does_not_win_as_well(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path
) -> None:
    clock.tick(HOUR)
    earlier = clocks.now()
    clock.tick(timedelta(milliseconds=1))
    assert registry.maintain()
    asked = {"now": earlier, "due_before": earlier - to_micros(HOUR)}
    with connected(cache) as connection:
        assert connection.execute(MAINTAIN.sql, asked).fetchall() == []


def test_a_clock_that_was_set_back_does_not_put_maintenance_off(
    clock: FrozenDateTimeFactory, registry: Registry
) -> None:
    clock.tick(HOUR)
    assert registry.maintain()
    clock.tick(-2 * HOUR)
    assert registry.maintain()
    assert not registry.maintain()
