"""What does the journal cost? Claim and publish, with its triggers and without.

Twice: the two statements alone, where it costs most, and the whole verbs, which write and sync a
file in between. The two caches take turns, artifact by artifact, so that other work on the machine
disturbs both alike. The journal is full before anything is measured.
"""

from __future__ import annotations

import random
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, time_ns

from benchmarks.report import Options, Report, ms, new_cache
from registry import ArtifactId, Claim, Registry
from registry.schema.journal import DDL
from registry.sql.transitions import TRANSITIONS, Event
from registry.world.connection import connect

KEPT = 10_000
ALLOWED = 1.35
Timed = Callable[[], float]


def drop_triggers(cache: Path) -> None:
    """Take the journal's triggers away, and leave its tables."""
    with closing(sqlite3.connect(cache / "registry.db")) as connection:
        for statement in DDL:
            if statement.startswith("CREATE TRIGGER"):
                connection.execute(f"DROP TRIGGER {statement.split()[2]}")


def claim_and_publish(connection: sqlite3.Connection) -> float:
    """The two statements, as the verbs run them."""
    claim = {
        "code": secrets.token_hex(32),
        "prep": "a" * 64,
        "label": "module.wasm",
        "now": time_ns() // 1000,
        "my_path": f"{secrets.token_hex(64)}.pvf",
        "my_token": secrets.token_hex(16),
        "my_host": "b" * 32,
        "anyway": False,
        "made_by": None,
        "prepare_timeout": None,
    }
    publish = {**claim, "size": 4096, "checksum": "c" * 32, "seconds": 1.5}
    start = perf_counter()
    connection.execute(TRANSITIONS[Event.CLAIM].sql, claim).fetchall()
    connection.execute(TRANSITIONS[Event.PUBLISH].sql, publish).fetchall()
    return perf_counter() - start


def prepare(handle: Registry) -> float:
    """The verbs, with a file that is written and synced."""
    named = ArtifactId.of(secrets.token_bytes(32))
    start = perf_counter()
    claim = handle.claim(named, label="module.wasm")
    assert isinstance(claim, Claim)
    claim.publish(b"artifact")
    return perf_counter() - start


def compare(without: Timed, with_it: Timed, rounds: int) -> tuple[float, float]:
    """The median seconds of both, run in turn, and either of them first."""
    pair = (without, with_it)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for which in random.sample((0, 1), 2):
            seconds[which].append(pair[which]())
    return median(seconds[0]), median(seconds[1])


def measure(options: Options) -> Report:
    """Drive two caches in turn."""
    report = Report(
        "What does the journal cost?",
        ["claim and publish", "ms without it", "ms with it", "ratio"],
    )
    with new_cache() as bare, new_cache() as full, ExitStack() as stack:
        for cache in (bare, full):
            Registry(cache).close()
        drop_triggers(bare)
        databases = [
            stack.enter_context(closing(connect(str(cache / "registry.db"))))
            for cache in (bare, full)
        ]
        handles = [stack.enter_context(Registry(cache)) for cache in (bare, full)]
        statements = [partial(claim_and_publish, database) for database in databases]
        verbs = [partial(prepare, handle) for handle in handles]
        for _ in range(KEPT // 2):  # two events each
            for work in statements:
                work()
        rounds = options.rounds(10_000, 1000)
        ratio = tell(report, "the two statements", compare(*statements, rounds))
        tell(report, "the verbs, with their file", compare(*verbs, rounds // 20))
    report.promise(f"at most {ALLOWED} x the statements without it", ratio <= ALLOWED)
    return report


def tell(report: Report, what: str, medians: tuple[float, float]) -> float:
    """Add a line; the ratio."""
    without, with_it = medians
    report.rows.append((what, ms(without), ms(with_it), f"{with_it / without:.2f}"))
    return with_it / without
