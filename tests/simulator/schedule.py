"""A run from a seed: users begin verbs, verbs take turns, and things go wrong, all by chance.

A seed decides everything, so a failing one replays exactly: `python -m tests.simulator SEED`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from registry import ArtifactId

from .ending import finish
from .faults import possible
from .invariants import Violation
from .machine import Machine
from .surroundings import simulated
from .task import Task
from .users import CLEANUPS, RETRIES, VERBS, Users

__all__ = ["ARTIFACTS", "MIXTURES", "Run", "run"]

ARTIFACTS = tuple(ArtifactId.of(code) for code in (b"one", b"two", b"three"))
HOUR = 3600 * 1_000_000
MONTH = 30 * 24 * HOUR
JUMPS = (
    *(1_000_000, -1_000_000, 16 * 60 * 1_000_000, HOUR + 1, -HOUR, 25 * HOUR),
    *(MONTH, -MONTH),
)


@dataclass(frozen=True)
class Mixture:
    """How often what happens: weights of the verbs, and of all else by the thousand turns."""

    verbs: Mapping[str, int]
    hosts: int = 3
    most_verbs: int = 6  # at once
    go_on: int = 600
    begin: int = 200
    fault: int = 25
    interrupt: int = 5
    kill: int = 5
    jump: int = 5
    harm: int = 3
    cut: int = 2


MIXTURES = {
    "anything": Mixture(
        {
            **dict.fromkeys(VERBS, 2),
            "claim": 10,
            "publish": 16,
            "get_or_prepare": 10,
            "need": 8,
            "prune": 6,
            "check": 4,
        }
    ),
    # Few hosts and few verbs, so that much is published, and pruned, between two power cuts.
    "power cuts": Mixture(
        {"claim": 10, "publish": 20, "prune": 10, "need": 2, "remove": 2},
        hosts=2,
        most_verbs=3,
        fault=0,
        interrupt=0,
        kill=0,
        jump=10,
        harm=0,
        cut=5,
    ),
    # Many who want the same few artifacts, and what they fail by.
    "contention": Mixture(
        {
            "claim": 20,
            "publish": 20,
            "extend": 5,
            "fail": 5,
            "get_or_prepare": 10,
            "wait": 10,
            "maintain": 3,
            "check": 3,
        },
        most_verbs=10,
        fault=15,
        jump=15,
        cut=0,
    ),
}


@dataclass(frozen=True)
class Run:
    """What a run did, for the record."""

    seed: int
    steps: int
    digest: str
    counts: Counter[str]
    trace: list[str]


def run(seed: int, mixture: str = "anything", turns: int = 300) -> Run:
    """Run from a seed; raises `Violation`, with the last lines of the trace as notes."""
    with simulated() as machine:
        try:
            _Chaos(machine, random.Random(seed), MIXTURES[mixture]).run(turns)
            finish(machine, closing=seed)
        except Violation as violation:
            violation.add_note(f"seed {seed} of {mixture!r}, after {machine.steps} steps:")
            violation.add_note("\n".join(machine.trace[-60:]))
            raise
        return Run(seed, machine.steps, machine.digest(), machine.counts, machine.trace)


class _Chaos:
    def __init__(self, machine: Machine, chance: random.Random, mixture: Mixture) -> None:
        self._machine = machine
        self._users = Users(machine)
        self._random = chance
        self._mixture = mixture
        self._last: Task | None = None
        self._kinds: dict[Callable[[], None], int] = {
            self._begin: mixture.begin,
            self._fault: mixture.fault,
            self._interrupt: mixture.interrupt,
            self._kill: mixture.kill,
            self._jump: mixture.jump,
            self._harm: mixture.harm,
            self._cut: mixture.cut,
        }
        self._kinds[self._step] = max(0, 1000 - sum(self._kinds.values()))

    def run(self, turns: int) -> None:
        for _ in range(turns):
            if len(self._machine.living()) < self._mixture.hosts:
                self._open()
            (turn,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
            turn()

    def _open(self) -> None:
        cleanup, retry = self._random.choice(CLEANUPS), self._random.choice(RETRIES)
        self._machine.open_host(cleanup, retry)

    def _begin(self) -> None:
        if len(self._machine.tasks) >= self._mixture.most_verbs:
            self._step()
            return
        verbs = self._mixture.verbs
        (verb,) = self._random.choices(list(verbs), list(verbs.values()))
        host = self._random.choice(self._machine.living())
        self._users.begin(verb, host, self._random.choice(ARTIFACTS), self._random.randrange(210))

    def _step(self) -> None:
        """Go on with the same verb now and then: some races need one to overtake by far."""
        ready = self._machine.ready()
        if not ready:
            return
        if self._last not in ready or self._random.randrange(1000) >= self._mixture.go_on:
            self._last = self._random.choice(ready)
        self._machine.step(self._last)

    def _fault(self) -> None:
        ready = [task for task in self._machine.ready() if task.effect and possible(task.effect)]
        if ready:
            task = self._random.choice(ready)
            assert task.effect is not None
            self._machine.step(task, self._random.choice(possible(task.effect)))

    def _interrupt(self) -> None:
        if self._machine.tasks:
            task = self._random.choice(self._machine.tasks)
            if not task.interrupted:
                self._machine.interrupt(task, performed=self._random.random() < 0.5)

    def _kill(self) -> None:
        self._machine.kill(self._random.choice(self._machine.living()))

    def _jump(self) -> None:
        self._machine.counts["clock jumps"] += 1
        micros = self._random.choice(JUMPS)
        if micros > 0 and self._random.random() < 0.5:
            self._machine.clock.pass_by(micros)  # time passed: no jump, but nothing was done in it
        else:
            self._machine.clock.wall += micros

    def _harm(self) -> None:
        prepared = [row for row in self._machine.witness.world.rows.values() if row.size]
        files = [
            (str(row.path), self._machine.witness.world.files.get(str(row.path)))
            for row in prepared
        ]
        if files:
            name, data = self._random.choice(files)
            if data:
                flipped = bytes([data[0] ^ 1]) + data[1:]
                self._machine.harm(name, self._random.choice([None, flipped, data[:5]]))

    def _cut(self) -> None:
        self._machine.cut_power(self._random.randrange)
