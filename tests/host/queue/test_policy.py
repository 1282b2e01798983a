"""The order of executions, as a policy alone decides it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from registry.host.queue.policy import WINDOW, Fifo, Policy, Shares
from registry.host.queue.priority import ExecutionKind

DISPUTE, APPROVAL, SYSTEM, BACKING = ExecutionKind


def picks(policy: Policy, *kinds: ExecutionKind, count: int = WINDOW) -> list[ExecutionKind]:
    """The next picks while each of these kinds always has a job."""
    picked = []
    for _ in range(count):
        lane = policy.choose({policy.lane(kind) for kind in kinds})
        policy.picked(lane)
        picked.append(lane)
    return picked


def test_all_kinds_saturated_share_a_window_8_3_1_0():
    assert Counter(picks(Shares(), *ExecutionKind)) == {DISPUTE: 8, APPROVAL: 3, SYSTEM: 1}


def test_without_system_backing_the_other_backing_takes_its_place():
    picked = Counter(picks(Shares(), DISPUTE, APPROVAL, BACKING))
    assert picked == {DISPUTE: 8, APPROVAL: 3, BACKING: 1}


def test_without_disputes_the_shares_are_9_2_1():
    picked = Counter(picks(Shares(), APPROVAL, SYSTEM, BACKING))
    assert picked == {APPROVAL: 9, SYSTEM: 2, BACKING: 1}


def test_backing_is_not_postponed_to_the_end_of_the_window():
    assert picks(Shares(), APPROVAL, BACKING, count=4) == [APPROVAL, BACKING, APPROVAL, APPROVAL]


def test_a_kind_alone_has_every_pick():
    for kind in ExecutionKind:
        assert picks(Shares(), kind, count=2 * WINDOW) == [kind] * 2 * WINDOW


def test_each_window_begins_anew():
    policy = Shares()
    assert picks(policy, *ExecutionKind) == picks(policy, *ExecutionKind)


def test_asking_changes_nothing():
    policy = Shares()
    assert len({policy.choose(set(ExecutionKind)) for _ in range(WINDOW)}) == 1


def test_first_come_first_served_knows_one_lane_only():
    policy = Fifo()
    assert len({policy.lane(kind) for kind in ExecutionKind}) == 1


@settings(deadline=None)
@given(st.lists(st.sets(st.sampled_from(ExecutionKind), min_size=1), max_size=50))
def test_only_a_kind_that_waits_is_chosen(turns):
    policy = Shares()
    for waiting in turns:
        chosen = policy.choose(waiting)
        assert chosen in waiting
        policy.picked(chosen)
