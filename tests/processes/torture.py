"""Processes that do everything at once, and are killed and stopped while they do.

What an artifact must hold follows from its key, so whoever reads one can tell whether it is right.
Every change of a row is logged, and must be a legal move (see `processes.automaton`).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import xxhash

from processes.automaton import Automaton, watch
from processes.crew import Child, Crew, Line
from processes.traces import assert_clean, code_id, query
from registry import (
    ArtifactBusy,
    ArtifactId,
    AsyncRegistry,
    Claim,
    ClaimLost,
    CleanupConfig,
    PreparationFailed,
    Registry,
    UnknownArtifact,
)

__all__ = ["Tally", "assert_whole", "content", "torture"]

SMALL_AND_FRESH = CleanupConfig(cache_limit=200_000, min_stale_time=timedelta(0))
MOMENT = timedelta(milliseconds=2)
# How long one is stopped, in seconds: long past the deadline of a claim for a moment.
LONGEST_STOP = 0.02
STEPS_OF_A_HANDLE = 60


def content(key: int) -> bytes:
    """What the artifact of a key holds: 1 to 20 KB that no other key has."""
    return b"%d," % key * (300 + 100 * key)


@dataclass
class Tally:
    """How much was done to whom."""

    kills: int = 0
    stops: int = 0
    steps: int = 0
    transitions: int = 0
    longest_wal: int = 0


def torture(
    crew: Crew,
    cache: Path,
    *,
    enough: Callable[[Tally], bool],
    processes: int,
    keys: int,
    seed: int = 0,
) -> Tally:
    """Let processes work, and kill or stop one of them every few milliseconds, until it is enough.

    A child's error, and a row that changes as it must not, is raised. Whoever is killed is
    replaced, so the last ones are killed in the middle of something too.
    """
    chance, tally = random.Random(seed), Tally()
    checksums = {code_id(k): xxhash.xxh3_128_hexdigest(content(k)) for k in range(keys)}
    automaton = Automaton(checksums)
    Registry(cache).close()
    watch(cache)
    children = [crew.start(works, cache, keys, chance.random()) for _ in range(processes)]
    while not enough(tally):
        victim = chance.randrange(processes)
        for _ in range(chance.randrange(8)):  # let the victim get on, by so many steps of its own
            tally.steps += children[victim].hear()
        if chance.random() < 1 / 3:
            _stop_for_a_while(chance.choice(children), chance.uniform(0, LONGEST_STOP))
            tally.stops += 1
        tally.steps += sum(crew.bury(children[victim]))
        tally.kills += 1
        tally.longest_wal = max(tally.longest_wal, wal_size(cache))
        children[victim] = crew.start(works, cache, keys, chance.random())
        if tally.kills % 50 == 0:
            tally.transitions = automaton.follow(cache)
    for child in children:
        tally.steps += sum(crew.bury(child))
    tally.transitions = automaton.follow(cache)
    return tally


def _stop_for_a_while(child: Child, seconds: float) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGCONT)


def assert_whole(cache: Path, keys: int) -> int:
    """See that nothing was lost, leaked or spoilt; how many artifacts are prepared."""
    artifacts = assert_clean(cache)
    held = {a.id: a.path.read_bytes() for a in artifacts if a.path}
    right = {code_id(key): content(key) for key in range(keys)}
    assert held == {artifact.id: right[artifact.id] for artifact in artifacts}
    assert {*os.listdir(cache / "artifacts")} == {a.path.name for a in artifacts if a.path}
    spoilt = "SELECT event FROM history WHERE event IN ('missing', 'damaged', 'hostile')"
    assert query(cache, spoilt) == []
    return len(artifacts)


def wal_size(cache: Path) -> int:
    """How many bytes the -wal file has."""
    with suppress(FileNotFoundError):
        return (cache / "registry.db-wal").stat().st_size
    return 0


def works(line: Line, cache: Path, keys: int, seed: float) -> None:
    """Open handles and do at random whatever one can do, until killed."""
    chance = random.Random(seed)
    while True:
        with Registry(cache, cleanup=SMALL_AND_FRESH) as registry:
            for _ in range(chance.randrange(STEPS_OF_A_HANDLE)):
                key = chance.randrange(keys)
                (act,) = chance.choices([*ACTS], [*ACTS.values()])
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


def needs(registry: Registry, key: int, id: ArtifactId) -> None:
    for _ in range(3):  # the second meets what is hot
        registry.need(id)


def dawdles(registry: Registry, key: int, id: ArtifactId) -> None:
    """Claim for so short a time that one who is stopped, or merely slow, comes too late."""
    claim = registry.claim(id, timeout=MOMENT)
    if isinstance(claim, Claim):
        claim.publish(content(key))


def retries(registry: Registry, key: int, id: ArtifactId) -> None:
    registry.retry(id)


def prepares_in_a_loop(registry: Registry, key: int, id: ArtifactId) -> None:
    async def main() -> None:
        async with AsyncRegistry(registry.cache_dir, cleanup=SMALL_AND_FRESH) as other:
            artifact = await other.get_or_prepare(id, lambda: content(key))
            assert artifact.size == len(content(key))

    asyncio.run(main())


def opens_another(registry: Registry, key: int, id: ArtifactId) -> None:
    with Registry(registry.cache_dir) as other:
        other.need(id)


ACTS = {
    prepares: 12,
    reads: 6,
    needs: 6,
    publishes_a_file: 4,
    dawdles: 4,
    fails: 2,
    retries: 2,
    gives_back: 2,
    prunes: 2,
    removes: 2,
    repairs: 1,
    opens_another: 1,
    prepares_in_a_loop: 1,
}
