"""In which order executions are picked: the policy is an object that the execute queue asks.

Jobs wait in lanes, first come first served within each. The policy says in which lane a job
waits, and whose turn it is among the lanes where jobs wait. It never sees a job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from typing import Protocol, runtime_checkable

from registry.host.queue.priority import ExecutionKind

__all__ = ["SHARES", "WINDOW", "Fifo", "Policy", "Shares", "as_policy"]

# As many executions as four cores finish in the 6 seconds of a block, at 2 seconds each: in every
# block's time the shares are granted again.
WINDOW = 12
# Percent of what is left once the weightier kinds have taken theirs. Of the rest and not of the
# whole, since most kinds are absent most of the time: approvals may then take 80, not 24.
SHARES: Mapping[ExecutionKind, int] = {
    ExecutionKind.DISPUTE: 70,
    ExecutionKind.APPROVAL: 80,
    ExecutionKind.BACKING_SYSTEM_PARAS: 100,
    ExecutionKind.BACKING: 100,
}


@runtime_checkable
class Policy(Protocol):
    """Say where a job waits, and which lane's turn it is."""

    def lane(self, kind: ExecutionKind) -> Hashable:
        """Name the lane in which jobs of this kind wait."""

    def choose(self, lanes: Collection[Hashable]) -> Hashable:
        """Choose among the lanes in which jobs wait; to ask changes nothing."""

    def picked(self, lane: Hashable) -> None:
        """Take note that a job of this lane got a worker."""


def as_policy(value: object) -> Policy:
    """Check that an object can be asked as a policy; else raises TypeError."""
    if isinstance(value, type) or not isinstance(value, Policy):
        raise TypeError(f"policy is Fifo(), Shares(), or an object like them, not {value!r:.80}")
    return value


class Fifo:
    """First come, first served, for every kind."""

    def lane(self, kind: ExecutionKind) -> Hashable:  # noqa: ARG002
        """Name the one lane there is."""
        return None

    def choose(self, lanes: Collection[Hashable]) -> Hashable:
        """Choose the one lane there is."""
        return next(iter(lanes))

    def picked(self, lane: Hashable) -> None:
        """Take no note of it."""


class Shares:
    """The weightier kind first, until it has had its share of the last picks.

    Of the picks that it and the lighter kinds had in this window, a kind may have its `SHARES`
    percentage; then it is the lighter kinds' turn, as far as any waits. A kind with nothing to do
    gives its share away. The count restarts every `WINDOW` picks.

    NOT guaranteed: a turn for `BACKING` while all the three others are saturated.
    """

    def __init__(self) -> None:
        self._picks: Counter[ExecutionKind] = Counter()

    def lane(self, kind: ExecutionKind) -> Hashable:
        """Name a lane of its own for each kind."""
        return kind

    def choose(self, lanes: Collection[Hashable]) -> Hashable:
        """Choose the weightiest kind below its share, else the weightiest."""
        waiting = [kind for kind in ExecutionKind if kind in lanes]
        return next((kind for kind in waiting if not self._sated(kind)), waiting[0])

    def picked(self, lane: Hashable) -> None:
        """Count the pick, or begin a new window after the last one."""
        assert isinstance(lane, ExecutionKind)
        self._picks[lane] += 1
        if self._picks.total() >= WINDOW:
            self._picks.clear()

    def _sated(self, kind: ExecutionKind) -> bool:
        order = list(ExecutionKind)
        shared = sum(self._picks[lighter] for lighter in order[order.index(kind) :])
        return shared > 0 and self._picks[kind] * 100 >= SHARES[kind] * shared
