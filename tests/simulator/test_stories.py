"""Hypothesis tells what happens, effect by effect, and finds the shortest story that goes wrong.

After each effect the rows are those of the plain model (`model.py`) and every promise is kept
(`invariants.py`); after each rule all is read anew; at the end of each story nothing is lost and
nothing is left over (`ending.py`).
"""

from __future__ import annotations

from contextlib import ExitStack
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from registry import ArtifactId, CleanupConfig, RetryPolicy

from .ending import finish
from .faults import possible
from .host import Host
from .invariants import Promise, Violation
from .length import LONG
from .mutants import unlinking_before_the_commit
from .schedule import ARTIFACTS, JUMPS
from .surroundings import simulated
from .task import Task
from .users import CLEANUPS, RETRIES, VERBS, Users

MOST_HOSTS, MOST_VERBS = 3, 6
SETTINGS = settings(
    max_examples=2_000 if LONG else 60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# What leads to artifacts, and then to their end, comes more often.
WEIGHTED = [*VERBS, *["claim", "publish", "get_or_prepare"] * 8, *["prune", "need", "check"] * 3]

picks = st.integers(0, 99)
befalls = st.sampled_from([*["fault"] * 6, "interruption", "interruption", "kill", "power cut"])
chances = st.randoms(use_true_random=False)
cleanups, retries = st.sampled_from(CLEANUPS), st.sampled_from(RETRIES)


class Story(RuleBasedStateMachine):
    """A machine with some hosts; whoever is picked by a number goes next."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = ExitStack()
        self.machine = self.stage.enter_context(simulated())
        self.users = Users(self.machine)

    def teardown(self) -> None:
        with self.stage:
            finish(self.machine)

    def task(self, number: int) -> Task:
        ready = self.machine.ready()
        return ready[number % len(ready)]

    # --- hosts and verbs ------------------------------------------------------------------------

    @precondition(lambda self: len(self.machine.living()) < MOST_HOSTS)
    @rule(cleanup=cleanups, retry=retries, at_once=st.booleans())
    def open(self, cleanup: CleanupConfig, retry: RetryPolicy, at_once: bool) -> None:
        self.machine.open_host(cleanup, retry)
        if at_once:
            self.run(self.machine.tasks[-1], 1000)

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
    @rule(number=picks, effects=st.sampled_from([1, 2, 4, 8, 16, 1000]))
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
    @rule(befalls=befalls, number=picks, chance=chances)
    def suffer(self, befalls: str, number: int, chance: Random) -> None:
        """The effect that one waits for fails in a way that it can, or does not end at all."""
        task = self.task(number)
        assert task.effect is not None
        match befalls:
            case "fault":
                ways = possible(task.effect)
                self.machine.step(task, chance.choice(ways) if ways else None)
            case "interruption" if not task.interrupted:
                self.machine.interrupt(task, performed=chance.random() < 0.5)
            case "kill":
                self.machine.kill(task.host)
            case "power cut":
                self.machine.cut_power(chance.randrange)

    @precondition(lambda self: self.machine.tasks)
    @rule(micros=st.sampled_from(JUMPS), jumps=st.booleans())
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


def test_a_story_is_found_in_which_a_file_is_unlinked_before_the_commit() -> None:
    told = settings(
        SETTINGS,
        max_examples=1_000,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        print_blob=False,
    )
    with unlinking_before_the_commit(), pytest.raises(Violation) as caught:
        run_state_machine_as_test(Story, settings=told)
    assert caught.value.promise is Promise.LIVE_FILES_STAY
