"""The -wal file stays small under load, and SQLite never checkpoints by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from processes.crew import Child, Crew, Line
from processes.torture import wal_size
from processes.traces import code_id, query
from registry import AsyncRegistry, CleanupConfig, Registry, RetryPolicy
from registry.world.connection import WAL_KEPT_BYTES

BOUND = 8 * 1024**2
AT_ONCE = RetryPolicy(max_retries=10**6, cooldown=CleanupConfig().min_stale_time * 0)


def writes(line: Line, cache: Path, rounds: int, key: int) -> int:
    """Write much with little work: claims with long labels that are failed and claimed again."""
    with Registry(cache, retry=AT_ONCE) as registry:
        line.ask("ready")
        for number in range(rounds):
            claim = registry.claim(code_id((key, number % 50)), label="x" * 1000)
            claim.fail("y" * 20_000)
            if number % 50 == 49:
                line.say(number)
    return rounds


def test_the_wal_stays_small_under_several_writers(cache: Path, crew: Crew) -> None:
    writers = [crew.start(writes, cache, 300, key) for key in range(4)]
    for child in writers:
        child.expect("ready")
    for child in writers:
        child.tell()

    longest = 0
    for child in writers:
        while child.hear() != 300:
            longest = max(longest, wal_size(cache))

    print(f"-wal had {longest} bytes at most")
    assert longest < BOUND
    assert query(cache, "PRAGMA integrity_check") == [("ok",)]


def test_the_wal_stays_small_though_writers_are_killed_all_the_time(
    cache: Path, crew: Crew
) -> None:
    def another(key: int) -> Child:
        writer = crew.start(writes, cache, 10**9, key)
        writer.expect("ready")
        writer.tell()
        return writer

    longest = 0
    writers = [another(key) for key in range(3)]
    for number in range(15):
        victim = writers[number % 3]
        for _ in range(number % 4):
            victim.hear()
            longest = max(longest, wal_size(cache))
        crew.bury(victim)
        writers[number % 3] = another(number)

    print(f"-wal had {longest} bytes at most")
    assert longest < BOUND
    assert query(cache, "PRAGMA integrity_check") == [("ok",)]


class Recording(sqlite3.Connection):
    """A connection that says, when it is closed, what was set on it."""

    pragmas = ("wal_autocheckpoint", "journal_size_limit", "synchronous")
    heard: list[tuple[int, ...]]

    def close(self) -> None:
        values = (self.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in self.pragmas)
        self.heard.append(tuple(values))
        super().close()


def everything(cache: Path) -> None:
    """Use every connection there is: create, migrate, work, delete durably, checkpoint."""
    with Registry(cache) as registry:
        registry.get_or_prepare(code_id("x"), lambda: b"x")
        registry.remove(code_id("x"))
        registry._database._checkpointer.run()


def everything_async(cache: Path) -> None:
    async def story() -> None:
        async with AsyncRegistry(cache) as registry:
            await registry.get_or_prepare(code_id("x"), lambda: b"x")
            await registry.remove(code_id("x"))
            registry._database._checkpointer.run()

    asyncio.run(story())


@pytest.mark.parametrize("story", [everything, everything_async])
def test_sqlite_checkpoints_by_itself_on_no_connection(
    cache: Path, monkeypatch: pytest.MonkeyPatch, story: Callable[[Path], None]
) -> None:
    Recording.heard = []
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Recording))

    story(cache)

    normal, full = (0, WAL_KEPT_BYTES, 1), (0, WAL_KEPT_BYTES, 2)
    checkpointing = (0, -1, 2)  # they never write to the -wal file, and so never start it over
    assert {*Recording.heard} == {normal, full, checkpointing}
    assert len(Recording.heard) >= 6


def test_a_checkpoint_that_meets_a_writer_leaves_it_for_another_time(cache: Path) -> None:
    with Registry(cache) as registry:
        registry.get_or_prepare(code_id("x"), lambda: b"x")
        before = wal_size(cache)
        writer = sqlite3.connect(cache / "registry.db", isolation_level=None)
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("BEGIN IMMEDIATE")

        registry._database._checkpointer.run()

        writer.execute("ROLLBACK")
        writer.close()
        assert wal_size(cache) == before
        assert registry.need(code_id("x")) is not None
