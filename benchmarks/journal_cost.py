"""What does the journal cost? Claim and publish, with its triggers and without.

Twice: the two statements alone, where it costs most, and the whole verbs, which write and sync a
file in between. Both databases are driven in turn, artifact by artifact, so that whatever else the
machine does hits both alike; the journal is full before anything is measured.

    python benchmarks/journal_cost.py [ARTIFACTS]
"""

from __future__ import annotations

import random
import secrets
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from time import perf_counter, time_ns

from registry import ArtifactId, Claim, Registry
from registry.schema.journal import DDL
from registry.transitions import TRANSITIONS, Event
from registry.world.database import connect

KEPT = 10_000
ALLOWED = 1.35
Timed = Callable[[], float]


def main(artifacts: int) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        caches = {"without": Path(folder, "without"), "with": Path(folder, "with")}
        for cache in caches.values():
            Registry(cache).close()
        drop_triggers(caches["without"])
        statements: dict[str, Timed] = {}
        verbs: dict[str, Timed] = {}
        for name, cache in caches.items():
            connection = stack.enter_context(closing(connect(str(cache / "registry.db"))))
            statements[name] = lambda connection=connection: claim_and_publish(connection)
            handle = stack.enter_context(Registry(cache))
            verbs[name] = lambda handle=handle: prepare(handle)
        for _ in range(KEPT // 2):  # two events each
            for timed in statements.values():
                timed()
        print(f"{'':<12}{'without':>12}{'with':>12}{'ratio':>8}   (median)")
        ratio = report("statements", compare(statements, artifacts))
        report("verbs", compare(verbs, max(artifacts // 20, 1)))
        if ratio > ALLOWED:
            sys.exit(f"the journal costs more than {ALLOWED} x")


def drop_triggers(cache: Path) -> None:
    """Take the journal's triggers away, and leave its tables."""
    with closing(sqlite3.connect(cache / "registry.db")) as connection:
        for statement in DDL:
            if statement.startswith("CREATE TRIGGER"):
                connection.execute(f"DROP TRIGGER {statement.split()[2]}")


def claim_and_publish(connection: sqlite3.Connection) -> float:
    now = time_ns() // 1000
    claim = {
        "code": secrets.token_hex(32),
        "prep": "a" * 64,
        "called": "module.wasm",
        "now": now,
        "my_path": f"{secrets.token_hex(64)}.pvf",
        "my_token": secrets.token_hex(16),
        "my_host": "b" * 32,
        "prepare_timeout": None,
    }
    publish = {**claim, "bytes": 4096, "digest": "c" * 32, "seconds": 1.5}
    start = perf_counter()
    connection.execute(TRANSITIONS[Event.CLAIM].sql, claim).fetchall()
    connection.execute(TRANSITIONS[Event.PUBLISH].sql, publish).fetchall()
    return perf_counter() - start


def prepare(handle: Registry) -> float:
    named = ArtifactId.of(secrets.token_bytes(32))
    start = perf_counter()
    claim = handle.claim(named, label="module.wasm")
    assert isinstance(claim, Claim)
    claim.publish(b"artifact")
    return perf_counter() - start


def compare(timed: dict[str, Timed], rounds: int) -> dict[str, float]:
    """The median seconds of each, run in turn and in random order."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name in random.sample(list(timed), len(timed)):
            seconds[name].append(timed[name]())
    return {name: statistics.median(times) for name, times in seconds.items()}


def report(what: str, medians: dict[str, float]) -> float:
    ratio = medians["with"] / medians["without"]
    shown = "".join(f"{medians[name] * 1e6:>9.1f} µs" for name in ("without", "with"))
    print(f"{what:<12}{shown}{ratio:>8.2f}")
    return ratio


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
