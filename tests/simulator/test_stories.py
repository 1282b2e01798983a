"""Hypothesis tells what happens, effect by effect, and finds the shortest story that goes wrong.

After each effect the rows are those of the plain model (`model.py`) and every promise is kept
(`invariants.py`); after each rule all is read anew; at the end of each story nothing is lost and
nothing is left over (`ending.py`).
"""

from __future__ import annotations

from contextlib import ExitStack
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from registry import ArtifactId, CleanupConfig, RetryPolicy

from .ending import finish
from .faults import possible
from .host import Host
from .length import LONG
from .schedule import ARTIFACTS, JUMPS
from .surroundings import simulated
from .task import Task
from .users import CLEANUPS, RETRIES, VERBS, Users

FEWEST_HOSTS, MOST_HOSTS, MOST_VERBS = 2, 4, 8
SETTINGS = settings(
    max_examples=2_000 if LONG else 60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# What leads to artifacts, and then to their end, comes more often.
WEIGHTED = [*VERBS, *["claim", "publish", "get_or_prepare"] * 8, *["prune", "need", "check"] * 3]

picks = st.integers(0, 99)
jumps = st.sampled_from(JUMPS)
chances = st.randoms(use_true_random=False)
cleanups, retries = st.sampled_from(CLEANUPS), st.sampled_from(RETRIES)


class Story(RuleBasedStateMachine):
    """A machine with some hosts; whoever is picked by a number goes next."""

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        self.machine = self.open.enter_context(simulated())
        self.users = Users(self.machine)

    def teardown(self) -> None:
        with self.open:
            finish(self.machine)

    def task(self, number: int) -> Task:
        ready = self.machine.ready()
        return ready[number % len(ready)]

    # --- hosts and verbs ------------------------------------------------------------------------

    @precondition(lambda self: len(self.machine.living()) < FEWEST_HOSTS)
    @rule(cleanup=cleanups, retry=retries)
    def open_one_of_the_first(self, cleanup: CleanupConfig, retry: RetryPolicy) -> None:
        self.machine.open_host(cleanup, retry)
        self.machine.drain()

    @precondition(lambda self: FEWEST_HOSTS <= len(self.machine.living()) < MOST_HOSTS)
    @rule(cleanup=cleanups, retry=retries)
    def open_another(self, cleanup: CleanupConfig, retry: RetryPolicy) -> None:
        self.machine.open_host(cleanup, retry)

    @precondition(lambda self: self.usable() and len(self.machine.tasks) < MOST_VERBS)
    @rule(
        verb=st.sampled_from(WEIGHTED),
        number=picks,
        id=st.sampled_from(ARTIFACTS),
        n=st.integers(0, 209),
        at_once=st.booleans(),
    )
    def begin(self, verb: str, number: int, id: ArtifactId, n: int, at_once: bool) -> None:
        hosts, before = self.usable(), len(self.machine.tasks)
        self.users.begin(verb, hosts[number % len(hosts)], id, n)
        if at_once and len(self.machine.tasks) > before:
            self.run(self.machine.tasks[-1], 1000)

    @precondition(lambda self: self.machine.tasks)
    @rule(number=picks, effects=st.sampled_from([1, 2, 4, 8, 1000]))
    def go_on(self, number: int, effects: int) -> None:
        """Let one go on by some effects; by many: it overtakes all others."""
        self.run(self.task(number), effects)

    def usable(self) -> list[Host]:
        return [host for host in self.machine.living() if host.usable]

    def run(self, task: Task, effects: int) -> None:
        for _ in range(effects):
            if task in self.machine.tasks and task.ready(self.machine.clock):
                self.machine.step(task)

    # --- what befalls them ----------------------------------------------------------------------

    @precondition(lambda self: self.machine.tasks)
    @rule(number=picks, way=picks)
    def fail(self, number: int, way: int) -> None:
        """An I/O error, a full disk, a lock, or a commit of which nobody knows whether it was."""
        task = self.task(number)
        assert task.effect is not None
        faults = possible(task.effect)
        self.machine.step(task, faults[way % len(faults)] if faults else None)

    @precondition(lambda self: self.machine.tasks)
    @rule(how=st.sampled_from(["kill", "interrupt", "cut"]), number=picks, chance=chances)
    def end(self, how: str, number: int, chance: Random) -> None:
        """A host is killed, or one of its verbs interrupted, or the power is cut."""
        task = self.task(number)
        if how == "kill":
            self.machine.kill(task.host)
        elif how == "cut":
            self.machine.cut_power(chance.randrange)
        elif not task.interrupted:
            self.machine.interrupt(task, performed=chance.random() < 0.5)

    @precondition(lambda self: self.machine.tasks)
    @rule(micros=jumps, jumps=st.booleans())
    def let_time_pass(self, micros: int, jumps: bool) -> None:
        """A deadline passes; or only the time of day jumps, forth or back."""
        if jumps or micros < 0:
            self.machine.clock.wall += micros
        else:
            self.machine.clock.pass_by(micros)

    @precondition(lambda self: self.whole_files())
    @rule(number=picks, harm=st.sampled_from([None, b"", b"other bytes"]))
    def harm(self, number: int, harm: bytes | None) -> None:
        files = self.whole_files()
        self.machine.harm(files[number % len(files)], harm)

    def whole_files(self) -> list[str]:
        world = self.machine.witness.world
        prepared = sorted(str(row.path) for row in world.rows.values() if row.size)
        return [name for name in prepared if name in world.files]

    # --- what is compared -----------------------------------------------------------------------

    @invariant()
    def the_world_is_what_the_model_says(self) -> None:
        found = self.machine.witness.look_again()
        assert found.rows == self.machine.witness.model.rows


TestStory = pytest.mark.timeout(36_000 if LONG else 900)(Story.TestCase)
TestStory.settings = SETTINGS
