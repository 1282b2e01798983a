"""Each effect of each verb fails in each way that it can, until the verb passes without a fault.

Whatever fails, only documented errors come out, and once a fresh host has maintained the cache
nothing is lost and nothing is left over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeAlias

import pytest

from registry import ArtifactId, DiskFull
from registry.effects import GiveUpReserve

from .ending import finish
from .faults import Fault, possible
from .machine import Machine
from .stage import ABANDONED, FAILED, FRESH, MINE, PREPARED, staged
from .task import Task
from .users import Users

# A verb, the artifact that it is for, and the number that chooses its other arguments.
SCENES: dict[str, tuple[str, ArtifactId, int]] = {
    "claim one that nobody knows": ("claim", FRESH, 0),
    "claim a failed one": ("claim", FAILED, 0),
    "claim one whose host died": ("claim", ABANDONED, 0),
    "publish bytes": ("publish", MINE, 1),
    "publish a file": ("publish", MINE, 0),
    "fail": ("fail", MINE, 0),
    "release": ("release", MINE, 0),
    "extend": ("extend", MINE, 2),
    "need": ("need", PREPARED, 0),
    "open": ("open_file", PREPARED, 0),
    "prepare one that nobody knows": ("get_or_prepare", FRESH, 4),
    "prepare one whose host died": ("get_or_prepare", ABANDONED, 3),
    "fail to prepare": ("get_or_prepare", FRESH, 0),
    "wait for one whose host died": ("wait", ABANDONED, 1),
    "get": ("get", PREPARED, 0),
    "list": ("artifacts", PREPARED, 0),
    "find": ("find", PREPARED, 0),
    "stats": ("stats", PREPARED, 0),
    "hosts": ("hosts", PREPARED, 0),
    "configure": ("configure", PREPARED, 0),
    "remove a prepared one": ("remove", PREPARED, 0),
    "retry": ("retry", FAILED, 0),
    "prune everything": ("prune", PREPARED, 1),
    "check": ("check", PREPARED, 3),
    "repair": ("check", PREPARED, 5),
    "maintain": ("maintain", PREPARED, 0),
    "close": ("close", PREPARED, 0),
}


FaultAt: TypeAlias = Callable[[int, Task], Fault | None]


@contextmanager
def played(scene: str, fault_at: FaultAt) -> Iterator[Machine]:
    """Play a scene to the end of its verb, with a fault where it is wanted."""
    verb, artifact, n = SCENES[scene]
    with staged() as (machine, actor):
        Users(machine).begin(verb, actor, artifact, n)
        (task,) = machine.tasks
        for number in count():
            if task not in machine.tasks:
                break
            machine.ready()  # let time pass, if it sleeps
            fault = fault_at(number, task)
            if fault is Fault.LOCKED:
                machine.clock.pass_by(5_000_000)  # by then the lock is still held
            machine.step(task, fault)
        yield machine


def faults_of(scene: str) -> list[tuple[int, Fault]]:
    """Every fault that can befall the verb, by the number of the effect."""
    found: list[tuple[int, Fault]] = []

    def note(number: int, task: Task) -> None:
        assert task.effect is not None
        found.extend((number, fault) for fault in possible(task.effect))

    with played(scene, note):
        return found


@pytest.mark.parametrize("scene", SCENES)
def test_whichever_effect_fails_nothing_is_lost_or_leaked(scene: str) -> None:
    for number, fault in faults_of(scene):
        with played(scene, once(number, fault)) as machine:
            finish(machine)


@pytest.mark.parametrize("scene", SCENES)
def test_whatever_goes_on_failing_nothing_is_lost_or_leaked(scene: str) -> None:
    for fault in sorted({fault for _, fault in faults_of(scene)}):
        with played(scene, always(fault)) as machine:
            finish(machine)


@pytest.mark.parametrize("scene", ["prune everything", "remove a prepared one", "release"])
def test_on_a_full_disk_the_reserve_makes_room_for_what_makes_room(scene: str) -> None:
    given_up = False

    def full(_: int, task: Task) -> Fault | None:
        nonlocal given_up
        given_up = given_up or isinstance(task.effect, GiveUpReserve)
        return Fault.DISK_FULL if can(task, Fault.DISK_FULL) and not given_up else None

    with played(scene, full) as machine:
        assert given_up
        assert machine.last.error is None
        finish(machine)


def test_a_publication_that_raises_has_not_published_and_a_full_disk_ends_its_claim() -> None:
    for number, fault in faults_of("publish bytes"):
        with played("publish bytes", once(number, fault)) as machine:
            row = machine.witness.world.rows.get((MINE.code_hash, MINE.prep_hash))
            assert (row is not None and row.state == "prepared") == (machine.last.error is None)
            assert row is None or machine.last.error is not DiskFull


def once(number: int, fault: Fault) -> FaultAt:
    """Let the effect of that number go wrong."""
    return lambda at, _: fault if at == number else None


def always(fault: Fault) -> FaultAt:
    """Let every effect go wrong in that way that can."""
    return lambda _, task: fault if can(task, fault) else None


def can(task: Task, fault: Fault) -> bool:
    """Whether the effect that a verb waits for can go wrong in that way."""
    return task.effect is not None and fault in possible(task.effect)
