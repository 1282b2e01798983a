"""The longest story: processes do everything at once, and are killed and stopped all the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from processes.crew import Crew
from processes.torture import Tally, assert_whole, torture

PROCESSES, KEYS = 8, 40
KILLS, STOPS, TRANSITIONS = 400, 80, 15_000


def enough(tally: Tally) -> bool:
    done = tally.kills >= KILLS and tally.stops >= STOPS
    return done and tally.transitions >= TRANSITIONS


@pytest.mark.timeout(900)  # about half a minute, where a core is free for each of two
def test_whatever_is_killed_or_stopped_the_cache_stays_whole(cache: Path, crew: Crew) -> None:
    tally = torture(crew, cache, enough=enough, processes=PROCESSES, keys=KEYS)
    prepared = assert_whole(cache, KEYS)
    assert tally.longest_wal < 8 * 1024**2
    print(f"{tally}, {prepared} artifacts are prepared")
