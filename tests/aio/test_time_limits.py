"""Verbs within `asyncio.timeout`, `wait_for` and a `TaskGroup`: cancelled by them, and no more."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from registry import (
    ArtifactId,
    AsyncRegistry,
    PreparationFailed,
    Registry,
    State,
    WaitTimeout,
)

from .making import DATA, PATIENCE, claimed, failed, prepare, prepared

# Over at once: it cancels at the first await that gives way.
AT_ONCE = 0.0


async def never() -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.mark.parametrize("seconds", [AT_ONCE, 0.001, 0.02])
async def test_a_time_limit_ends_a_preparation_and_is_over(
    seconds: float, cache: Path, id: ArtifactId, rival: Registry
) -> None:
    async with AsyncRegistry(cache) as registry:
        with pytest.raises(TimeoutError) as limit:
            async with asyncio.timeout(seconds):
                await registry.get_or_prepare(id, never)
        assert not isinstance(limit.value, WaitTimeout)
        assert cancelling() == 0, "what cancelled the task has taken it back"
        assert rival.get(id) is None
        assert (await registry.get_or_prepare(id, prepare)).state is State.PREPARED


async def test_wait_for_ends_a_wait(cache: Path, id: ArtifactId, rival: Registry) -> None:
    claim = claimed(rival, id)
    async with AsyncRegistry(cache) as registry:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(registry.wait(id), 0.01)
        claim.publish(DATA)
        assert await asyncio.wait_for(registry.wait(id), PATIENCE) == rival.get(id)


async def test_a_time_limit_that_is_kept_leaves_no_trace(cache: Path, id: ArtifactId) -> None:
    async with AsyncRegistry(cache) as registry:
        async with asyncio.timeout(PATIENCE) as limit:
            await registry.get_or_prepare(id, prepare)
        assert not limit.expired()
        assert cancelling() == 0


async def test_the_verb_s_own_time_out_is_no_cancellation(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    claimed(rival, id)
    async with AsyncRegistry(cache) as registry:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(WaitTimeout):
                await registry.wait(id, timeout=timedelta(0))
        assert cancelling() == 0


async def test_who_is_cancelled_by_another_besides_is_told_of_that(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    async def cancelled_again() -> bytes:
        try:
            limit.reschedule(0)
            return await never()
        except asyncio.CancelledError:
            task.cancel()  # which the verb meets while it gives its claim back
            raise

    async def within_limit() -> None:
        async with limit:
            await registry.get_or_prepare(id, cancelled_again)

    async with AsyncRegistry(cache) as registry:
        limit = asyncio.timeout(None)
        task = asyncio.create_task(within_limit())
        await asyncio.wait((task,))
        assert limit.expired()
        assert task.cancelled(), "a TimeoutError would hide it"
        assert rival.get(id) is None


async def test_one_failure_in_a_group_cancels_the_others_and_frees_their_claims(
    cache: Path, new_id: Callable[[], ArtifactId], rival: Registry
) -> None:
    ids = [new_id() for _ in range(5)]
    all_begun = asyncio.Barrier(5)

    async def hang() -> bytes:
        await all_begun.wait()
        return await never()

    async def go_wrong() -> bytes:
        await all_begun.wait()
        raise ValueError("a bad module")

    async def all_of(registry: AsyncRegistry) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(registry.get_or_prepare(ids[0], go_wrong))
            for other in ids[1:]:
                tasks.create_task(registry.get_or_prepare(other, hang))

    async with AsyncRegistry(cache) as registry:
        with pytest.raises(ExceptionGroup) as group:
            await all_of(registry)
        assert [type(error) for error in group.value.exceptions] == [PreparationFailed]
        assert [artifact.id for artifact in rival.artifacts()] == [ids[0]]
        assert (await registry.get_or_prepare(ids[1], prepare)).state is State.PREPARED


async def test_a_group_of_verbs_gets_all_its_answers(
    cache: Path, new_id: Callable[[], ArtifactId], rival: Registry
) -> None:
    known, bad, new = new_id(), new_id(), new_id()
    prepared(rival, known)
    failed(rival, bad)
    async with AsyncRegistry(cache) as registry, asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(registry.get_or_prepare(known, never)),
            tasks.create_task(registry.get_or_prepare(new, prepare)),
            tasks.create_task(registry.wait(bad)),
            tasks.create_task(registry.need(known)),
        ]
    states = [task.result().state for task in asked if task.result()]
    assert states == [State.PREPARED, State.PREPARED, State.FAILED, State.PREPARED]


async def test_a_cancellation_is_raised_even_where_the_claim_cannot_be_given_back(
    cache: Path, id: ArtifactId
) -> None:
    begun = asyncio.Event()

    async def spoil() -> bytes:
        with closing(sqlite3.connect(cache / "registry.db")) as database:
            database.execute("ALTER TABLE artifact RENAME TO stolen")
        begun.set()
        return await never()

    async with AsyncRegistry(cache) as registry:
        task = asyncio.create_task(registry.get_or_prepare(id, spoil))
        await begun.wait()
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        with closing(sqlite3.connect(cache / "registry.db")) as database:
            database.execute("ALTER TABLE stolen RENAME TO artifact")
        assert not await registry.retry(id), "the next verb gives the claim back"
        assert await registry.get(id) is None


async def test_waiting_goes_on_where_a_test_stands_the_clocks_still(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    """The clock of the loop too: what stands still there must not keep us from looking."""
    async with AsyncRegistry(cache) as registry:
        claim, loop = claimed(rival, id), asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        rescue = threading.Timer(10, loop.call_soon_threadsafe, (task.cancel,))
        rescue.start()
        with freeze_time("2026-01-01 12:00:00"):
            with pytest.raises(WaitTimeout):
                await registry.wait(id, timeout=timedelta(milliseconds=20))
            waiters = [asyncio.create_task(registry.get_or_prepare(id, never)) for _ in range(3)]
            threading.Timer(0.05, claim.publish, (DATA,)).start()
            assert [(await waiter).size for waiter in waiters] == [len(DATA)] * 3
        rescue.cancel()
