"""Signal handlers beside an event loop: they come while the loop is in the middle of verbs.

A handler runs in the thread of the loop, which goes on only after it. So a handler that waits for
what the loop does would wait for ever. Each story is told by a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from processes.crew import PATIENCE
from processes.traces import assert_clean, claimed, code_id
from registry import (
    AsyncClaim,
    AsyncRegistry,
    HandleClosed,
    RecursivePreparation,
    Registry,
    State,
    prepared,
)

NOW = timedelta(0)
HOUR = timedelta(hours=1)
TIMES = 60


def tell(story: str, cache: Path, *args: str) -> str:
    """Let a process of its own tell a story of this module; answer what it printed."""
    program = (
        "import sys, faulthandler; from pathlib import Path\n"
        "from processes import test_signals_beside_loops as stories\n"
        f"faulthandler.dump_traceback_later({PATIENCE}, exit=True)\n"
        "getattr(stories, sys.argv[1])(Path(sys.argv[2]), *sys.argv[3:])"
    )
    told = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program, story, str(cache), *args],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )
    assert told.returncode == 0, told.stderr[-4000:]
    assert "Traceback" not in told.stderr, told.stderr[-4000:]
    return told.stdout


async def work(registry: AsyncRegistry, number: int) -> None:
    """Use one verb or the other, so that a signal comes in the middle of any."""
    one = code_id(number % 20)
    match number % 6:
        case 0 | 1:
            await registry.get_or_prepare(one, lambda: b"artifact", timeout=HOUR)
        case 2:
            await registry.need(one)
        case 3:
            await registry.remove(one)
        case 4:
            claim = await registry.claim(one)
            if isinstance(claim, AsyncClaim):
                await claim.publish(b"artifact")
        case _:
            await registry.prune(cache_limit=0, min_stale_time=NOW)


class Handler:
    """What a signal handler does, again and again, until it came often enough."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.came = 0
        self._act = act
        signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    def _handle(self, *_: object) -> None:
        self._act()
        self.came += 1
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.005))

    def stop(self) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a last handler may start the timer anew
        signal.setitimer(signal.ITIMER_REAL, 0)


def handlers(blocking: Registry, registry: AsyncRegistry, cache: Path) -> dict[str, Any]:
    """What a signal handler may do while a loop uses the same cache."""
    numbers = iter(range(10**9))
    tasks: set[asyncio.Task[Any]] = set()

    @prepared(version=1, cache=cache, name="built in a signal handler")
    def build(number: int) -> bytes:
        return b"%d" % number

    def claim_and_publish() -> None:
        with claimed(blocking, code_id(("in the handler", next(numbers)))) as claim:
            claim.publish(b"artifact")

    def prepare() -> None:
        blocking.get_or_prepare(code_id(("in the handler", next(numbers))), lambda: b"artifact")

    def begin(verb: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(verb)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return {
        "get": lambda: blocking.get(code_id(1)),
        "need": lambda: blocking.need(code_id(1)),
        "stats": blocking.stats,
        "prepare": prepare,
        "prepared": lambda: build(next(numbers)),
        "claim": claim_and_publish,
        "prune": lambda: blocking.prune(cache_limit=0, min_stale_time=NOW),
        "remove": lambda: blocking.get(code_id(1)) and blocking.artifacts(state=State.PREPARED),
        "check": blocking.check,
        "open": lambda: Registry(cache).close(),
        "counters": lambda: registry.counters,
        "begin a task": lambda: begin(registry.need(code_id(1))),
    }


def interrupts_a_loop(cache: Path, verb: str) -> None:
    random.seed(verb)

    async def story() -> None:
        async with AsyncRegistry(cache) as registry:
            act = handlers(blocking, registry, cache)[verb]
            act()  # imports and opens what it needs
            handler = Handler(act)
            number = 0
            while handler.came < TIMES:
                number += 1
                await asyncio.gather(*(work(registry, number * 7 + it) for it in range(4)))
            handler.stop()
            assert (await registry.check()).ok

    with Registry(cache) as blocking:
        asyncio.run(story())


VERBS = ["get", "need", "stats", "prepare", "prepared", "claim", "prune", "remove", "check"]


@pytest.mark.parametrize("verb", [*VERBS, "open", "counters", "begin a task"])
def test_a_signal_handler_uses_the_cache_that_the_loop_it_interrupts_uses(
    cache: Path, verb: str
) -> None:
    tell("interrupts_a_loop", cache, verb)
    assert_clean(cache)


def asks_for_what_the_loop_prepares(cache: Path, how: str) -> None:
    """Ask in the handler for what a task of the interrupted loop is preparing."""
    refused = 0
    wanted = code_id(0)
    with Registry(cache) as blocking:

        def ask() -> None:
            nonlocal refused
            try:
                if how == "wait":
                    blocking.wait(wanted)
                else:
                    blocking.get_or_prepare(wanted, lambda: b"artifact")
            except RecursivePreparation as error:
                refused += "event loop" in str(error)

        async def slowly() -> bytes:
            for _ in range(20):
                await asyncio.sleep(0)
            return b"artifact"

        async def story() -> None:
            nonlocal wanted
            async with AsyncRegistry(cache) as registry:
                handler = Handler(ask)
                number = 0
                while handler.came < TIMES or refused < 5:
                    number += 1
                    wanted = code_id(number)
                    await registry.get_or_prepare(wanted, slowly)
                handler.stop()
                assert (await registry.stats()).prepared_count >= number
                assert (await registry.check()).ok

        asyncio.run(story())


@pytest.mark.parametrize("how", ["get_or_prepare", "wait"])
def test_a_signal_handler_does_not_wait_for_the_loop_that_it_interrupts(
    cache: Path, how: str
) -> None:
    tell("asks_for_what_the_loop_prepares", cache, how)
    assert_clean(cache)


def test_a_coroutine_that_blocks_does_not_wait_for_its_own_loop(cache: Path) -> None:
    asyncio.run(blocks_in_a_coroutine(cache))
    assert_clean(cache)


async def blocks_in_a_coroutine(cache: Path) -> None:
    wanted, begun, go_on = code_id("wanted"), asyncio.Event(), asyncio.Event()

    async def slowly() -> bytes:
        begun.set()
        await go_on.wait()
        return b"artifact"

    with Registry(cache) as blocking:
        async with AsyncRegistry(cache) as registry:
            preparing = asyncio.create_task(registry.get_or_prepare(wanted, slowly))
            await begun.wait()
            with pytest.raises(RecursivePreparation, match="event loop"):
                blocking.get_or_prepare(wanted, lambda: b"artifact")
            with pytest.raises(RecursivePreparation, match="event loop"):
                blocking.wait(wanted)
            waiting = asyncio.create_task(
                asyncio.to_thread(blocking.get_or_prepare, wanted, lambda: b"artifact")
            )
            go_on.set()
            assert (await waiting).size == (await preparing).size == 8


def closes_beside_a_loop(cache: Path) -> None:
    """Close the blocking handle at a random moment of the loop, which goes on."""
    random.seed(0)

    async def story(blocking: Registry) -> None:
        async with AsyncRegistry(cache) as registry:
            handler = Handler(blocking.close)
            number = 0
            while not handler.came:
                number += 1
                await work(registry, number)
            handler.stop()
            with pytest.raises(HandleClosed):
                blocking.stats()

    for _ in range(20):
        blocking = Registry(cache)
        claim = claimed(blocking, code_id("held"))
        asyncio.run(story(blocking))
        with Registry(cache) as other:
            assert other.get(claim.id) is None, "it was given back"


def test_a_signal_handler_closes_a_handle_beside_a_loop(cache: Path) -> None:
    tell("closes_beside_a_loop", cache)
    assert_clean(cache)
    assert list((cache / "hosts").iterdir()) == []
