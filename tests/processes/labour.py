"""What one process of the torture does until it is killed: at random, whatever one can do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path

from processes.crew import Line
from processes.proof import maker_of, proof
from processes.traces import code_id
from registry import (
    ArtifactBusy,
    AsyncRegistry,
    Claim,
    ClaimLost,
    CleanupConfig,
    PreparationFailed,
    PrepareError,
    Registry,
    RegistryBusy,
    State,
    UnknownArtifact,
    WaitTimeout,
)

__all__ = ["labours"]

SMALL_AND_FRESH = CleanupConfig(cache_limit=100_000, min_stale_time=timedelta(0))
# What a verb may answer while others work, die, or are stopped with the write lock in their hands.
REFUSALS = (
    ArtifactBusy,
    ClaimLost,
    PreparationFailed,
    RegistryBusy,
    UnknownArtifact,
    WaitTimeout,
)
A_MOMENT = timedelta(milliseconds=50)


def labours(line: Line, cache: Path, keys: int, seed: float) -> None:
    """Open handle after handle and work with each for a while, for ever; say so at each verb."""
    chance = random.Random(seed)
    while True:
        with suppress(*REFUSALS), Registry(cache, cleanup=SMALL_AND_FRESH) as registry:
            worker = Worker(registry, chance)
            for _ in range(chance.randrange(100)):
                (act,) = chance.choices(list(ACTS), list(ACTS.values()))
                with suppress(*REFUSALS):
                    act(worker, chance.randrange(keys))
                line.say(1)


@dataclass
class Worker:
    """A handle, and who works with it."""

    registry: Registry
    chance: random.Random
    numbers: count[int] = field(default_factory=count)

    def made(self, key: int) -> bytes:
        """Prepare: what proves of which key it is, and who made it."""
        return proof(key, self.registry._handle.host_id, next(self.numbers))

    def span(self) -> timedelta:
        """For how long to claim: so short that who is stopped meanwhile comes too late."""
        return self.chance.choice((timedelta(0), A_MOMENT, timedelta(minutes=1)))

    def claimed(self, key: int) -> Claim | None:
        claim = self.registry.claim(code_id(key), timeout=self.span(), label=f"key {key}")
        return claim if isinstance(claim, Claim) else None


def prepares(worker: Worker, key: int) -> None:
    def prepare() -> bytes:
        match worker.chance.randrange(20):
            case 0:
                raise ValueError("it may be tried again")
            case 1:
                raise PrepareError("it may not", deterministic=True)
            case _:
                return worker.made(key)

    worker.registry.get_or_prepare(code_id(key), prepare, timeout=A_MOMENT)
    reads(worker, key)


def reads(worker: Worker, key: int) -> None:
    with worker.registry.open_file(code_id(key)) as file:
        maker_of(key, file.read())


def needs(worker: Worker, key: int) -> None:
    """Need it, and read it by its path, as long as it is there."""
    artifact = worker.registry.need(code_id(key))
    if artifact is not None and artifact.path is not None:
        with suppress(FileNotFoundError):  # pruned meanwhile; a name is never used again
            maker_of(key, artifact.path.read_bytes())


def waits(worker: Worker, key: int) -> None:
    worker.registry.wait(code_id(key), timeout=A_MOMENT)


def publishes(worker: Worker, key: int) -> None:
    claim = worker.claimed(key)
    if claim is not None:
        claim.publish(worker.made(key))


def publishes_a_file(worker: Worker, key: int) -> None:
    claim = worker.claimed(key)
    if claim is not None:
        claim.extend(worker.span())
        source = worker.registry.cache_dir / f"source-{worker.chance.getrandbits(64):x}"
        source.write_bytes(worker.made(key))
        claim.publish(source)


def fails(worker: Worker, key: int) -> None:
    claim = worker.claimed(key)
    if claim is not None:
        claim.fail("as it should", retryable=worker.chance.random() < 0.7)


def gives_back(worker: Worker, key: int) -> None:
    claim = worker.claimed(key)
    if claim is not None:
        claim.release()


def drops(worker: Worker, key: int) -> None:
    """Claim, and forget the claim: it is given back at the next verb."""
    worker.claimed(key)


def retries(worker: Worker, key: int) -> None:
    worker.registry.retry(code_id(key))


def prunes(worker: Worker, key: int) -> None:
    worker.registry.prune(cache_limit=worker.chance.choice((0, 50_000, 100_000)))


def removes(worker: Worker, key: int) -> None:
    worker.registry.remove(code_id(key))


def repairs(worker: Worker, key: int) -> None:
    worker.registry.check(repair=True)


def lists(worker: Worker, key: int) -> None:
    states = [artifact.state for artifact in worker.registry.artifacts()]
    assert {*states} <= {*State}


def prepares_in_a_loop(worker: Worker, key: int) -> None:
    async def main() -> None:
        async with AsyncRegistry(worker.registry.cache_dir, cleanup=SMALL_AND_FRESH) as other:
            number = next(worker.numbers)
            made = proof(key, other._handle.host_id, number)
            await other.get_or_prepare(code_id(key), lambda: made, timeout=A_MOMENT)

    asyncio.run(main())


def opens_another(worker: Worker, key: int) -> None:
    with Registry(worker.registry.cache_dir) as other:
        needs(Worker(other, worker.chance), key)


ACTS: dict[Callable[[Worker, int], None], int] = {
    prepares: 12,
    reads: 4,
    needs: 4,
    waits: 1,
    publishes: 6,
    publishes_a_file: 4,
    fails: 3,
    gives_back: 2,
    drops: 2,
    retries: 6,
    prunes: 2,
    removes: 2,
    repairs: 1,
    lists: 1,
    opens_another: 1,
    prepares_in_a_loop: 1,
}
