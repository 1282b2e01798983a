"""The longest story: eight processes do everything at once, are killed and stopped all the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from processes.automaton import LEGAL
from processes.crew import Crew
from processes.torture import Tally, torture

KILLS, STOPS, TRANSITIONS = 400, 80, 15_000
# It takes about a minute where nothing else runs, and takes as long as it needs where much does.
MOST_SECONDS = 840


def enough(tally: Tally) -> bool:
    assert tally.seconds < MOST_SECONDS, f"not enough happens: {tally}"
    dealt = tally.kills >= KILLS and tally.stops >= STOPS
    return dealt and tally.transitions >= TRANSITIONS


@pytest.mark.timeout(MOST_SECONDS + 60)
def test_whatever_is_killed_and_stopped_the_cache_stays_whole(cache: Path, crew: Crew) -> None:
    tally = torture(crew, cache, until=enough)

    assert tally.moves.keys() == {move for moves in LEGAL.values() for move in moves}
    assert tally.longest_wal < 8 * 1024**2
    print(tally)
