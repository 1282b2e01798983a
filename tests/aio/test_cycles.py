"""Preparations of tasks and threads that need each other: told at once."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from registry import (
    ArtifactId,
    AsyncRegistry,
    PreparationFailed,
    RecursivePreparation,
    Registry,
)

IDS = [ArtifactId.of(b"%d" % number) for number in range(2)]
PATIENCE = 60.0


def cause_of(error: BaseException | None) -> BaseException | None:
    """What a failure began with."""
    while isinstance(error, PreparationFailed) and error.__cause__ is not None:
        error = error.__cause__
    return error


async def test_tasks_that_wait_for_each_other_are_told_at_once(cache: Path) -> None:
    begun = asyncio.Barrier(2)
    async with AsyncRegistry(cache) as first, AsyncRegistry(cache) as second:

        async def ask(registry: AsyncRegistry, own: ArtifactId, needed: ArtifactId) -> None:
            async def prepare() -> bytes:
                await begun.wait()
                await registry.get_or_prepare(needed, lambda: b"never")
                return b"made"

            await registry.get_or_prepare(own, prepare)

        asked = [ask(first, IDS[0], IDS[1]), ask(second, IDS[1], IDS[0])]
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert any(isinstance(cause_of(error), RecursivePreparation) for error in errors), errors
        assert (await first.check()).ok


async def test_so_are_a_task_and_a_thread(cache: Path) -> None:
    claimed, waits = threading.Event(), threading.Event()
    with Registry(cache) as sync:

        def in_thread() -> bytes:
            claimed.set()
            assert waits.wait(PATIENCE)
            sync.get_or_prepare(IDS[1], lambda: b"never")
            return b"made"

        async def in_task() -> bytes:
            waits.set()
            await registry.get_or_prepare(IDS[0], lambda: b"never")
            return b"made"

        async with AsyncRegistry(cache) as registry:
            thread = asyncio.create_task(asyncio.to_thread(sync.get_or_prepare, IDS[0], in_thread))
            assert await asyncio.to_thread(claimed.wait, PATIENCE)
            errors = await asyncio.gather(
                thread, registry.get_or_prepare(IDS[1], in_task), return_exceptions=True
            )
        causes = [cause_of(error) for error in errors if isinstance(error, BaseException)]
        assert any(isinstance(cause, RecursivePreparation) for cause in causes), causes
