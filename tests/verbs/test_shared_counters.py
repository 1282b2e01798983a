"""Hits, misses and waits reach the counters of the cache; a hot need writes nothing for that."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, prepared
from support.tables import connected, fill

from registry import ArtifactId, AsyncRegistry, Registry
from registry.effects import Effect, Locked, Run, Unsure
from registry.errors import DiskFull
from registry.verbs import shared_counters
from registry.verbs.driver import drive

SECOND = timedelta(seconds=1)
KIB = 1024


def counted(cache: Path) -> tuple[int, int, int]:
    """The hits, misses and waits that a shell sees."""
    with connected(cache) as connection:
        values = dict(connection.execute("SELECT name, value FROM counters").fetchall())
    return values["hits"], values["misses"], values["coalesced"]


def writes(cache: Path) -> tuple[int, int]:
    """What any write to the database changes."""
    seen = os.stat(cache / "registry.db-wal")
    return seen.st_size, seen.st_mtime_ns


def test_needs_are_told_once_a_second_beside_a_write_that_is_made_anyway(
    clock: FrozenDateTimeFactory, cache: Path, registry: Registry, id: ArtifactId
) -> None:
    assert registry.need(id) is None
    prepared(registry, id)
    for _ in range(10):
        assert registry.need(id) is not None
    assert counted(cache) == (0, 0, 0)
    clock.tick(SECOND)
    registry.need(id)  # writes its last use, and tells what was counted before it
    assert counted(cache) == (10, 1, 0)
    for _ in range(10):
        registry.need(id)
    assert counted(cache) == (10, 1, 0)
    clock.tick(SECOND)
    registry.need(id)
    assert counted(cache) == (21, 1, 0)


def test_a_hot_need_writes_nothing(
    clock: FrozenDateTimeFactory, cache: Path, registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    registry.need(id)
    before = writes(cache)
    for _ in range(1000):
        registry.need(id)
    assert writes(cache) == before
    assert registry.stats().totals["hits"] == 1001  # a handle knows its own


def test_a_miss_is_no_write_either(
    clock: FrozenDateTimeFactory, cache: Path, registry: Registry, id: ArtifactId
) -> None:
    clock.tick(SECOND)
    before = writes(cache)
    assert registry.need(id) is None
    assert writes(cache) == before


@pytest.mark.parametrize(
    "work",
    [lambda registry: registry.close(), lambda registry: registry.maintain()],
    ids=["closing", "the pulse"],
)
def test_what_is_left_is_told_without_a_need(
    clock: FrozenDateTimeFactory,
    cache: Path,
    registry: Registry,
    id: ArtifactId,
    work: Callable[[Registry], Any],
) -> None:
    prepared(registry, id)
    registry.need(id)
    clock.tick(SECOND)
    work(registry)
    assert counted(cache) == (1, 0, 0)


def test_publishing_tells_too(
    clock: FrozenDateTimeFactory, cache: Path, registry: Registry, id: ArtifactId
) -> None:
    clock.tick(SECOND)
    registry.get_or_prepare(id, lambda: b"artifact")
    assert counted(cache) == (0, 1, 0)


def test_all_handles_are_counted_together(
    cache: Path, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    for handle in (registry, other, other):
        assert handle.need(id) is not None
    other.close()
    registry.close()
    assert counted(cache) == (3, 0, 0)


def test_a_wait_for_another_is_counted(
    cache: Path, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    waiter = threading.Thread(target=other.wait, args=(id,))
    waiter.start()
    while not other.counters.coalesced:
        waiter.join(0.001)
    claim.publish(b"artifact")
    waiter.join()
    other.close()
    assert counted(cache) == (0, 0, 1)


def test_both_twins_tell(cache: Path, registry: Registry, id: ArtifactId) -> None:
    async def ask() -> None:
        async with AsyncRegistry(cache) as twin:
            assert await twin.need(id) is not None
            assert await twin.need(id) is not None

    prepared(registry, id)
    asyncio.run(ask())
    assert counted(cache) == (2, 0, 0)
    assert registry.stats().totals["hits"] == 2


def test_a_handle_that_did_nothing_writes_nothing(cache: Path, registry: Registry) -> None:
    def refuse(effect: Effect[Any]) -> Any:
        raise AssertionError(effect)

    drive(shared_counters.tell(registry._handle, 2**60), refuse)
    drive(shared_counters.tell_the_rest(registry._handle), refuse)


@pytest.mark.parametrize(
    ("trouble", "left"),
    [(Locked("busy"), 1), (DiskFull("no room"), 1), (Unsure("an I/O error"), 0)],
    ids=["locked", "full", "unsure"],
)
def test_what_cannot_be_told_is_told_another_time_but_never_twice(
    registry: Registry, id: ArtifactId, trouble: Exception, left: int
) -> None:
    def fail(effect: Effect[Any]) -> Any:
        assert isinstance(effect, Run)
        raise trouble

    prepared(registry, id)
    registry.need(id)
    drive(shared_counters.tell(registry._handle, 2**60), fail)
    assert registry._handle.untold()["hits"] == left


# --- the limit and the working set --------------------------------------------------------------


def test_a_limit_below_what_was_needed_lately_is_told(cache: Path, registry: Registry) -> None:
    fill(cache, [KIB] * 4)  # needed in 1970
    registry.configure(cache_limit=2 * KIB)
    assert (registry.stats().over_limit, registry.stats().limit_below_working_set) == (True, False)
    for number in range(2):
        registry.need(ArtifactId.of(b"filled %d" % number))
    assert not registry.stats().limit_below_working_set  # just as much
    registry.need(ArtifactId.of(b"filled 2"))
    assert registry.stats().limit_below_working_set


def test_where_all_is_within_the_limit_the_working_set_is_not_summed(
    cache: Path, registry: Registry
) -> None:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    def cost() -> int:
        nonlocal steps
        steps = 0
        registry._database._main._opened().set_progress_handler(count, 1)
        registry.stats()
        return steps

    few = cost()
    fill(cache, [KIB] * 1000, first=2**60)
    assert cost() < few + 100
