"""What one host does to a cache that it shares with hosts of other versions.

Every version runs this very file, in an environment of its own: `python sharing.py CACHE SEED`. It
uses what they all have, and nothing of the tests. It says "at work" after so many steps, works on
until its standard input is closed, and then says how many steps it made. What is wrong ends it with
a traceback.
"""

from __future__ import annotations

import os
import random
import select
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from registry import (
    ArtifactBusy,
    ArtifactId,
    Claim,
    PreparationFailed,
    Registry,
    UnknownArtifact,
)

KEYS = 12
SIZE = 1024
STEPS = 40
ON_PURPOSE = "on purpose"


class Worker:
    """A host that does anything, at random."""

    def __init__(self, registry: Registry, chance: random.Random) -> None:
        self._registry = registry
        self._chance = chance
        self._busy = registry.cache_dir.parent / "busy"

    def step(self) -> None:
        """Do one thing to one artifact."""
        code = b"code %d" % self._chance.randrange(KEYS)
        dice = self._chance.random()
        if dice < 0.05:
            self._registry.prune(cache_limit=KEYS * SIZE // 2, min_stale_time=timedelta(0))
        elif dice < 0.2:
            self._claim(code)
        elif dice < 0.3:
            self._remove(code)
        elif dice < 0.4:
            self._registry.need(ArtifactId.of(code))
        else:
            self._use(code)

    def _use(self, code: bytes) -> None:
        """Have an artifact prepared, and read it: pruned since is fine, another's bytes are not."""
        named = ArtifactId.of(code)
        try:
            self._registry.get_or_prepare(named, lambda: self._prepare(code), label=code.decode())
            with self._registry.open_file(named) as file:
                assert file.read() == content(code)
        except UnknownArtifact:
            pass
        except PreparationFailed as failure:
            if ON_PURPOSE not in str(failure):
                raise
            self._registry.retry(named)

    def _claim(self, code: bytes) -> None:
        claim = self._registry.claim(ArtifactId.of(code))
        if not isinstance(claim, Claim):
            return
        end = self._chance.randrange(3)
        if end == 0:
            claim.publish(self._prepare(code))
        elif end == 1:
            claim.fail(ON_PURPOSE)
        else:
            claim.release()

    def _remove(self, code: bytes) -> None:
        with suppress(ArtifactBusy):
            self._registry.remove(ArtifactId.of(code))

    def _prepare(self, code: bytes) -> bytes:
        """Be the only one who prepares this, in all processes of all versions."""
        mark = self._busy / code.hex()
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        try:
            return content(code)
        finally:
            os.unlink(mark)


def content(code: bytes) -> bytes:
    """What the artifact of a code must hold."""
    return code.ljust(SIZE, b".")


def main(cache: Path, seed: int) -> None:
    """Work until told to stop."""
    with Registry(cache) as registry:
        worker = Worker(registry, random.Random(seed))
        steps = 0
        while steps < STEPS or not select.select([sys.stdin], [], [], 0)[0]:
            worker.step()
            steps += 1
            if steps == STEPS:
                print("at work", flush=True)
    print(steps, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
