"""Forks inside of what is open: claims, iterators, files and preparations meet the child of a fork.

By Python, whose hooks run, and by C code (uWSGI), of which Python learns nothing. Each story is
told by a process of its own: a deadlock ends it with a traceback of where it hangs.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from processes.crew import PATIENCE
from processes.traces import assert_clean, claimed, code_id
from registry import AsyncClaim, AsyncRegistry, HandleForked, PreparationFailed, Registry

HOUR = timedelta(hours=1)
PARENT, HELD = code_id("parent"), code_id("held")
# More than one page of a listing, and of the history.
MANY = 1100


def tell(story: str, cache: Path, how: str) -> None:
    """Let a process of its own tell a story of this module."""
    program = (
        "import sys; from pathlib import Path; from processes import test_forks_of_c as stories\n"
        "stories.told(*sys.argv[1:])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, story, str(cache), how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )
    assert told.returncode == 0, told.stderr[-4000:]
    assert "Traceback" not in told.stderr, told.stderr[-4000:]
    assert "never awaited" not in told.stderr, told.stderr[-4000:]
    assert_clean(cache)


def told(story: str, cache: str, how: str) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    forks: dict[str, Callable[[], int]] = {"python": os.fork, "c": ctypes.PyDLL(None).fork}
    STORIES[story](Path(cache), forks[how])


@contextmanager
def leaving(status: int = 0) -> Iterator[None]:
    """End the child here, with the status if nothing was raised."""
    try:
        yield
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended_well(child: int) -> bool:
    return os.waitpid(child, 0)[1] == 0


def refused(verb: Callable[[], Any]) -> None:
    with pytest.raises(HandleForked, match="open a new one"):
        verb()


async def refused_in_a_loop(verb: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    with pytest.raises(HandleForked, match="open a new one"):
        await verb()


# --- what blocks ----------------------------------------------------------------------------------


def leaves_a_claim(cache: Path, fork: Callable[[], int]) -> None:
    """The child leaves the block of a claim, in each way that there is."""
    with Registry(cache) as registry, Registry(cache) as other:
        for raised in (None, ValueError("the child's own"), SystemExit(0), KeyboardInterrupt()):
            claim = claimed(registry, HELD)
            child = fork()
            if child == 0:
                with leaving():
                    found = None
                    try:
                        with claim:
                            if raised is not None:
                                raise raised
                    except BaseException as error:
                        found = error
                    assert found is raised, repr(found)
            assert ended_well(child)
            assert not hasattr(other.claim(HELD), "publish"), "it is still the parent's"
            claim.release()


def ends_a_claim(cache: Path, fork: Callable[[], int]) -> None:
    with Registry(cache) as registry:
        with claimed(registry, HELD) as claim:
            child = fork()
            if child == 0:
                with leaving():
                    refused(lambda: claim.publish(b"the child's"))
                    refused(lambda: claim.fail("the child's"))
                    refused(lambda: claim.extend(HOUR))
                    refused(claim.release)
                    assert claim.id == HELD
                    assert "closed" in repr(registry)
            assert ended_well(child)
            claim.publish(b"the parent's")
        assert registry.need(HELD) is not None


def reads_on(cache: Path, fork: Callable[[], int]) -> None:
    """The child goes on with what its parent began to read."""
    with Registry(cache) as registry:
        for number in range(MANY):
            claimed(registry, code_id(number)).fail("so that there is something to list")
        registry.get_or_prepare(PARENT, lambda: b"parent")
        pages, events = registry.artifacts(), registry.events()
        next(pages), next(events)
        with registry.open_file(PARENT) as file:
            child = fork()
            if child == 0:
                with leaving():
                    assert os.pread(file.fileno(), 6, 0) == b"parent"
                    file.close()
                    refused(lambda: list(pages))
                    refused(lambda: list(events))
                    refused(lambda: registry.history(PARENT))
                    with Registry(cache) as own:
                        assert len(list(own.artifacts())) == MANY + 1
            assert ended_well(child)
            assert file.read() == b"parent"
        assert len(list(pages)) == MANY
        assert len(list(events)) > MANY


def prepares_on(cache: Path, fork: Callable[[], int]) -> None:
    """A `prepare` forks, and the child returns from it, or raises."""
    with Registry(cache) as registry:
        for raises in (False, True):
            children: list[int] = []

            def prepare(children: list[int] = children, raises: bool = raises) -> bytes:
                children.append(fork())
                if children[0] == 0 and raises:
                    raise ValueError("the child's")
                return b"made"

            try:
                made = registry.get_or_prepare(code_id(raises), prepare)
            except (HandleForked, PreparationFailed) as error:
                with leaving():
                    caught = (type(error), children)
                    assert caught == (HandleForked, [0])
            assert ended_well(children[0])
            assert made.size == 4


# --- in a loop ------------------------------------------------------------------------------------


async def claimed_in_a_loop(registry: AsyncRegistry) -> AsyncClaim:
    claim = await registry.claim(HELD)
    assert isinstance(claim, AsyncClaim)
    return claim


async def leaves_an_async_claim(cache: Path, fork: Callable[[], int]) -> None:
    async with AsyncRegistry(cache) as registry, AsyncRegistry(cache) as other:
        for raised in (
            None,
            ValueError("the child's own"),
            SystemExit(0),
            asyncio.CancelledError(),
        ):
            claim = await claimed_in_a_loop(registry)
            child = fork()
            if child == 0:
                with leaving():
                    found = None
                    try:
                        async with claim:
                            if raised is not None:
                                raise raised
                    except BaseException as error:
                        found = error
                    assert found is raised, repr(found)
            assert ended_well(child)
            assert not hasattr(await other.claim(HELD), "publish"), "it is still the parent's"
            await claim.release()


async def ends_an_async_claim(cache: Path, fork: Callable[[], int]) -> None:
    async with AsyncRegistry(cache) as registry:
        async with await claimed_in_a_loop(registry) as claim:
            child = fork()
            if child == 0:
                with leaving():
                    await refused_in_a_loop(lambda: claim.publish(b"the child's"))
                    await refused_in_a_loop(lambda: claim.fail("the child's"))
                    await refused_in_a_loop(lambda: claim.extend(HOUR))
                    await refused_in_a_loop(claim.release)
                    assert claim.id == HELD
                    assert "closed" in repr(registry)
                    await registry.close()
            assert ended_well(child)
            await claim.publish(b"the parent's")
        assert await registry.need(HELD) is not None


async def reads_on_in_a_loop(cache: Path, fork: Callable[[], int]) -> None:
    with Registry(cache) as registry:
        for number in range(MANY):
            claimed(registry, code_id(number)).fail("so that there is something to list")
    async with AsyncRegistry(cache) as registry:
        await registry.get_or_prepare(PARENT, lambda: b"parent")
        pages, events = registry.artifacts(), registry.events()
        await anext(pages), await anext(events)
        with await registry.open_file(PARENT) as file:
            child = fork()
            if child == 0:
                with leaving():
                    assert os.pread(file.fileno(), 6, 0) == b"parent"
                    for begun in (pages, events):
                        with pytest.raises(HandleForked, match="open a new one"):
                            async for _ in begun:
                                pass
                    await refused_in_a_loop(lambda: registry.history(PARENT))
                    await refused_in_a_loop(lambda: registry.open_file(PARENT))
                    refused(lambda: registry.counters)
            assert ended_well(child)
            assert file.read() == b"parent"
        assert len([it async for it in pages]) == MANY
        assert len([it async for it in events]) > MANY


async def prepares_on_in_a_loop(cache: Path, fork: Callable[[], int]) -> None:
    async with AsyncRegistry(cache) as registry:
        for raises in (False, True):
            children: list[int] = []

            async def prepare(children: list[int] = children, raises: bool = raises) -> bytes:
                children.append(fork())
                if children[0] == 0 and raises:
                    raise ValueError("the child's")
                return b"made"

            try:
                made = await registry.get_or_prepare(code_id(raises), prepare)
            except (HandleForked, PreparationFailed) as error:
                with leaving():
                    caught = (type(error), children)
                    assert caught == (HandleForked, [0])
            assert ended_well(children[0])
            assert made.size == 4


def in_a_loop(
    story: Callable[[Path, Callable[[], int]], Coroutine[Any, Any, None]],
) -> Callable[[Path, Callable[[], int]], None]:
    return lambda cache, fork: asyncio.run(story(cache, fork))


STORIES: dict[str, Callable[[Path, Callable[[], int]], None]] = {
    **{it.__name__: it for it in (leaves_a_claim, ends_a_claim, reads_on, prepares_on)},
    **{
        it.__name__: in_a_loop(it)
        for it in (
            leaves_an_async_claim,
            ends_an_async_claim,
            reads_on_in_a_loop,
            prepares_on_in_a_loop,
        )
    },
}


@pytest.mark.parametrize("how", ["python", "c"])
@pytest.mark.parametrize("story", STORIES)
def test_the_child_of_a_fork_is_refused_and_ends_nothing_of_its_parents(
    story: str, how: str, cache: Path
) -> None:
    tell(story, cache, how)
