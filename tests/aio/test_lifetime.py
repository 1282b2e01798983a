"""A handle from its opening to its close: what it refuses before and after, and what it leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from registry import (
    ArtifactId,
    AsyncRegistry,
    CacheDirectoryRefused,
    HandleClosed,
    Registry,
    RegistryError,
    State,
)

from .blows import Blow, strike
from .making import DATA, PATIENCE, files, held, neglect, prepare, until
from .verbs import VERBS


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def descriptors(cache: Path) -> list[str]:
    """Which files of a cache this process has open."""
    folder = "/proc/self/fd"
    links = (os.path.join(folder, fd) for fd in os.listdir(folder))
    seen = [os.readlink(link) for link in links if os.path.lexists(link)]
    return sorted(path for path in seen if path.startswith(str(cache)))


def locks(cache: Path) -> list[str]:
    """Which of its hosts' locks this process has open; all in the folder, were they let go or not.

    A file that was locked before it was named is known to /proc by a number, and told apart so.
    """
    return [path for path in descriptors(cache) if path.startswith(f"{cache}/hosts/")]


# --- before and after ---------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
async def test_a_verb_refuses_a_handle_that_is_not_open_yet(
    verb: Callable[[AsyncRegistry, ArtifactId], Awaitable[Any]], cache: Path, id: ArtifactId
) -> None:
    with pytest.raises(HandleClosed):
        await verb(AsyncRegistry(cache), id)


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
async def test_a_verb_refuses_a_handle_that_is_closed(
    verb: Callable[[AsyncRegistry, ArtifactId], Awaitable[Any]], cache: Path, id: ArtifactId
) -> None:
    async with AsyncRegistry(cache) as registry:
        await registry.get_or_prepare(id, prepare)
        await registry.need(id)
        assert await registry.need(id), "which is hot now"
    with pytest.raises(HandleClosed):
        await verb(registry, id)
    await registry.close()


async def test_a_claim_outlives_its_handle_only_to_be_looked_at(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    async with AsyncRegistry(cache) as registry:
        claim = await held(registry, id)
    assert rival.get(id) is None, "closing gave it back, without a failure"
    assert claim.artifact.id == id
    for verb in (lambda: claim.publish(DATA), claim.release, lambda: claim.fail("late")):
        with pytest.raises(HandleClosed):
            await verb()


async def test_an_iteration_ends_with_its_handle(
    cache: Path, new_id: Callable[[], ArtifactId]
) -> None:
    async with AsyncRegistry(cache) as registry:
        await registry.get_or_prepare(new_id(), prepare)
        iteration = registry.artifacts()
        assert (await anext(iteration)).state is State.PREPARED
    with pytest.raises(HandleClosed):
        await anext(iteration)


async def test_a_closed_handle_may_be_opened_again(cache: Path, id: ArtifactId) -> None:
    registry = AsyncRegistry(cache)
    for _ in range(3):
        async with registry:
            assert (await registry.get_or_prepare(id, prepare)).state is State.PREPARED
            assert len(await registry.hosts()) == 1


async def test_the_directory_is_the_one_that_was_meant(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cache.parent)
    registry = AsyncRegistry(cache.name)
    monkeypatch.chdir("/")
    async with registry:
        assert registry.cache_dir == cache
        assert len(await registry.hosts()) == 1


async def test_it_names_the_directory_as_the_sync_one_does(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    async with AsyncRegistry(tmp_path / "link" / "cache") as opened:
        assert opened.cache_dir == tmp_path / "real" / "cache"
        with Registry(opened.cache_dir) as registry:
            assert registry.cache_dir == opened.cache_dir


def test_what_is_no_directory_is_refused_at_once() -> None:
    for wrong in (None, 1, b"cache"):
        with pytest.raises(TypeError):
            AsyncRegistry(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        AsyncRegistry("cache", cleanup=10)  # type: ignore[arg-type]


async def test_a_directory_that_is_refused_leaves_nothing_behind(cache: Path) -> None:
    os.chmod(cache, 0o777)
    before = threads()
    with pytest.raises(CacheDirectoryRefused):
        await AsyncRegistry(cache).open()
    await gone(threads() - before)
    assert descriptors(cache) == []


# --- at the same time ---------------------------------------------------------------------------


async def test_opening_twice_at_once_opens_once(cache: Path) -> None:
    registry = AsyncRegistry(cache)
    assert await asyncio.gather(*(registry.open() for _ in range(5))) == [registry] * 5
    assert len(await registry.hosts()) == 1
    await registry.close()
    assert descriptors(cache) == []


async def test_closing_twice_at_once_closes_once(cache: Path) -> None:
    registry = await AsyncRegistry(cache).open()
    await registry.stats()
    await asyncio.gather(*(registry.close() for _ in range(5)))
    assert descriptors(cache) == []


async def test_closing_ends_what_other_tasks_are_in_the_middle_of(
    cache: Path, new_id: Callable[[], ArtifactId], rival: Registry
) -> None:
    async def hang() -> bytes:
        begun.append(1)
        await let_go.wait()
        return DATA

    begun: list[int] = []
    let_go = asyncio.Event()
    joined, claims = new_id(), [new_id() for _ in range(20)]
    registry = await AsyncRegistry(cache).open()
    tasks = [asyncio.create_task(registry.get_or_prepare(code, hang)) for code in (joined, *claims)]
    await until(lambda: len(begun) == len(tasks))
    tasks += [asyncio.create_task(registry.wait(joined)) for _ in range(5)]
    await until(lambda: len(registry._handle.waiting.waiting()) == 5)
    busy = [asyncio.create_task(registry.get_or_prepare(new_id(), prepare)) for _ in range(20)]
    await asyncio.sleep(0)
    await registry.close()
    let_go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {HandleClosed}
    for outcome in await asyncio.gather(*busy, return_exceptions=True):
        assert isinstance(outcome, HandleClosed) or outcome.state is State.PREPARED
    assert list(rival.artifacts(state=State.PREPARING)) == []
    assert list(rival.artifacts(state=State.FAILED)) == []
    assert rival.check(repair=True) is not None
    assert rival.check(checksums=True).ok


# --- cancelled ----------------------------------------------------------------------------------


@pytest.mark.parametrize("blow", Blow, ids=lambda blow: blow.name.lower())
async def test_an_opening_that_is_cancelled_leaves_nothing_open(
    blow: Blow, cache: Path, rival: Registry
) -> None:
    before, others = threads(), locks(cache)
    for at in count(1):
        registry = AsyncRegistry(cache)
        fell, _ = await strike(registry.open(), at, blow)
        if not fell:
            break
        await gone(threads() - before)
        with pytest.raises(HandleClosed):
            await registry.stats()
        assert [host for host in rival.hosts() if host.alive and host.id != me(rival)] == []
        assert locks(cache) == others
        async with registry:
            assert len(await registry.hosts()) == 2, "and opening it again reaps and works"
    await registry.close()
    assert at > 3


@pytest.mark.parametrize("blow", Blow, ids=lambda blow: blow.name.lower())
async def test_a_close_that_is_cancelled_closes_all_the_same(
    blow: Blow, cache: Path, new_id: Callable[[], ArtifactId], rival: Registry
) -> None:
    before = threads()
    for at in count(1):
        registry = await AsyncRegistry(cache).open()
        neglect(cache)
        claims = [await held(registry, new_id()) for _ in range(3)]
        fell, _ = await strike(registry.close(), at, blow)
        with pytest.raises(HandleClosed):
            await registry.stats()
        assert [rival.get(claim.id) for claim in claims] == [None] * 3, "given back, not failed"
        assert [host.id for host in rival.hosts()] == [me(rival)]
        await gone(threads() - before)
        if not fell:
            break
    assert at > 5


def me(rival: Registry) -> str:
    return rival._handle.host_id


# --- leaks --------------------------------------------------------------------------------------


async def gone(started: set[threading.Thread]) -> None:
    """Threads that were told to end do end."""
    for thread in started:
        if not thread.name.startswith("asyncio_"):  # the loop's own, for `asyncio.to_thread`
            await asyncio.to_thread(thread.join, PATIENCE)
            assert not thread.is_alive(), f"{thread.name} is left"


async def test_a_handle_leaves_no_thread_no_file_and_no_row(
    cache: Path, new_id: Callable[[], ArtifactId]
) -> None:
    before = threads()
    for _ in range(3):
        async with AsyncRegistry(cache) as registry:
            ids = [new_id() for _ in range(8)]
            await asyncio.gather(*(registry.get_or_prepare(code, prepare) for code in ids))
            for code in ids:
                (await registry.open_file(code)).close()
            await registry.remove(ids[0])  # on the connection that syncs
            assert len(descriptors(cache)) > 3
            assert threads() - before
    assert descriptors(cache) == []
    await gone(threads() - before)
    with Registry(cache) as after:
        assert len(after.hosts()) == 1
        assert after.check(checksums=True).ok


async def test_a_handle_that_is_dropped_gives_its_claims_back_and_leaves_no_thread(
    cache: Path, id: ArtifactId, new_id: Callable[[], ArtifactId], rival: Registry
) -> None:
    before, others = threads(), locks(cache)
    registry = await AsyncRegistry(cache).open()
    claim = await held(registry, id)
    done = new_id()
    await registry.get_or_prepare(done, prepare)
    await registry.remove(done)  # on the connection that syncs
    assert locks(cache) != others
    del registry, claim

    def is_forgotten() -> bool:
        gc.collect()  # each time, for a thread that worked for it may let go last
        return rival.get(id) is None and locks(cache) == others

    await until(is_forgotten)
    assert len(rival.hosts()) == 1
    await gone(threads() - before)


def test_a_handle_that_is_dropped_after_its_loop_leaves_no_thread_and_no_file(cache: Path) -> None:
    before = threads()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    registry = loop.run_until_complete(AsyncRegistry(cache).open())
    loop.close()
    del registry

    def is_forgotten() -> bool:
        gc.collect()
        return descriptors(cache) == []

    asyncio.run(until(is_forgotten))
    asyncio.run(gone(threads() - before))


def test_a_loop_that_ends_in_the_middle_of_a_verb_only_orphans_its_claim(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    """No `asyncio.run`, nobody cancels: the tasks are simply never resumed."""
    begun = []

    async def hang() -> bytes:
        begun.append(1)
        await asyncio.Event().wait()
        raise AssertionError

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed, but is pending"
    registry = loop.run_until_complete(AsyncRegistry(cache).open())
    task = loop.create_task(registry.get_or_prepare(id, hang))
    loop.run_until_complete(until(lambda: begun))
    loop.close()
    del task
    gc.collect()  # a coroutine that objects to its end is an error here
    holder = rival.get(id)
    assert holder is not None
    assert holder.state is State.PREPARING
    registry._at_exit()
    assert rival.get(id) is None
    assert files(cache) == set()


async def test_errors_are_all_registry_errors_when_a_handle_closes_under_its_verbs(
    cache: Path, new_id: Callable[[], ArtifactId], rival: Registry
) -> None:
    """Closed at each turn of the loop that ten verbs take, in turn."""
    for turns in range(0, 60, 3):
        registry = await AsyncRegistry(cache).open()
        ids = [new_id() for _ in range(5)]
        asked = [asyncio.create_task(registry.get_or_prepare(code, prepare)) for code in ids]
        asked += [asyncio.create_task(registry.need(code)) for code in ids]
        for _ in range(turns):
            await asyncio.sleep(0)
        await registry.close()
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            assert not isinstance(outcome, BaseException) or isinstance(outcome, RegistryError)
        assert list(rival.artifacts(state=State.PREPARING)) == []
        assert list(rival.artifacts(state=State.FAILED)) == []
    rival.check(repair=True)
    assert rival.check(checksums=True).ok


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


async def test_where_no_thread_can_be_started_opening_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refuse_threads(patch)
        with pytest.raises(RegistryError, match=r"limit on processes"):
            await AsyncRegistry(cache).open()
    assert descriptors(cache) == []


async def test_where_no_thread_is_left_an_open_handle_goes_on_with_those_it_has(
    cache: Path, id: ArtifactId, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def coroutine() -> bytes:
        return DATA

    def never() -> bytes:
        raise AssertionError("it was refused, and must not be called later")

    async with AsyncRegistry(cache) as registry:
        with monkeypatch.context() as patch:
            refuse_threads(patch)
            with pytest.raises(RegistryError, match=r"limit on processes"):
                await registry.get_or_prepare(id, never)
            await registry.get_or_prepare(id, coroutine)
        await asyncio.to_thread(int)  # it takes what is queued before
        assert (await registry.need(id)) is not None
