"""The one handle of a process on a cache: the same for all who ask, another one after a fork."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import (
    ArtifactId,
    AsyncRegistry,
    CacheDirectoryRefused,
    Registry,
    async_handle,
    handle,
)

ID = ArtifactId.of(b"code")


def in_a_fork(work: Callable[[], object]) -> str:
    """Answer what the work says in the child of a fork."""
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = repr(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(theirs, said.encode())
        os._exit(0)
    os.close(theirs)
    with open(mine, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_process_has_one_handle_on_a_cache(cache: Path, tmp_path: Path) -> None:
    first = handle(cache)
    assert isinstance(first, Registry)
    assert handle(str(cache)) is first
    assert handle(tmp_path / "other") is not first


def test_threads_that_ask_at_once_get_the_same_one(cache: Path) -> None:
    start, found = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        found.append(handle(cache))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in found}) == 1
    assert len(found[0].hosts()) == 1


def test_without_a_name_it_is_the_cache_of_the_command(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_CACHE", str(cache))
    assert handle() is handle(cache)
    monkeypatch.setenv("REGISTRY_CACHE", str(tmp_path / "other"))
    assert handle().cache_dir == tmp_path / "other"


def test_the_child_of_a_fork_gets_its_own(cache: Path) -> None:
    ours = handle(cache)
    ours.put(ID, b"from the parent")
    assert in_a_fork(lambda: (handle(cache).read(ID), handle(cache) is ours)) == repr(
        (b"from the parent", False)
    )
    assert handle(cache) is ours
    assert ours.read(ID) == b"from the parent"


def test_a_child_that_is_forked_while_another_thread_opens_waits_for_no_lock(cache: Path) -> None:
    from registry import process_handles

    with process_handles._opening.setdefault((os.getpid(), cache), threading.RLock()):
        assert in_a_fork(lambda: handle(cache).read(ID)) == "None"


def test_a_handle_that_was_closed_is_replaced(cache: Path) -> None:
    first = handle(cache)
    first.close()
    assert handle(cache) is not first
    assert handle(cache).read(ID) is None


def test_each_event_loop_has_its_own(cache: Path) -> None:
    async def ask() -> tuple[object, bytes | None]:
        found = await async_handle(cache)
        assert await async_handle(cache) is found
        await found.put(ID, b"data")
        return found, await found.read(ID)

    (first, data), (second, again) = asyncio.run(ask()), asyncio.run(ask())
    assert first is not second
    assert data == again == b"data"


async def stats_of(cache: Path, *, closes: bool = False) -> int:
    own = await async_handle(cache)
    count = (await own.stats()).prepared_count
    if closes:
        await own.close()
    return count


def test_a_loop_may_follow_one_whose_cache_was_refused(cache: Path) -> None:
    with pytest.raises(CacheDirectoryRefused):
        asyncio.run(stats_of(Path("/proc/nothing")))
    assert asyncio.run(stats_of(cache)) == 0


def test_a_loop_may_follow_one_that_closed_its_handle(cache: Path) -> None:
    assert asyncio.run(stats_of(cache, closes=True)) == 0
    assert asyncio.run(stats_of(cache)) == 0


def test_threads_that_each_run_many_loops_do_not_meet(cache: Path) -> None:
    failed: list[BaseException] = []

    def run_loops() -> None:
        try:
            for _ in range(30):
                asyncio.run(stats_of(cache))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run_loops) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with Registry(cache) as registry:
        assert registry.check().ok


def test_handles_of_ended_loops_are_closed_beside_the_loop(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closers: list[int] = []

    class Watched(AsyncRegistry):
        def _at_exit(self) -> None:
            closers.append(threading.get_ident())
            super()._at_exit()

    monkeypatch.setattr("registry.aio.AsyncRegistry", Watched)
    asyncio.run(stats_of(cache))
    asyncio.run(stats_of(cache))
    assert closers
    assert threading.get_ident() not in closers
