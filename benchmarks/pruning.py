"""Does pruning cost what is deleted, or what is held?

Ten of N artifacts are deleted, durably. Beside it, on the same database, what a plain program does:
read all, sort, and delete by id. The rows have no files: unlinking costs the same for both.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from statistics import median

from benchmarks.report import Options, Report, ms, new_cache
from registry import Registry

DELETED = 10
SIZE = 1000
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :n)
INSERT INTO artifact (code_hash, prep_hash, state, path, size, checksum, last_time_needed)
SELECT lower(hex(randomblob(32))), lower(hex(randomblob(32))), 'prepared',
       lower(hex(randomblob(64))) || '.pvf', :size, lower(hex(randomblob(16))), i FROM n"""


def fill(cache: Path, number: int) -> None:
    """Insert so many rows as a whole; the counts are set at the end."""
    Registry(cache).close()
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        (trigger,) = database.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'usage_insert'"
        ).fetchone()
        database.execute("BEGIN")
        database.execute("DROP TRIGGER usage_insert")
        database.execute(FILL, {"n": number, "size": SIZE})
        database.execute(
            "UPDATE usage SET prepared_count = ?1, prepared_bytes = ?1 * ?2", (number, SIZE)
        )
        database.execute(trigger)
        database.execute("COMMIT")


def with_registry(cache: Path, rounds: int) -> list[float]:
    """Prune the ten oldest, again and again."""
    times = []
    with Registry(cache) as registry:
        held = registry.stats().prepared_bytes
        for _ in range(rounds):
            held -= DELETED * SIZE
            began = time.monotonic()
            gone = registry.prune(cache_limit=held, min_stale_time=timedelta(0))
            times.append(time.monotonic() - began)
            assert len(gone) == DELETED
    return times


def by_sorting(cache: Path, rounds: int) -> list[float]:
    """Collect all, sort them, and delete what is too much."""
    times = []
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = FULL")
        for _ in range(rounds):
            began = time.monotonic()
            rows = database.execute(
                "SELECT last_time_needed, id, size FROM artifact WHERE state = 'prepared'"
            ).fetchall()
            doomed = [(id_,) for _, id_, _ in sorted(rows)[:DELETED]]
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM artifact WHERE id = ?", doomed)
            database.execute("COMMIT")
            times.append(time.monotonic() - began)
    return times


def of_the_disk(cache: Path, rounds: int) -> list[float]:
    """Write and sync some pages: what any durable statement pays."""
    times = []
    fd = os.open(cache / "probe", os.O_WRONLY | os.O_CREAT, 0o600)
    for _ in range(rounds):
        began = time.monotonic()
        os.write(fd, b"x" * 4096 * DELETED)
        os.fsync(fd)
        times.append(time.monotonic() - began)
    os.close(fd)
    return times


CONTESTANTS = {
    "registry": with_registry,
    "collect and sort": by_sorting,
    "fsync alone": of_the_disk,
}


def measure(options: Options) -> Report:
    """Measure at several sizes, in rounds of all."""
    sizes = [10_000, options.rounds(1_000_000, 200_000)]
    report = Report(
        f"What does deleting the {DELETED} oldest of N cost, in ms (median)?",
        ["", *(f"N = {size:,}" for size in sizes), "ratio"],
    )
    found: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with new_cache() as base:
        for size in sizes:
            fill(base / str(size), size)
        times = {(name, size): [] for name in CONTESTANTS for size in sizes}
        for _ in range(options.rounds(10, 4)):
            for size in sizes:
                for name, act in CONTESTANTS.items():
                    times[name, size] += act(
                        base / str(size), 1 if name == "collect and sort" else 5
                    )
    for name in CONTESTANTS:
        found[name] = [median(times[name, size]) for size in sizes]
        small, large = found[name]
        report.rows.append([name, ms(small), ms(large), f"{large / small:.2f}"])
    small, large = found["registry"]
    report.promise(
        f"at {sizes[1]:,} at most twice what it is at {sizes[0]:,} ({large / small:.2f} x)",
        large <= 2 * small,
    )
    return report
