"""What does awaiting cost, and does a busy event loop make other processes wait?

First in one process: a hot need, a read and a write, through the async handle and the sync one, and
as bare statements, in turns. Then in two: one extends a claim repeatedly in an event loop, while
the other measures how long its own writes take. The loop is quiet, or kept busy by callbacks of 5
ms without a pause.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import TypeAlias

import aiosqlite
from processes.crew import Child, Line
from processes.traces import claimed, code_id

from benchmarks.report import Options, Report, crew, ms, new_cache, percentile
from registry import AsyncClaim, AsyncRegistry, Claim, Registry
from registry.sql.queries import READ
from registry.sql.transitions import TRANSITIONS, Event
from registry.world.connection import connect

HOUR = timedelta(hours=1)
CALLBACK_SECONDS = 0.005
MOST = 2.0


# --- one process --------------------------------------------------------------------------------

Timed: TypeAlias = Callable[[], Awaitable[float]]


def blocking(work: Callable[[], object], times: int) -> Timed:
    """Time a call, repeated: seconds for each."""

    async def timed() -> float:
        began = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - began) / times

    return timed


def awaited(work: Callable[[], Awaitable[object]], times: int) -> Timed:
    """Time awaitables, one after the other."""

    async def timed() -> float:
        began = time.perf_counter()
        for _ in range(times):
            await work()
        return (time.perf_counter() - began) / times

    return timed


def at_once(work: Callable[[], Awaitable[object]], times: int) -> Timed:
    """Time awaitables, all at once."""

    async def timed() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(times)))
        return (time.perf_counter() - began) / times

    return timed


def ways(
    sync: Registry,
    aio: AsyncRegistry,
    bare: sqlite3.Connection,
    hop: aiosqlite.Connection,
    mine: Claim,
    theirs: AsyncClaim,
) -> dict[tuple[str, str], Timed]:
    """The same need in several ways: from a file, from one row, to one row."""
    known = sync.get_or_prepare(code_id("known"), lambda: b"x")
    path = os.fspath(known.path or "")
    read = {"code": known.id.code_hash, "prep": known.id.prep_hash}
    write = {
        "code": mine.id.code_hash,
        "prep": mine.id.prep_hash,
        "my_token": mine._lease.token,
        "prepare_timeout": 3600 * 10**6,
        "now": time.time_ns() // 1000,
        "dated": 0,
    }
    extend = TRANSITIONS[Event.EXTEND].sql
    return {
        ("a hot need", "os.stat"): blocking(lambda: os.stat(path), 1000),
        ("a hot need", "sync"): blocking(lambda: sync.need(known.id), 1000),
        ("a hot need", "async"): awaited(lambda: aio.need(known.id), 1000),
        ("a read", "sqlite3"): blocking(lambda: bare.execute(READ.sql, read).fetchall(), 200),
        ("a read", "aiosqlite"): awaited(lambda: hop.execute_fetchall(READ.sql, read), 200),
        ("a read", "sync"): blocking(lambda: sync.get(known.id), 200),
        ("a read", "async"): awaited(lambda: aio.get(known.id), 200),
        ("a read", "async, 100 at once"): at_once(lambda: aio.get(known.id), 100),
        ("a write", "sqlite3"): blocking(lambda: bare.execute(extend, write).fetchall(), 200),
        ("a write", "aiosqlite"): awaited(lambda: hop.execute_fetchall(extend, write), 200),
        ("a write", "sync"): blocking(lambda: mine.extend(HOUR), 200),
        ("a write", "async"): awaited(lambda: theirs.extend(HOUR), 200),
        ("a write", "async, 100 at once"): at_once(lambda: theirs.extend(HOUR), 100),
    }


async def costs(cache: Path, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Measure each way in turns, so that other work on the machine disturbs all alike."""
    async with (
        AsyncRegistry(cache) as aio,
        aiosqlite.connect(cache / "registry.db", isolation_level=None) as hop,
    ):
        await hop.execute("PRAGMA synchronous = NORMAL")
        with Registry(cache) as sync, closing(connect(str(cache / "registry.db"))) as bare:
            theirs = await aio.claim(code_id("async"))
            assert isinstance(theirs, AsyncClaim)
            timed = ways(sync, aio, bare, hop, claimed(sync, code_id("sync")), theirs)
            found: dict[tuple[str, str], list[float]] = {way: [] for way in timed}
            for _ in range(rounds):
                for way, once in timed.items():
                    found[way].append(await once())
    return found


# --- two processes ------------------------------------------------------------------------------


def writes_in_a_loop(line: Line, cache: Path, busy: bool) -> int:
    """Extend a claim repeatedly until stopped; return how often."""
    stop = threading.Event()
    threading.Thread(target=lambda: (line.hear(), stop.set()), daemon=True).start()

    def keep_busy() -> None:
        until = time.perf_counter() + CALLBACK_SECONDS
        while time.perf_counter() < until:
            pass
        if not stop.is_set():
            asyncio.get_running_loop().call_soon(keep_busy)

    async def write() -> int:
        times = 0
        async with AsyncRegistry(cache) as registry:
            claim = await registry.claim(code_id(f"a loop's, {os.getpid()}"))
            assert isinstance(claim, AsyncClaim)
            if busy:
                keep_busy()
            line.say("writing")
            while not stop.is_set():
                await claim.extend(HOUR)
                times += 1
        return times

    return asyncio.run(write())


def latencies(registry: Registry, times: int) -> list[float]:
    """Time each of many writes, a moment apart."""
    taken = []
    with claimed(registry, code_id("another's")) as claim:
        for _ in range(times):
            time.sleep(random.uniform(0.0005, 0.0015))
            began = time.perf_counter()
            claim.extend(HOUR)
            taken.append(time.perf_counter() - began)
        claim.release()
    return taken


def beside_loops(cache: Path, rounds: int, times: int) -> dict[str, tuple[list[float], list[int]]]:
    """Measure the latencies alone, beside a quiet loop and a busy one, and the writes of those."""
    found: dict[str, tuple[list[float], list[int]]] = {
        "nobody": ([], []),
        "a quiet loop": ([], []),
        "a busy loop": ([], []),
    }
    with crew() as started, Registry(cache) as registry:
        for _ in range(rounds):
            for beside, (taken, wrote) in found.items():
                child: Child | None = None
                if beside != "nobody":
                    child = started.start(writes_in_a_loop, cache, beside == "a busy loop")
                    child.expect("writing")
                began = time.perf_counter()
                taken += latencies(registry, times)
                if child is not None:
                    seconds = time.perf_counter() - began
                    child.tell()
                    wrote.append(round(child.hear() / seconds))
    return found


def measure(options: Options) -> Report:
    """Measure costs in one process, then latencies beside another."""
    report = Report(
        "What does awaiting cost, and does a busy loop make others wait?",
        ["what", "how", "median", "p95", "max"],
    )
    with new_cache() as cache:
        found = asyncio.run(costs(cache, options.rounds(30, 8)))
    for (what, how), seconds in found.items():
        row = [us(median(seconds)), us(percentile(seconds, 0.95)), us(max(seconds))]
        report.rows.append([what, how, *row])
    with new_cache() as cache:
        beside = beside_loops(cache, options.rounds(6, 2), 500)
    for whom, (taken, wrote) in beside.items():
        p95 = percentile(taken, 0.95)
        row = [f"{ms(median(taken))} ms", f"{ms(p95)} ms", f"{ms(max(taken))} ms"]
        rate = f" (which wrote {round(median(wrote))} times a second)" if wrote else ""
        report.rows.append(["another process's write", f"beside {whom}{rate}", *row])
    alone, busy = (percentile(beside[whom][0], 0.95) for whom in ("nobody", "a busy loop"))
    words = f"p95 beside a busy loop within {MOST:g} x of that beside nobody"
    report.promise(f"{words} ({busy / alone:.2f} x)", busy <= MOST * alone)
    return report


def us(seconds: float) -> str:
    """Seconds, as microseconds to read."""
    return f"{1e6 * seconds:.1f} µs"
