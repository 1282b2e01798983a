"""Publishing keeps the cache within its limits, in the same call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import prepared
from support.tables import files

from registry import ArtifactId, CleanupConfig, Registry
from registry.world import clock as world_clock

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


def held(registry: Registry) -> list[ArtifactId]:
    return [artifact.id for artifact in registry.artifacts()]


def test_publishing_over_the_limit_prunes_in_the_same_call(
    clock: FrozenDateTimeFactory,
    aged: list[ArtifactId],
    registry: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
) -> None:
    registry.configure(cache_limit=3072, min_stale_time=5 * SECOND)
    last = prepared(registry, new_id(), 1024)
    assert held(registry) == [last.id, *reversed(aged[1:])]
    assert len(files(cache)) == 3


def test_publishing_never_prunes_what_it_has_just_published(
    clock: FrozenDateTimeFactory, registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    registry.configure(cache_limit=0, min_stale_time=NOW, hard_limit=0)
    for _ in range(3):
        clock.tick(SECOND)
        last = prepared(registry, new_id(), 1024)
        assert held(registry) == [last.id]
        assert last.path is not None
        assert last.path.exists()


def test_publishing_does_not_prune_within_the_limit(
    aged: list[ArtifactId], registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    registry.configure(cache_limit=4096, min_stale_time=NOW)
    prepared(registry, new_id(), 1024)
    assert len(held(registry)) == 4


def test_a_hard_limit_bounds_the_cache_even_where_all_is_recent(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    registry.configure(cache_limit=1024, hard_limit=2048)
    ids = [prepared(registry, new_id(), 1024).id for _ in range(4)]
    assert held(registry) == [ids[3], ids[2]]
    assert registry.stats().over_limit


def test_without_a_hard_limit_what_is_recent_is_kept(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    registry.configure(cache_limit=1024)
    for _ in range(4):
        prepared(registry, new_id(), 1024)
    stats = registry.stats()
    assert (stats.prepared_count, stats.over_limit) == (4, True)


def test_being_over_the_limit_is_said_once_an_hour(
    registry: Registry,
    new_id: Callable[[], ArtifactId],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = 1000.0
    monkeypatch.setattr(world_clock, "elapsed", lambda: seconds)
    registry.configure(cache_limit=1024)
    with caplog.at_level(logging.WARNING, "registry"):
        for warnings_so_far, later in ((0, 0), (1, 10), (1, 3590), (2, 10), (2, 3599)):
            seconds += later
            prepared(registry, new_id(), 1024)
            assert len(caplog.records) == warnings_so_far
    assert "over its limit" in caplog.text


def test_over_limit_is_said_by_the_limits_of_the_handle(
    aged: list[ArtifactId], registry: Registry, cache: Path
) -> None:
    with Registry(cache, cleanup=CleanupConfig(cache_limit=3071)) as small:
        assert small.stats().over_limit
        assert small.stats().cache_limit == 3071
    assert not registry.stats().over_limit
    registry.configure(cache_limit=3072)
    assert not registry.stats().over_limit
    registry.configure(cache_limit=3071)
    assert registry.stats().over_limit


def test_pruning_by_hand_obeys_the_hard_limit_too(
    aged: list[ArtifactId], registry: Registry
) -> None:
    registry.configure(hard_limit=1500)
    assert [gone.id for gone in registry.prune(dry_run=True)] == aged[:2]
    assert [gone.id for gone in registry.prune()] == aged[:2]
    assert held(registry) == aged[2:]
