"""The automaton of the torture is itself proved: each thing that no artifact does is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from processes.automaton import Automaton, Illegal, Line, Seen, watch
from processes.proof import maker_of, proof
from processes.traces import claimed, code_id
from registry import Registry

ID = code_id("watched")
NO_CLAIM = {"token": None, "host_id": None, "claimed_at": None, "deadline": None}
FAILURE = {"error": "no luck", "error_kind": "test", "last_time_failed": 15, "retry_at": 30}
CLAIMED = Seen("preparing", "p1", host_id="h1", token="t1", claimed_at=10, deadline=20)
EXTENDED = CLAIMED._replace(deadline=90)
TAKEN_OVER = Seen(
    "preparing",
    "p2",
    num_failures=1,
    **{**FAILURE, "error_kind": "deadline"},
    host_id="h2",
    token="t2",
    claimed_at=20,
    deadline=40,
)
PREPARED = Seen("prepared", "p1", 8, "sum", 12)
FAILED = Seen("failed", num_failures=1, **FAILURE)
RETRIED = FAILED._replace(num_failures=0, retry_at=16)
AGAIN = FAILED._replace(
    state="preparing", path="p2", host_id="h2", token="t2", claimed_at=30, deadline=40
)


@pytest.mark.parametrize(
    "story",
    [
        [CLAIMED, EXTENDED, PREPARED, PREPARED._replace(last_time_needed=50), None],
        [CLAIMED, TAKEN_OVER, PREPARED._replace(path="p2"), None],
        [CLAIMED, TAKEN_OVER._replace(error_kind="host_died", claimed_at=11)],
        [CLAIMED, FAILED, AGAIN, FAILED],
        [CLAIMED, FAILED, RETRIED, None],
        [CLAIMED, None, CLAIMED._replace(path="p3", token="t3"), None],
        [CLAIMED, FAILED._replace(error_kind="deadline", last_time_failed=20)],
    ],
)
def test_what_artifacts_do_is_accepted(story: list[Seen | None]) -> None:
    tell([None, *story])


@pytest.mark.parametrize(
    "story",
    {
        "published unclaimed": [PREPARED],
        "failed unclaimed": [FAILED],
        "prepared, and claimed": [CLAIMED, PREPARED, AGAIN],
        "prepared, and failed": [CLAIMED, PREPARED, FAILED],
        "failed, and published": [CLAIMED, FAILED, PREPARED],
        "claimed too soon": [CLAIMED, FAILED, AGAIN._replace(claimed_at=29)],
        "claimed though it may never be": [CLAIMED, FAILED._replace(retry_at=None), AGAIN],
        "claimed and forgiven": [CLAIMED, FAILED, AGAIN._replace(num_failures=0)],
        "claimed with failures": [CLAIMED._replace(num_failures=1)],
        "claimed by nobody": [CLAIMED._replace(host_id=None)],
        "taken over too soon": [CLAIMED, TAKEN_OVER._replace(claimed_at=19)],
        "taken over though extended": [CLAIMED, EXTENDED, TAKEN_OVER],
        "taken over uncounted": [CLAIMED, TAKEN_OVER._replace(num_failures=0)],
        "taken over, same file": [CLAIMED, TAKEN_OVER._replace(path="p1")],
        "taken over without a token": [CLAIMED, TAKEN_OVER._replace(token="t1")],
        "taken over too often": [
            CLAIMED,
            *(
                TAKEN_OVER._replace(
                    path=f"q{n}", token=f"u{n}", claimed_at=20 * n, deadline=20 * n, num_failures=n
                )
                for n in range(1, 7)
            ),
        ],
        "published after a takeover": [CLAIMED, TAKEN_OVER, PREPARED],
        "published and still claimed": [CLAIMED, PREPARED._replace(token="t1")],
        "published and not forgiven": [CLAIMED, PREPARED._replace(num_failures=1)],
        "published nothing": [CLAIMED, PREPARED._replace(size=0)],
        "extended into another's": [CLAIMED, CLAIMED._replace(host_id="h2")],
        "failed with a file": [CLAIMED, FAILED._replace(path="p1")],
        "failed uncounted": [CLAIMED, FAILED._replace(num_failures=0)],
        "failed late, but in time": [CLAIMED, FAILED._replace(error_kind="deadline")],
        "given back, and forgotten": [CLAIMED, FAILED, AGAIN, None],
        "given back, and another failure": [CLAIMED, FAILED, AGAIN, FAILED._replace(error="x")],
        "another file": [CLAIMED, PREPARED, PREPARED._replace(checksum="other")],
        "retried, and forgotten": [CLAIMED, FAILED, RETRIED._replace(error=None)],
        "an old token": [CLAIMED, None, CLAIMED._replace(path="p3")],
        "an old name": [CLAIMED, None, CLAIMED._replace(token="t3")],
    }.items(),
    ids=lambda story: story[0],
)
def test_what_no_artifact_does_is_refused(story: tuple[str, list[Seen | None]]) -> None:
    *legal, illegal = story[1]
    tell([None, *legal])
    with pytest.raises(Illegal):
        tell([None, *legal, illegal])


def test_a_gap_in_the_log_is_refused() -> None:
    with pytest.raises(Illegal, match="nothing said that it had become so"):
        Automaton().take(Line(ID, CLAIMED, PREPARED))


def test_the_dead_and_the_makers_are_remembered() -> None:
    died = TAKEN_OVER._replace(error_kind="host_died")
    automaton = tell([None, CLAIMED, died, PREPARED._replace(path="p2")])
    assert automaton.said_dead == {"h1"}
    assert automaton.makers == {ID: "h2"}


def test_the_triggers_see_each_change(cache: Path) -> None:
    automaton = Automaton()
    with Registry(cache) as registry:
        watch(cache)
        claimed(registry, ID).fail("once")
        registry.retry(ID)
        claimed(registry, ID).publish(b"compiled")
        registry.remove(ID)
    for _ in range(2):  # nothing is read twice
        automaton.follow(cache)
        assert sorted(automaton.moves) == [
            "claim",
            "claim again",
            "fail or reap",
            "prune, remove or discard",
            "publish",
            "retry",
        ]
        assert automaton.moves.total() == 6


def test_what_is_no_longer_as_it_was_made_proves_nothing() -> None:
    made = proof(3, "host", 7)
    assert maker_of(3, made) == "host"
    mixed = proof(3, "host", 8)[:50] + made[50:]
    for key, data in ((4, made), (3, made[:-1]), (3, made + b"."), (3, mixed), (3, b"")):
        with pytest.raises(AssertionError):
            maker_of(key, data)


def tell(story: list[Seen | None]) -> Automaton:
    automaton = Automaton()
    for old, new in pairwise(story):
        automaton.take(Line(ID, old, new))
    return automaton
