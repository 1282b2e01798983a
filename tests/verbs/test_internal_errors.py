"""No error of the inside leaves a verb, an opening or the command, whichever effect it comes from.

Each internal error is thrown at each effect of each verb, through the drivers themselves.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from io import IOBase
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aio.verbs import VERBS as ASYNC_VERBS
from support.between import Perform, between
from support.making import prepared
from support.templates import copied_cache, made_cache  # noqa: F401

from registry import (
    ArtifactId,
    AsyncRegistry,
    Claim,
    PreparationFailed,
    Registry,
    RegistryError,
)
from registry.cli.entry import run
from registry.effects import INTERRUPTIBLE, Effect, Locked, NotOpened, Sleep, Unsure

NOW = timedelta(0)
MOST = 20  # effects; more of them are repetitions
NUMBERS = [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EROFS, errno.EIO, errno.ENOSPC]
REFUSED = [partial(OSError, number, os.strerror(number)) for number in NUMBERS]
INTERNAL = [Locked, Unsure, NotOpened, RecursionError, sqlite3.DatabaseError, *REFUSED]
Thrown = Callable[[str], Exception]


def publish(registry: Registry, id: ArtifactId) -> None:
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        claim.publish(b"artifact")


def fail(registry: Registry, id: ArtifactId) -> None:
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        claim.fail("it went wrong")


VERBS: dict[str, Callable[[Registry, ArtifactId], Any]] = {
    "publish": publish,
    "fail": fail,
    "get": Registry.get,
    "need": Registry.need,
    "wait": Registry.wait,
    "get_or_prepare": lambda r, one: r.get_or_prepare(one, lambda: b"artifact"),
    "open_file": lambda r, one: r.open_file(one).close(),
    "artifacts": lambda r, _: list(r.artifacts()),
    "history": Registry.history,
    "find": lambda r, one: r.find(one.code_hash),
    "remove": Registry.remove,
    "retry": Registry.retry,
    "prune": lambda r, _: r.prune(cache_limit=0, min_stale_time=NOW),
    "stats": lambda r, _: r.stats(),
    "check": lambda r, _: r.check(repair=True, checksums=True),
    "hosts": lambda r, _: r.hosts(),
    "diagnose": lambda r, _: r.diagnose(),
    "measure": lambda r, _: r.measure(),
    "configure": lambda r, _: r.configure(cache_limit=10**9),
    "maintain": lambda r, _: r.maintain(),
}


@pytest.mark.parametrize("there", [True, False], ids=["prepared", "unknown"])
@pytest.mark.parametrize("verb", VERBS)
def test_no_internal_error_leaves_a_verb(
    registry: Registry, new_id: Callable[[], ArtifactId], verb: str, there: bool
) -> None:
    for thrown in INTERNAL:
        for number in range(MOST):
            one = new_id()
            if there:
                prepared(registry, one)
            work = partial(VERBS[verb], registry, one)
            if not _throws(registry, number, thrown, work):
                break
    registry.check(repair=True)
    assert registry.check(checksums=True).ok


def _throws(registry: Registry, at: int, thrown: Thrown, work: Callable[[], Any]) -> bool:
    """Let one effect of a verb raise; whether there was such an effect."""
    was_there = False

    def act(number: int, effect: Effect[Any], perform: Perform) -> Any:
        nonlocal was_there
        was_there = was_there or number == at
        if number == at and not isinstance(effect, INTERRUPTIBLE):
            raise thrown("from the inside")
        return perform(effect)

    # Anything else fails the test.
    with between(registry, act), suppress(RegistryError):
        work()
    return was_there


@pytest.fixture
def effects_that_raise(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, Thrown], None]]:
    """Let the effect of that number raise, in whichever sync handle."""
    perform = Registry._perform

    def arrange(at: int, thrown: Thrown) -> None:
        numbers = count()

        def performing(self: Registry, effect: Effect[Any]) -> Any:
            if next(numbers) == at:
                raise thrown("from the inside")
            return perform(self, effect)

        monkeypatch.setattr(Registry, "_perform", performing)

    yield arrange
    monkeypatch.setattr(Registry, "_perform", perform)


@pytest.mark.parametrize("thrown", INTERNAL)
def test_no_internal_error_leaves_opening_and_closing(
    cache: Path, effects_that_raise: Callable[[int, Thrown], None], thrown: Thrown
) -> None:
    for number in range(30):
        effects_that_raise(number, thrown)
        with suppress(RegistryError):
            Registry(cache).close()


@pytest.mark.parametrize("thrown", INTERNAL)
def test_no_internal_error_leaves_the_command(
    capsys: pytest.CaptureFixture[str],
    cache: Path,
    effects_that_raise: Callable[[int, Thrown], None],
    thrown: Thrown,
) -> None:
    for number in range(30):
        effects_that_raise(number, thrown)
        assert run(["stats", "--cache", str(cache)]) in (0, 1, 3)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("thrown", INTERNAL)
def test_no_internal_error_leaves_an_async_verb(
    cache: Path, new_id: Callable[[], ArtifactId], thrown: Thrown
) -> None:
    async def all_verbs() -> None:
        async with AsyncRegistry(cache) as registry:
            for verb in ASYNC_VERBS.values():
                for number in range(8):
                    one = new_id()
                    await registry.get_or_prepare(one, lambda: b"artifact")
                    await _async_throws(registry, number, thrown, partial(verb, registry, one))

    asyncio.run(all_verbs())


async def _async_throws(
    registry: AsyncRegistry, at: int, thrown: Thrown, work: Callable[[], Any]
) -> None:
    perform, numbers = registry._perform, count()

    async def performing(effect: Effect[Any]) -> Any:
        if next(numbers) == at:
            raise thrown("from the inside")
        return await perform(effect)

    registry._perform = performing  # type: ignore[method-assign]
    try:
        with suppress(RegistryError, StopAsyncIteration):
            answer = await work()
            if isinstance(answer, IOBase):
                answer.close()
    finally:
        registry._perform = perform  # type: ignore[method-assign]


@pytest.mark.parametrize("number", NUMBERS)
def test_an_os_error_of_the_users_own_prepare_is_his(
    registry: Registry, id: ArtifactId, number: int
) -> None:
    mine = OSError(number, "of my own")

    def prepare() -> bytes:
        raise mine

    with pytest.raises(PreparationFailed) as raised:
        registry.get_or_prepare(id, prepare)
    assert raised.value.__cause__ is mine


def test_what_a_signal_handler_raises_is_raised_as_it_is(
    registry: Registry, id: ArtifactId
) -> None:
    late = TimeoutError("the alarm of the program")

    def act(number: int, effect: Effect[Any], perform: Perform) -> Any:
        if number == 0:
            raise late
        return perform(effect)

    with between(registry, act), pytest.raises(TimeoutError) as raised:
        registry.need(id)
    assert raised.value is late


@pytest.mark.parametrize("number", NUMBERS)
def test_what_a_signal_handler_raises_during_a_wait_is_not_taken_for_an_error_of_the_cache(
    registry: Registry, cache: Path, id: ArtifactId, number: int
) -> None:
    mine = OSError(number, "of a socket of my own")

    def act(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        if isinstance(effect, Sleep):
            raise mine
        return perform(effect)

    with Registry(cache) as other:
        claim = other.claim(id)
        assert isinstance(claim, Claim)
        for work in (registry.wait, lambda it: registry.get_or_prepare(it, lambda: b"artifact")):
            with between(registry, act), pytest.raises(OSError, match="of my own") as raised:
                work(id)
            assert raised.value is mine
        claim.publish(b"artifact")
    assert registry.wait(id) is not None
