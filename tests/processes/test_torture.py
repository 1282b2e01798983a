"""The longest story: ten processes do everything at once, and are killed all the time."""

from __future__ import annotations

import os
from pathlib import Path

from processes.crew import Crew
from processes.torture import content, torture
from processes.traces import assert_clean, code_id

SECONDS = 6.0


def test_whatever_is_killed_the_cache_stays_whole(cache: Path, crew: Crew) -> None:
    tally = torture(crew, cache, seconds=SECONDS, processes=10, keys=60)

    artifacts = assert_clean(cache)
    assert tally.kills > 0
    assert tally.longest_wal < 8 * 1024**2
    right = {code_id(key): content(key) for key in range(60)}
    assert {a.id: a.path.read_bytes() for a in artifacts if a.path} == {
        artifact.id: right[artifact.id] for artifact in artifacts
    }
    assert {*os.listdir(cache / "artifacts")} == {a.path.name for a in artifacts if a.path}
    print(f"{tally.kills} kills, {tally.steps} steps, -wal {tally.longest_wal} bytes at most")
