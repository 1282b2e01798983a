"""Processes that do everything at once, and are killed while they do; see that all is well after.

What an artifact must hold follows from its key, so whoever reads one can tell whether it is right.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from processes.crew import Crew, Line
from processes.traces import code_id
from registry import (
    ArtifactBusy,
    ArtifactId,
    Claim,
    ClaimLost,
    CleanupConfig,
    PreparationFailed,
    Registry,
    UnknownArtifact,
)

__all__ = ["Tally", "content", "torture"]

SMALL_AND_FRESH = CleanupConfig(cache_limit=200_000, min_stale_time=timedelta(0))


def content(key: int) -> bytes:
    """What the artifact of a key holds: 1 to 20 KB that no other key has."""
    return b"%d," % key * (300 + 100 * key)


@dataclass
class Tally:
    """How much was done to whom."""

    kills: int = 0
    steps: int = 0
    longest_wal: int = 0


def torture(
    crew: Crew, cache: Path, *, seconds: float, processes: int, keys: int, seed: int = 0
) -> Tally:
    """Let processes work, and kill one of them every few milliseconds; a child's error is raised.

    Whoever is killed is replaced, so the last ones are killed in the middle of something too.
    """
    chance, tally = random.Random(seed), Tally()
    children = [crew.start(works, cache, keys, chance.random()) for _ in range(processes)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        victim = chance.randrange(processes)
        for _ in range(chance.randrange(8)):  # let the victim get on, by so many steps of its own
            tally.steps += children[victim].hear()
        tally.steps += sum(crew.bury(children[victim]))
        tally.kills += 1
        tally.longest_wal = max(tally.longest_wal, wal_size(cache))
        children[victim] = crew.start(works, cache, keys, chance.random())
    for child in children:
        tally.steps += sum(crew.bury(child))
    return tally


def wal_size(cache: Path) -> int:
    """How many bytes the -wal file has."""
    with suppress(FileNotFoundError):
        return (cache / "registry.db-wal").stat().st_size
    return 0


def works(line: Line, cache: Path, keys: int, seed: float) -> None:
    """Open a handle and do at random whatever one can do, until killed."""
    chance = random.Random(seed)
    with Registry(cache, cleanup=SMALL_AND_FRESH) as registry:
        while True:
            key = chance.randrange(keys)
            (act,) = chance.choices(ACTS, WEIGHTS)
            with suppress(ArtifactBusy, ClaimLost, PreparationFailed, UnknownArtifact):
                act(registry, key, code_id(key))
            line.say(1)


def prepares(registry: Registry, key: int, id: ArtifactId) -> None:
    registry.get_or_prepare(id, lambda: content(key))
    reads(registry, key, id)


def reads(registry: Registry, key: int, id: ArtifactId) -> None:
    with registry.open_file(id) as file:
        assert file.read() == content(key), f"{key} holds something else"


def publishes_a_file(registry: Registry, key: int, id: ArtifactId) -> None:
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        claim.extend(timedelta(minutes=1))
        source = registry.cache_dir / f"source-{random.getrandbits(64):x}"
        source.write_bytes(content(key))
        claim.publish(source)


def fails(registry: Registry, key: int, id: ArtifactId) -> None:
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        claim.fail("as it should")
    registry.retry(id)


def gives_back(registry: Registry, key: int, id: ArtifactId) -> None:
    registry.claim(id)  # and drops what it got: it is given back at the next verb


def prunes(registry: Registry, key: int, id: ArtifactId) -> None:
    registry.prune(cache_limit=100_000)


def removes(registry: Registry, key: int, id: ArtifactId) -> None:
    registry.remove(id)


def repairs(registry: Registry, key: int, id: ArtifactId) -> None:
    registry.check(repair=True)


def opens_another(registry: Registry, key: int, id: ArtifactId) -> None:
    with Registry(registry.cache_dir) as other:
        other.need(id)


ACTS = (
    prepares,
    reads,
    publishes_a_file,
    fails,
    gives_back,
    prunes,
    removes,
    repairs,
    opens_another,
)
WEIGHTS = (12, 6, 4, 2, 2, 2, 2, 1, 1)
