"""Pruning: the least recently needed go first, and none that was needed recently goes at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import change, files, fill, rows, snapshot, usage

from registry import Artifact, ArtifactId, CleanupConfig, InvalidSetting, Registry

pytestmark = pytest.mark.usefixtures("clock")

NOW = timedelta(0)
SECOND = timedelta(seconds=1)


@pytest.fixture
def aged(
    clock: FrozenDateTimeFactory, registry: Registry, new_id: Callable[[], ArtifactId]
) -> list[ArtifactId]:
    """Three artifacts of 1024 bytes, last needed 15, 10 and 5 seconds ago."""
    ids = []
    for _ in range(3):
        ids.append(prepared(registry, new_id(), 1024).id)
        clock.tick(5 * SECOND)
    return ids


def ids_of(artifacts: list[Artifact]) -> list[ArtifactId]:
    return [artifact.id for artifact in artifacts]


def held(registry: Registry) -> list[ArtifactId]:
    return ids_of(list(registry.artifacts()))


# --- the original's rule ------------------------------------------------------------------------


def test_over_the_limit_the_two_oldest_go(
    aged: list[ArtifactId], registry: Registry, cache: Path
) -> None:
    gone = registry.prune(cache_limit=1500, min_stale_time=NOW)
    assert ids_of(gone) == aged[:2]
    assert held(registry) == aged[2:]
    assert len(files(cache)) == 1
    assert usage(cache) == ((1, 1024), (1, 1024))


def test_what_was_needed_recently_stays_although_the_limit_is_passed(
    aged: list[ArtifactId], registry: Registry
) -> None:
    gone = registry.prune(cache_limit=1500, min_stale_time=12 * SECOND)
    assert ids_of(gone) == aged[:1]
    stats = registry.stats()
    assert stats.prepared_bytes == 2048


@pytest.mark.parametrize(
    ("limit", "goes"), [(3072, 0), (3071, 1), (2048, 1), (2047, 2), (1024, 2), (1023, 3), (0, 3)]
)
def test_the_limit_itself_may_be_held(
    limit: int, goes: int, aged: list[ArtifactId], registry: Registry
) -> None:
    assert ids_of(registry.prune(cache_limit=limit, min_stale_time=NOW)) == aged[:goes]


@pytest.mark.parametrize(
    ("stale", "goes"),
    [
        (5 * SECOND, 3),
        (5 * SECOND + timedelta(microseconds=1), 2),
        (10 * SECOND, 2),
        (15 * SECOND, 1),
        (15 * SECOND + timedelta(microseconds=1), 0),
    ],
)
def test_one_last_needed_exactly_so_long_ago_may_go(
    stale: timedelta, goes: int, aged: list[ArtifactId], registry: Registry
) -> None:
    assert ids_of(registry.prune(cache_limit=0, min_stale_time=stale)) == aged[:goes]


def test_a_need_saves_an_artifact(aged: list[ArtifactId], registry: Registry) -> None:
    registry.need(aged[0])
    assert ids_of(registry.prune(cache_limit=1500, min_stale_time=SECOND)) == aged[1:]


def test_a_large_one_in_the_way_stops_as_soon_as_enough_is_freed(
    clock: FrozenDateTimeFactory, registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    ids = [prepared(registry, new_id(), size).id for size in (10, 5000, 10)]
    clock.tick(SECOND)
    assert ids_of(registry.prune(cache_limit=100, min_stale_time=NOW)) == ids[:2]


def test_a_recent_one_ends_the_walk_even_before_an_older_row(
    clock: FrozenDateTimeFactory,
    aged: list[ArtifactId],
    registry: Registry,
) -> None:
    """The order is that of the last use, never that of the rows."""
    registry.need(aged[0])
    clock.tick(2 * SECOND)
    assert ids_of(registry.prune(cache_limit=0, min_stale_time=10 * SECOND)) == [aged[1]]


def test_of_those_needed_at_the_same_time_the_first_to_come_goes_first(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    ids = [prepared(registry, new_id(), 1024).id for _ in range(4)]
    assert ids_of(registry.prune(cache_limit=2048, min_stale_time=NOW)) == ids[:2]


def test_a_time_in_the_future_counts_as_recent(
    clock: FrozenDateTimeFactory, aged: list[ArtifactId], registry: Registry
) -> None:
    registry.need(aged[2])
    clock.tick(-timedelta(seconds=7))  # the clock was set back
    assert ids_of(registry.prune(cache_limit=0, min_stale_time=NOW)) == aged[:2]
    assert held(registry) == aged[2:]


def test_the_failed_and_the_preparing_are_neither_counted_nor_touched(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
) -> None:
    failed(registry, new_id())
    claim = claimed(registry, new_id())
    prepared(registry, new_id(), 1024)
    clock.tick(SECOND)
    before = snapshot(cache)
    assert registry.prune(cache_limit=1024, min_stale_time=NOW) == []
    assert snapshot(cache) == before
    assert len(registry.prune(cache_limit=0, min_stale_time=NOW)) == 1
    assert [stored["state"] for stored in rows(cache)] == ["failed", "preparing"]
    claim.release()


def test_more_than_a_batch_goes_in_one_call_oldest_first(registry: Registry, cache: Path) -> None:
    ids = fill(cache, [10] * 600, step=1)
    assert ids_of(registry.prune(cache_limit=70, min_stale_time=NOW)) == ids[:593]
    assert usage(cache) == ((7, 70), (7, 70))
    assert len(files(cache)) == 7


@pytest.mark.parametrize("number", [255, 256, 257, 512])
def test_a_whole_number_of_batches_is_no_special_case(
    number: int, registry: Registry, cache: Path
) -> None:
    ids = fill(cache, [1] * number)  # all needed at the same time
    assert ids_of(registry.prune(cache_limit=0, min_stale_time=NOW)) == ids
    assert files(cache) == {}


def test_pruning_needs_no_files(aged: list[ArtifactId], registry: Registry, cache: Path) -> None:
    for path in (cache / "artifacts").iterdir():
        path.unlink()
    assert ids_of(registry.prune(cache_limit=0, min_stale_time=NOW)) == aged
    assert rows(cache) == []


def test_a_hostile_path_is_never_unlinked(
    aged: list[ArtifactId], registry: Registry, cache: Path
) -> None:
    victim = cache / "victim"
    victim.write_text("not an artifact")
    change(cache, aged[0], path="../victim")
    change(cache, aged[1], path=str(victim))
    gone = registry.prune(cache_limit=0, min_stale_time=NOW)
    assert [artifact.path is None for artifact in gone] == [True, True, False]
    assert victim.exists()


def test_a_dry_run_says_what_would_go_and_does_nothing(
    aged: list[ArtifactId], registry: Registry, cache: Path
) -> None:
    before = snapshot(cache)
    would_go = registry.prune(cache_limit=1500, min_stale_time=NOW, dry_run=True)
    assert snapshot(cache) == before
    assert would_go == registry.prune(cache_limit=1500, min_stale_time=NOW)


def test_a_dry_run_knows_no_batches(registry: Registry, cache: Path) -> None:
    ids = fill(cache, [1] * 300, step=1)
    would_go = registry.prune(cache_limit=10, min_stale_time=NOW, dry_run=True)
    assert ids_of(would_go) == ids[:290]


# --- which limits -------------------------------------------------------------------------------


def test_without_arguments_the_stored_settings_hold(
    aged: list[ArtifactId], registry: Registry, other: Registry
) -> None:
    assert registry.prune() == []
    other.configure(cache_limit=1500, min_stale_time=12 * SECOND)
    assert ids_of(registry.prune()) == aged[:1]
    other.configure(min_stale_time=NOW)
    assert ids_of(registry.prune()) == aged[1:2]


def test_a_handles_own_limits_override_both_settings(aged: list[ArtifactId], cache: Path) -> None:
    with Registry(cache) as plain:
        plain.configure(cache_limit=0, min_stale_time=NOW)
        own = CleanupConfig(cache_limit=1500, min_stale_time=12 * SECOND)
        with Registry(cache, cleanup=own) as opened:
            assert ids_of(opened.prune()) == aged[:1]
        with Registry(cache, cleanup=CleanupConfig(cache_limit=0)) as opened:
            assert opened.prune() == []  # its min_stale_time is the default, a day
        assert ids_of(plain.prune()) == aged[1:]


def test_an_argument_overrides_that_one_limit_only(
    aged: list[ArtifactId], registry: Registry
) -> None:
    registry.configure(cache_limit=1500, min_stale_time=12 * SECOND)
    assert ids_of(registry.prune(cache_limit=0)) == aged[:1]
    assert ids_of(registry.prune(min_stale_time=NOW)) == aged[1:2]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"cache_limit": -1}, InvalidSetting),
        ({"cache_limit": 1e9}, TypeError),
        ({"cache_limit": "5GiB"}, TypeError),
        ({"min_stale_time": -SECOND}, InvalidSetting),
        ({"min_stale_time": 60}, TypeError),
    ],
)
def test_limits_that_cannot_be_are_refused(
    wrong: dict[str, object],
    error: type[Exception],
    aged: list[ArtifactId],
    registry: Registry,
    cache: Path,
) -> None:
    before = snapshot(cache)
    with pytest.raises(error):
        registry.prune(**wrong)  # type: ignore[arg-type]
    with pytest.raises(error):
        CleanupConfig(**wrong)  # type: ignore[arg-type]
    assert snapshot(cache) == before
