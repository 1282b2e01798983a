"""Does the cost of pruning depend on what is deleted, or on the size of the cache?

The k oldest of N artifacts are deleted, durably. Compared on a copy of the same database: a plain
program, which reads all rows, sorts, and deletes by id; one DELETE with a window over all rows; and
diskcache's cull of as many. Polkadot's host collects and sorts in memory; so does the last
contestant, without a database. The rows have no files: unlinking costs the same for all.

Pruning works in batches of 256. Each is one statement that holds the write lock until it is synced;
between two of them a checkpoint may hold it. The longest times are shown beside the longest of as
many fsyncs.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial
from io import FileIO
from pathlib import Path
from statistics import median

from benchmarks import rivals
from benchmarks.contest import Contestant, Taken, Work, contest, hot, spread
from benchmarks.report import Options, Report, ms, new_cache
from benchmarks.stock import DATA, fill
from registry import Registry
from registry.sql.transitions import PRUNE_BATCH, TRANSITIONS, Event

DELETED = (0, 10, 1000)
PRUNE = TRANSITIONS[Event.PRUNE]
AT_ONCE = timedelta(0)
GROWTH_MOST, LOCK_MOST, NOTHING_MOST = 2.0, 0.05, 50e-6
OLDEST = "SELECT last_time_needed, id, size FROM artifact WHERE state = 'prepared'"
WINDOW = """
DELETE FROM artifact WHERE id IN (
  SELECT id FROM (
    SELECT id, sum(size) OVER (ORDER BY last_time_needed, id) AS freed
    FROM artifact WHERE state = 'prepared')
  WHERE freed <= ?)"""


def by_registry(registry: Registry, k: int) -> Contestant:
    """Prune to what is held, less k."""

    def ready(_: int) -> Work:
        limit = registry.stats().prepared_bytes - k * len(DATA)
        prune = partial(registry.prune, cache_limit=limit, min_stale_time=AT_ONCE)
        return hot(prune) if k == 0 else prune

    return ready


def by_sorting(database: sqlite3.Connection, k: int) -> Contestant:
    """Collect all, sort them, and delete what is too much."""

    def work() -> None:
        doomed = [(id_,) for _, id_, _ in sorted(database.execute(OLDEST).fetchall())[:k]]
        database.execute("BEGIN IMMEDIATE")
        database.executemany("DELETE FROM artifact WHERE id = ?", doomed)
        database.execute("COMMIT")

    return lambda _: work


def by_window(database: sqlite3.Connection, k: int) -> Contestant:
    """One statement, which adds up all rows."""
    return lambda _: lambda: database.execute(WINDOW, (k * len(DATA),))


def in_memory(number: int, k: int) -> Contestant:
    """The original's way: collect, sort, pop; no database, no disk."""
    held = {key: (key, len(DATA)) for key in range(number)}

    def work() -> None:
        order = sorted((when, key) for key, (when, _) in held.items())
        for _, key in order[:k]:
            held.pop(key)

    return lambda _: work


def contestants(stack: ExitStack, number: int, k: int) -> dict[str, Contestant]:
    """All of them, each with so many artifacts."""
    ours, sorting, window = (stack.enter_context(new_cache()) for _ in range(3))
    for cache in (ours, sorting, window):
        fill(cache, number)
    first, second = (_durable(stack, cache) for cache in (sorting, window))
    named = {
        "registry": by_registry(stack.enter_context(Registry(ours)), k),
        "collect, sort, delete": by_sorting(first, k),
        "one window DELETE": by_window(second, k),
        "collect, sort, pop in memory": in_memory(number, k),
    }
    if rivals.diskcache is not None and number <= 10_000:  # a million would take it minutes to fill
        named["diskcache cull"] = rivals.culling(stack, number, k, rounds=ROUNDS)
    return named


ROUNDS = 15


def _durable(stack: ExitStack, cache: Path) -> sqlite3.Connection:
    path = cache / "registry.db"
    database = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
    database.execute("PRAGMA synchronous = FULL")
    return database


# --- how long the lock is held ------------------------------------------------------------------


def locked(number: int, rounds: int) -> tuple[float, float, float]:
    """The longest that a batch, and a checkpoint, held the lock, and the longest fsync beside."""
    batches, checkpoints, syncs = [], [0.0], []
    with new_cache() as cache:
        fill(cache, number)
        with Registry(cache) as registry, (cache / "probe").open("wb", buffering=0) as probe:
            held = registry.stats().prepared_bytes
            now = time.time_ns() // 1000
            bounds = {"horizon": 2**63 - 1, "spared": -1, "most": PRUNE_BATCH, "now": now}
            run, checkpointer = registry._database._durable.run, registry._database._checkpointer
            for _ in range(rounds):
                held -= PRUNE_BATCH * len(DATA)
                syncs.append(_timed(partial(_sync, probe)))
                batches.append(_timed(partial(run, PRUNE.sql, {**bounds, "bytes_limit": held})))
                if checkpointer.due():
                    checkpoints.append(_timed(checkpointer.run))
            assert registry.stats().prepared_bytes == held
    return max(batches), max(checkpoints), max(syncs)


def _sync(probe: FileIO) -> None:
    probe.write(b"x" * 256 * 1024)
    os.fsync(probe)


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def measure(options: Options) -> Report:
    """Measure each k at each N."""
    sizes = (1000, 10_000) if options.quick else (10_000, 100_000, 1_000_000)
    report = Report(
        "What does deleting the k oldest of N cost?",
        ["k", "how", *(f"N = {size:,}" for size in sizes)],
    )
    for k in DELETED[: 2 if options.quick else 3]:
        taken = [_contest(size, k, options) for size in sizes]
        for name in taken[0]:
            cells = [spread(at[name].clock) if name in at else "" for at in taken]
            report.rows.append([str(k), name, *cells])
        _promise(report, k, [median(at["registry"].clock) for at in taken])
    held, checkpoint, fsync = locked(sizes[-1], options.rounds(40, 3))
    words = (
        f"a batch held the lock for {ms(held)} ms at most, a checkpoint for {ms(checkpoint)} ms, "
        f"an fsync took {ms(fsync)} ms"
    )
    report.promise(f"{words}: less than 50 ms beside it", max(held, checkpoint) - fsync < LOCK_MOST)
    return report


def _contest(number: int, k: int, options: Options) -> dict[str, Taken]:
    with ExitStack() as stack:
        enough = 4 if number >= 100_000 else ROUNDS
        there = number // (2 * k) if k else ROUNDS  # so many rounds can be deleted
        rounds = min(options.rounds(ROUNDS, 2), enough, there)
        return contest(contestants(stack, number, k), rounds=rounds, times=1)


def _promise(report: Report, k: int, taken: list[float]) -> None:
    if k == 0:
        words = f"k = 0 under 50 µs ({1e6 * max(taken):.0f} µs)"
        report.promise(words, max(taken) < NOTHING_MOST)
    if k == 10:
        got = taken[-1] / taken[0]
        words = f"k = 10 of the most at most {GROWTH_MOST:g} x of the fewest ({got:.2f} x)"
        report.promise(words, got <= GROWTH_MOST)
