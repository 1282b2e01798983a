"""Several loops, several handles, sync and async ones: one cache, and each loop its own handle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from registry import ArtifactId, AsyncRegistry, Registry, State, WrongLoop

from .making import DATA, PATIENCE, held, prepare, until
from .verbs import VERBS

# What is refused by nothing else than the wrong loop.
OPEN_AND_CLOSE: dict[str, Callable[[AsyncRegistry, ArtifactId], Awaitable[Any]]] = {
    "open": lambda r, code: r.open(),
    "close": lambda r, code: r.close(),
}
ALL = VERBS | OPEN_AND_CLOSE


async def in_another_loop(work: Callable[[], Awaitable[Any]]) -> Any:
    """Await something in a loop of another thread."""

    async def main() -> Any:
        return await work()

    return await asyncio.to_thread(lambda: asyncio.run(main()))


@pytest.mark.parametrize("verb", ALL.values(), ids=ALL)
async def test_a_verb_refuses_a_loop_that_did_not_open_its_handle(
    verb: Callable[[AsyncRegistry, ArtifactId], Awaitable[Any]], cache: Path, id: ArtifactId
) -> None:
    async with AsyncRegistry(cache) as registry:
        await registry.get_or_prepare(id, prepare)
        hot = await registry.need(id)
        with pytest.raises(WrongLoop, match="open one in each loop"):
            await in_another_loop(lambda: verb(registry, id))
        assert await registry.get(id) == hot, "and it has done nothing"


async def test_a_claim_refuses_another_loop_and_is_still_held(cache: Path, id: ArtifactId) -> None:
    async with AsyncRegistry(cache) as registry:
        claim = await held(registry, id)
        for verb in (
            lambda: claim.publish(DATA),
            lambda: claim.fail("it went wrong"),
            lambda: claim.extend(timedelta(1)),
            claim.release,
        ):
            with pytest.raises(WrongLoop):
                await in_another_loop(verb)
        assert claim.artifact.state is State.PREPARING, "a look needs no loop"
        assert (await claim.publish(DATA)).state is State.PREPARED


def test_a_handle_is_opened_anew_in_each_loop_that_it_comes_to(cache: Path, id: ArtifactId) -> None:
    registry = AsyncRegistry(cache)

    async def use() -> Any:
        async with registry:
            return await registry.get_or_prepare(id, prepare)

    assert asyncio.run(use()).path == asyncio.run(use()).path


def test_loops_in_two_threads_prepare_once(
    cache: Path, new_id: Callable[[], ArtifactId], rival: Registry
) -> None:
    ids = [new_id() for _ in range(10)]
    prepared: list[int] = []
    together = threading.Barrier(2)

    async def main() -> set[Any]:
        async def count(number: int) -> bytes:
            prepared.append(number)
            return await prepare()

        async with AsyncRegistry(cache) as registry:
            together.wait(PATIENCE)
            asking = (
                registry.get_or_prepare(each, lambda number=number: count(number))
                for number, each in enumerate(ids)
                for _ in range(10)
            )
            return {artifact.path for artifact in await asyncio.gather(*asking)}

    with ThreadPoolExecutor(2) as pool:
        loops = [pool.submit(asyncio.run, main()) for _ in range(2)]
        first, second = (loop.result(PATIENCE) for loop in loops)
    assert first == second
    assert len(first) == len(ids)
    assert sorted(prepared) == list(range(10))
    assert rival.check(checksums=True).ok


async def test_an_async_handle_waits_for_a_sync_one(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def prepare_slowly() -> bytes:
        begun.set()
        assert may_end.wait(PATIENCE)
        return b"the sync one's"

    async with AsyncRegistry(cache) as registry:
        preparing = asyncio.create_task(asyncio.to_thread(rival.get_or_prepare, id, prepare_slowly))
        await until(begun.is_set)
        waiting = asyncio.create_task(registry.get_or_prepare(id, prepare))
        await until(registry._handle.waiting.waiting)
        may_end.set()
        assert (await waiting).path == (await preparing).path


async def test_a_sync_handle_waits_for_an_async_one(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def prepare_slowly() -> bytes:
        begun.set()
        await may_end.wait()
        return b"the async one's"

    async with AsyncRegistry(cache) as registry:
        preparing = asyncio.create_task(registry.get_or_prepare(id, prepare_slowly))
        await begun.wait()
        waiting = asyncio.create_task(asyncio.to_thread(rival.get_or_prepare, id, lambda: DATA))
        await until(rival._handle.waiting.waiting)
        may_end.set()
        assert (await waiting).path == (await preparing).path


async def test_what_one_handle_changes_the_other_sees(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    async with AsyncRegistry(cache) as registry:
        artifact = await registry.get_or_prepare(id, prepare)
        seen = rival.need(id)
        assert seen is not None
        assert seen.path == artifact.path
        assert rival.remove(id)
        assert await registry.need(id) is None, "although it was hot here"
        again = await registry.get_or_prepare(id, prepare)
        assert again.path != artifact.path
        assert await registry.remove(id)
        assert rival.need(id) is None
        assert {host.alive for host in await registry.hosts()} == {True}
        assert len(rival.hosts()) == 2
