"""The view `next_prune` and pruning say the same, on rows of any time and size.

The rule stands twice, because a view knows neither parameters nor batches, and its clock is that of
SQLite. Here the two are compared at one time, to the microsecond.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from support.tables import connected, fill

from registry import Registry
from registry.clock_slack import CLOCK_SLACK_MICROS, is_ahead
from registry.schema.ddl import DDL
from registry.schema.views import LATEST, NEXT_PRUNE, NOW
from registry.sql.queries import DOOMED
from registry.sql.transitions import TRANSITIONS, Event

TIME = 1_700_000_000_000_000
STALE = 3_600_000_000
ALWAYS = 2**63 - 1
# Where the answer changes: the edge of min_stale_time, now, and the edge of the slack.
EDGES = [TIME + at + step for at in (-STALE, 0, CLOCK_SLACK_MICROS) for step in (-1, 0, 1)]
AT_ONE_TIME = NEXT_PRUNE.partition(" AS\n")[2].replace(NOW, str(TIME))


@pytest.fixture
def memory() -> Iterator[sqlite3.Connection]:
    """An empty database with our schema, and nothing else of ours."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in DDL:
            connection.execute(statement)
        connection.execute("INSERT INTO usage VALUES (0, 0)")
        connection.execute("INSERT INTO failure_usage VALUES (0, 0)")
        yield connection


def put(memory: sqlite3.Connection, chance: random.Random) -> None:
    """Put in artifacts whose times are edges, equal ones, old ones, and ones far ahead."""
    for number in range(chance.randrange(1, 20)):
        far = TIME + chance.randrange(-3 * STALE, 3 * STALE)
        needed = chance.choice([*EDGES, far])
        size = chance.choice([0, 1, chance.randrange(1000)])
        values = (f"{number:064x}", "b" * 64, f"{number:0128x}.pvf", size, "sum", needed)
        memory.execute(
            "INSERT INTO artifact (code_hash, prep_hash, state, path, size, checksum, "
            "last_time_needed) VALUES (?, ?, 'prepared', ?, ?, ?, ?)",
            values,
        )


def configured(memory: sqlite3.Connection, chance: random.Random) -> tuple[int, int, int | None]:
    """Store limits at, above and below what is held, or none."""
    held = memory.execute("SELECT prepared_bytes FROM usage").fetchone()[0]
    limits = [0, held - 1, held, held + 1, chance.randrange(held + 1)]
    soft, hard = max(0, chance.choice(limits)), chance.choice([None, *limits])
    hard = None if hard is None else max(0, hard)
    stale = chance.choice([0, STALE, 100 * STALE])
    stored = {"cache_limit": soft, "hard_limit": hard, "min_stale_time": stale}
    memory.executemany("INSERT INTO setting VALUES (?, ?)", stored.items())
    return soft, stale, hard


def bound(limit: int, horizon: int, most: int = -1) -> dict[str, int]:
    return {"bytes_limit": limit, "horizon": horizon, "spared": -1, "most": most, "now": TIME}


@pytest.mark.parametrize("seed", range(200))
def test_the_view_and_pruning_take_the_same_rows_in_the_same_order(
    memory: sqlite3.Connection, seed: int
) -> None:
    chance = random.Random(seed)
    put(memory, chance)
    soft, stale, hard = configured(memory, chance)
    view = memory.execute(f"SELECT code_hash, reason FROM ({AT_ONE_TIME}) ORDER BY position")
    told = view.fetchall()
    passes = [("cache_limit", soft, TIME - stale)]
    passes += [] if hard is None else [("hard_limit", hard, ALWAYS)]
    gone = []
    for reason, limit, horizon in passes:
        doomed = memory.execute(DOOMED.sql, bound(limit, horizon)).fetchall()
        most = chance.choice([1, 2, 256])  # in whatever batches
        while batch := memory.execute(
            TRANSITIONS[Event.PRUNE].sql, bound(limit, horizon, most)
        ).fetchall():
            in_order = sorted(batch, key=lambda row: (not is_ahead(row[7], TIME), row[7], row[0]))
            gone += [(row[1], reason) for row in in_order]
        by_reason = [code for code, why in gone if why == reason]
        assert [row[1] for row in doomed] == by_reason
    assert told == gone


@pytest.mark.parametrize("seed", range(20))
def test_the_view_says_what_a_dry_run_says(cache: Path, registry: Registry, seed: int) -> None:
    """As a user sees it, with the real clocks; no time is within a minute of where it matters."""
    chance = random.Random(seed)
    minute = 60_000_000
    made = fill(cache, [chance.randrange(2000) for _ in range(20)])
    now = time.time_ns() // 1000
    for each in made:
        needed = now + chance.choice([1, -1]) * chance.randrange(100) * 3 * minute + 10 * minute
        with connected(cache) as connection:
            connection.execute(
                "UPDATE artifact SET last_time_needed = ? WHERE code_hash = ?",
                (needed, each.code_hash),
            )
    limits = {"cache_limit": chance.randrange(20_000)}
    hard = chance.choice([None, chance.randrange(20_000)])
    stale = timedelta(minutes=3 * chance.randrange(50) + 1)
    registry.configure(**limits, hard_limit=hard, min_stale_time=stale)
    with connected(cache) as connection:
        view = connection.execute("SELECT code_hash FROM next_prune ORDER BY position")
        told = [code for (code,) in view]
    assert [each.id.code_hash for each in registry.prune(dry_run=True)] == told
    assert [each.id.code_hash for each in registry.prune()] == told


@pytest.mark.parametrize("at", EDGES)
def test_views_statements_and_the_program_agree_on_which_times_lie_ahead(
    memory: sqlite3.Connection, at: int
) -> None:
    """One needed at `at`; nothing but a time that lies ahead goes in spite of min_stale_time."""
    values = ("a" * 64, "b" * 64, f"{1:0128x}.pvf", 1, "sum", at)
    memory.execute(
        "INSERT INTO artifact (code_hash, prep_hash, state, path, size, checksum, "
        "last_time_needed) VALUES (?, ?, 'prepared', ?, ?, ?, ?)",
        values,
    )
    memory.execute("INSERT INTO setting VALUES ('cache_limit', 0), ('min_stale_time', ?)", [ALWAYS])
    (in_views,) = memory.execute(f"SELECT {at} > {LATEST.replace(NOW, str(TIME))}").fetchone()
    in_view = memory.execute(AT_ONE_TIME).fetchall() != []
    in_statement = memory.execute(DOOMED.sql, bound(0, -ALWAYS)).fetchall() != []
    assert {bool(in_views), in_view, in_statement} == {is_ahead(at, TIME)}
