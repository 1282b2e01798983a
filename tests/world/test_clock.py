"""The clock of the rows, held still: every microsecond is exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from freezegun.api import FrozenDateTimeFactory
from hypothesis import given
from hypothesis import strategies as st
from support.making import claimed, prepared

from registry import ArtifactId, Registry
from registry.artifact import from_micros, to_micros
from registry.world import clock as world_clock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_a_frozen_clock_is_read_to_the_microsecond(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    for microseconds in (1, 2, 7, 100_003, 123_456, 999_999):
        moment = datetime(2026, 1, 1, 12, 0, 0, microseconds, UTC)
        clock.move_to(moment)
        assert from_micros(world_clock.now()) == moment
        assert prepared(registry, id).last_time_needed == moment
        registry.remove(id)


def test_the_clock_of_waiting_is_not_the_clock_of_rows(clock: FrozenDateTimeFactory) -> None:
    before = world_clock.elapsed()
    clock.tick(timedelta(days=365))
    assert 0 <= world_clock.elapsed() - before < 3600


@given(st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)))
def test_a_time_survives_being_stored(moment: datetime) -> None:
    assert from_micros(to_micros(moment - EPOCH)) == moment


def test_rows_show_their_times_in_utc(registry: Registry, id: ArtifactId) -> None:
    with claimed(registry, id) as claim:
        held = claim.artifact.holder
    assert held is not None
    assert held.since.tzinfo is UTC
