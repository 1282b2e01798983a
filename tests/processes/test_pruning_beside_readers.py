"""While one process prunes, and another sweeps, nobody who reads meets anything wrong."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from processes.crew import Crew, Line
from processes.traces import assert_clean, code_id
from registry import Registry, UnknownArtifact

KEYS = 30
ZERO = timedelta(0)


def content(key: int) -> bytes:
    return b"%d," % key * 20_000


def needs_and_reads(line: Line, cache: Path, rounds: int, seed: int) -> dict[str, int]:
    """Ask in every way for artifacts that are pruned all the time; how often there was one."""
    chance, met = random.Random(seed), {"prepared": 0, "needed": 0, "opened": 0, "by path": 0}
    with Registry(cache) as registry:
        line.ask("ready")
        for _ in range(rounds):
            key = chance.randrange(KEYS)
            wanted, right = code_id(key), content(key)
            made = registry.get_or_prepare(wanted, lambda right=right: right)
            met["prepared"] += made.size == len(right)
            found = registry.need(wanted)
            met["needed"] += found is not None
            with suppress(UnknownArtifact), registry.open_file(wanted) as file:
                assert file.read() == right
                met["opened"] += 1
            with suppress(FileNotFoundError):  # a path is not pinned, and says so
                assert made.path is not None
                assert made.path.read_bytes() == right
                met["by path"] += 1
    return met


def prunes(line: Line, cache: Path) -> int:
    """Prune until told to stop; how many artifacts went."""
    gone = 0
    with Registry(cache) as registry:
        line.ask("ready")
        while not line._pipe.poll():
            gone += len(registry.prune(cache_limit=10 * len(content(9)), min_stale_time=ZERO))
    return gone


def sweeps(line: Line, cache: Path) -> int:
    """Repair until told to stop; how often."""
    times = 0
    with Registry(cache) as registry:
        line.ask("ready")
        while not line._pipe.poll():
            registry.check(repair=True)
            times += 1
    return times


def test_readers_never_meet_wrong_bytes_nor_an_error_that_is_not_told(
    cache: Path, crew: Crew
) -> None:
    readers = [crew.start(needs_and_reads, cache, 150, seed) for seed in range(3)]
    keepers = [crew.start(prunes, cache), crew.start(sweeps, cache)]
    everybody = readers + keepers
    for child in everybody:
        child.expect("ready")
    for child in everybody:
        child.tell()

    met = [child.hear() for child in readers]
    for child in keepers:
        child.tell("stop")
    pruned, swept = [child.hear() for child in keepers]

    assert all(one["prepared"] == 150 for one in met), met
    assert all(count > 0 for one in met for count in one.values()), met
    assert pruned > 0
    assert swept > 0
    artifacts = assert_clean(cache)
    assert {*os.listdir(cache / "artifacts")} == {a.path.name for a in artifacts if a.path}


def prunes_once(line: Line, cache: Path) -> list[str]:
    with Registry(cache) as registry:
        line.ask("ready")
        gone = registry.prune(cache_limit=20_000, min_stale_time=ZERO)
        return [artifact.id.code_hash for artifact in gone]


def test_pruners_at_once_delete_what_one_would_and_no_more(cache: Path, crew: Crew) -> None:
    with Registry(cache) as registry:
        for key in range(60):
            registry.get_or_prepare(code_id(key), lambda: b"x" * 1000)
        would_go = registry.prune(cache_limit=20_000, min_stale_time=ZERO, dry_run=True)
        pruners = [crew.start(prunes_once, cache) for _ in range(4)]
        for child in pruners:
            child.expect("ready")

        for child in pruners:
            child.tell()

        gone = [code for child in pruners for code in child.hear()]
        assert sorted(gone) == sorted(artifact.id.code_hash for artifact in would_go)
        assert registry.stats().prepared_bytes == 20_000


def test_a_need_that_was_answered_is_not_lost_to_the_next_prune(cache: Path, crew: Crew) -> None:
    # The last use is written at least every half of the stale time, so within the other half
    # nothing that was answered can look old.
    stale = timedelta(seconds=30)
    with Registry(cache) as registry:
        registry.configure(cache_limit=0, min_stale_time=stale)
        registry.get_or_prepare(code_id("x"), lambda: b"x")
        assert registry.need(code_id("x")) is not None

        pruner = crew.start(prunes_as_configured, cache)

        pruner.expect([])
        assert registry.need(code_id("x")) is not None


def prunes_as_configured(line: Line, cache: Path) -> list[str]:
    with Registry(cache) as registry:
        return [str(artifact) for artifact in registry.prune()]
