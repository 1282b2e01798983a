"""How fast are claims, compared with the same guarded INSERT in plain sqlite3?

Eight processes try all keys in the same order, so that most tries meet a rival. Each claim is kept.
The third contestant has no database: its longest step shows how long the machine itself makes a
process wait.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from statistics import median

from processes.crew import Crew, Line
from processes.traces import code_id

from benchmarks.report import Options, Report, crew, ms, new_cache, percentile
from registry import Claim, Registry

PROCESSES = 8
INSERT = """
INSERT INTO artifact (code_hash, prep_hash, state, path, token, host_id, claimed_at, deadline)
VALUES (?, ?, 'preparing', ?, ?, ?, ?, ?)
ON CONFLICT (code_hash, prep_hash) DO NOTHING RETURNING id"""

Times = list[tuple[float, bool]]  # how long each try took, and whether it won
Heard = tuple[float, float, float, Times]  # began, ended, seconds of CPU, each try


def with_registry(line: Line, cache: Path, keys: int) -> None:
    """Claim every key; return the times."""
    ids = [code_id(key) for key in range(keys)]
    registry = Registry(cache)
    times = []
    line.ask("ready")
    cpu, began = time.process_time(), time.monotonic()
    last = began
    for id_ in ids:
        got = registry.claim(id_)
        now = time.monotonic()
        times.append((now - last, isinstance(got, Claim)))
        if isinstance(got, Claim):
            registry._handle.claims.end(got._lease)  # the row stays, as sqlite3's do
        last = now
    line.ask((began, last, time.process_time() - cpu, times))  # and stay, or the claims were free


def with_sqlite(line: Line, cache: Path, keys: int) -> None:
    """The same with plain sqlite3 and its busy timeout."""
    ids = [code_id(key) for key in range(keys)]
    database = sqlite3.connect(cache / "registry.db", timeout=30, isolation_level=None)
    database.execute("PRAGMA synchronous = NORMAL")
    times = []
    line.ask("ready")
    cpu, began = time.process_time(), time.monotonic()
    last = began
    for key, id_ in enumerate(ids):
        path, at = f"{key:0128x}.pvf", time.time_ns() // 1000
        values = (id_.code_hash, id_.prep_hash, path, f"{key:032x}", "0" * 32, at, at + 10**9)
        won = database.execute(INSERT, values).fetchall()
        now = time.monotonic()
        times.append((now - last, bool(won)))
        last = now
    line.ask((began, last, time.process_time() - cpu, times))  # and stay, or the claims were free


def with_nothing(line: Line, _cache: Path, keys: int) -> None:
    """No database: as many steps, each of about the same work."""
    times = []
    line.ask("ready")
    cpu, began = time.process_time(), time.monotonic()
    last = began
    for key in range(keys):
        for _ in range(20):
            code_id(key)
        now = time.monotonic()
        times.append((now - last, key % PROCESSES == 0))
        last = now
    line.ask((began, last, time.process_time() - cpu, times))  # and stay, or the claims were free


CONTESTANTS = {"registry": with_registry, "sqlite3": with_sqlite, "no database": with_nothing}


def storm(started: Crew, contestant: str, cache: Path, keys: int) -> tuple[float, float, Times]:
    """Run all processes; return the time of all, their CPU time, and the time of each try."""
    act = CONTESTANTS[contestant]
    children = [started.start(act, cache, keys) for _ in range(PROCESSES)]
    for child in children:
        child.expect("ready")
    for child in children:
        child.tell()
    heard: list[Heard] = [child.hear() for child in children]
    for child in children:
        started.bury(child)
    took = max(end for _, end, _, _ in heard) - min(begin for begin, _, _, _ in heard)
    cpu = sum(cpu for _, _, cpu, _ in heard)
    return took, cpu, [one for *_, times in heard for one in times]


def measure(options: Options) -> Report:
    """Measure, in rounds of all three."""
    keys = 2000
    took: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    cpus: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    tries: dict[str, Times] = {name: [] for name in CONTESTANTS}
    with crew() as started:
        for _ in range(options.rounds(5, 1)):
            for name in CONTESTANTS:
                with new_cache() as cache:
                    Registry(cache).close()
                    seconds, cpu, times = storm(started, name, cache, keys)
                assert sum(won for _, won in times) == keys or name == "no database"
                took[name].append(seconds)
                cpus[name].append(cpu)
                tries[name] += times
    report = Report(
        f"{PROCESSES} processes try {keys:,} keys each: how fast are claims?",
        ["", "tries/s", "CPU µs a try", "p50 ms", "p99 ms", "p99.9 ms", "longest ms"],
    )
    for name in CONTESTANTS:
        report.rows.append(
            [
                name,
                f"{PROCESSES * keys / median(took[name]):,.0f}",
                f"{1e6 * median(cpus[name]) / PROCESSES / keys:.0f}",
                *(ms(percentile([t for t, _ in tries[name]], s)) for s in (0.5, 0.99, 0.999, 1)),
            ]
        )
        won = [seconds for seconds, won in tries[name] if won]
        report.rows.append(
            [f"- those won ({len(won):,})", "", "", *(ms(percentile(won, s)) for s in SHARES)]
        )
    ratio = median(took["sqlite3"]) / median(took["registry"])
    longest = percentile([t for t, _ in tries["registry"]], 0.999)
    report.promise(f"at least 0.5 x the claims a second of sqlite3 ({ratio:.2f} x)", ratio >= 0.5)
    report.promise(f"p99.9 of a claim under 50 ms ({ms(longest)} ms)", longest < 0.05)
    return report


SHARES = (0.5, 0.99, 0.999, 1)
