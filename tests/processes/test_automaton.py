"""The automaton of the torture is itself proved: each thing that no artifact does is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import xxhash

from processes.automaton import Automaton, Illegal, Line, Seen, watch
from processes.traces import claimed, code_id
from registry import Registry, State

ID = code_id("watched")
CLAIMED = Seen(State.PREPARING, "t1", "p1", 0, "h1")
TAKEN_OVER = Seen(State.PREPARING, "t2", "p2", 1, "h2")
PREPARED = Seen(State.PREPARED, None, "p1", 0, None, "right")
FAILED = Seen(State.FAILED, None, None, 1)


@pytest.mark.parametrize(
    "story",
    [
        [CLAIMED, CLAIMED, PREPARED, PREPARED, None],
        [CLAIMED, TAKEN_OVER, PREPARED._replace(path="p2"), None],
        [CLAIMED, FAILED, FAILED._replace(num_failures=0), TAKEN_OVER._replace(num_failures=0)],
        [CLAIMED, FAILED, TAKEN_OVER, FAILED, None],
        [CLAIMED, None, TAKEN_OVER._replace(num_failures=0)],
    ],
)
def test_what_artifacts_do_is_accepted(story: list[Seen | None]) -> None:
    tell([None, *story])


@pytest.mark.parametrize(
    ("story", "fault"),
    [
        ([PREPARED], "no event leads there"),
        ([CLAIMED, PREPARED, CLAIMED], "no event leads there"),
        ([CLAIMED, PREPARED, FAILED], "no event leads there"),
        ([CLAIMED, FAILED, PREPARED], "no event leads there"),
        ([CLAIMED, None, CLAIMED], "an old token or file name"),
        ([CLAIMED, TAKEN_OVER, PREPARED], "not the one that was claimed"),
        ([CLAIMED, TAKEN_OVER._replace(num_failures=0)], "miscounted at a claim"),
        ([CLAIMED, CLAIMED._replace(host_id="h2")], "changed more than a deadline"),
        ([CLAIMED, PREPARED._replace(checksum="wrong")], "the bytes of another"),
        ([CLAIMED, PREPARED._replace(token="t1")], "still claimed"),
        ([CLAIMED, FAILED._replace(path="p1")], "still has a claim or a file"),
        ([CLAIMED, FAILED._replace(num_failures=3)], "miscounted at a failure"),
    ],
)
def test_what_no_artifact_does_is_refused(story: list[Seen | None], fault: str) -> None:
    with pytest.raises(Illegal, match=fault):
        tell([None, *story])


def test_a_gap_in_the_log_is_refused() -> None:
    with pytest.raises(Illegal, match="nothing said that it had become so"):
        Automaton({ID: "right"}).take(Line(ID, CLAIMED, PREPARED))


def test_the_triggers_see_each_change(cache: Path) -> None:
    right = xxhash.xxh3_128_hexdigest(b"compiled")
    automaton = Automaton({ID: right})
    with Registry(cache) as registry:
        watch(cache)
        claimed(registry, ID).fail("once")
        registry.retry(ID)
        claimed(registry, ID).publish(b"compiled")
        registry.remove(ID)
    assert automaton.follow(cache) == 6
    assert automaton.follow(cache) == 6, "nothing is read twice"
    assert automaton.moves[State.PREPARING, State.PREPARED] == 1


def tell(story: list[Seen | None]) -> None:
    automaton = Automaton({ID: "right"})
    for old, new in pairwise(story):
        automaton.take(Line(ID, old, new))
