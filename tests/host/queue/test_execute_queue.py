"""The execute queue, without a worker, a disk, or a clock but the one handed in."""

from __future__ import annotations

import logging

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from registry.errors import InvalidSetting
from registry.host.queue.events import (
    MAX_DELIVERIES,
    Answer,
    Instruction,
    JobConcluded,
    KillWorker,
    SpawnWorker,
    StartJob,
    Withdraw,
    WorkerDelayed,
    WorkerDied,
    WorkerSpawned,
)
from registry.host.queue.execute_queue import MAX_KEEP_WAITING, Enqueue, ExecuteQueue
from registry.host.queue.policy import Fifo, Shares
from registry.host.queue.priority import ExecutionKind

NOW = 1000.0
LATER = NOW + MAX_KEEP_WAITING


def working_queue(workers: int = 1) -> ExecuteQueue:
    """A queue whose worker 1, of environment "red", is busy with "first"."""
    queue = ExecuteQueue(workers=workers)
    assert queue.handle(Enqueue("first", "red"), NOW) == [SpawnWorker(1, "red")]
    assert queue.handle(WorkerSpawned(1), NOW) == [StartJob(1, "first")]
    return queue


def test_a_worker_is_spawned_for_a_job_and_starts_with_it():
    queue = ExecuteQueue(workers=2)
    assert queue.handle(Enqueue("a", "red"), NOW) == [SpawnWorker(1, "red")]
    assert queue.handle(Enqueue("b", "blue"), NOW) == [SpawnWorker(2, "blue")]
    assert queue.handle(WorkerSpawned(2), NOW) == [StartJob(2, "b")]
    assert queue.handle(WorkerSpawned(1), NOW) == [StartJob(1, "a")]


def test_without_a_free_place_a_job_waits():
    queue = working_queue()
    assert queue.handle(Enqueue("second", "red"), NOW) == []
    assert queue.handle(JobConcluded(1, "done"), NOW) == [
        Answer("first", "done"),
        StartJob(1, "second"),
    ]


def test_an_idle_worker_of_the_environment_is_preferred_to_a_new_one():
    queue = working_queue(workers=2)
    queue.handle(JobConcluded(1, None), NOW)
    assert queue.handle(Enqueue("second", "red"), NOW) == [StartJob(1, "second")]


def test_an_idle_worker_of_another_environment_is_replaced():
    queue = working_queue(workers=2)
    queue.handle(JobConcluded(1, None), NOW)
    assert queue.handle(Enqueue("second", "blue"), NOW) == [KillWorker(1), SpawnWorker(2, "blue")]


def test_a_worker_that_just_finished_prefers_its_own_environment_to_the_eldest_job():
    queue = working_queue()
    queue.handle(Enqueue("eldest", "blue"), NOW)
    queue.handle(Enqueue("same", "red"), NOW)
    assert queue.handle(JobConcluded(1, "done"), LATER - 0.1)[1:] == [StartJob(1, "same")]


def test_the_eldest_job_is_not_kept_waiting_for_ever():
    queue = working_queue()
    queue.handle(Enqueue("eldest", "blue"), NOW)
    queue.handle(Enqueue("same", "red"), NOW)
    assert queue.handle(JobConcluded(1, "done"), LATER)[1:] == [
        KillWorker(1),
        SpawnWorker(2, "blue"),
    ]


def test_a_worker_that_died_with_its_job_leaves_its_place_to_the_next():
    queue = working_queue()
    queue.handle(Enqueue("second", "red"), NOW)
    assert queue.handle(JobConcluded(1, "it died", alive=False), NOW) == [
        Answer("first", "it died"),
        SpawnWorker(2, "red"),
    ]


def test_a_job_whose_worker_died_before_receiving_it_goes_to_the_front():
    queue = working_queue()
    queue.handle(Enqueue("second", "red"), NOW)
    assert queue.handle(WorkerDied(1), NOW) == [SpawnWorker(2, "red")]
    assert queue.handle(WorkerSpawned(2), NOW) == [StartJob(2, "first")]


def test_a_job_that_no_worker_lives_to_receive_is_answered():
    queue = working_queue()
    for worker in range(1, MAX_DELIVERIES):
        queue.handle(WorkerDied(worker, "lost"), NOW)
        assert queue.handle(WorkerSpawned(worker + 1), NOW) == [StartJob(worker + 1, "first")]
    assert queue.handle(WorkerDied(MAX_DELIVERIES, "lost"), NOW) == [Answer("first", "lost")]


def test_an_idle_worker_that_died_makes_room():
    queue = working_queue()
    queue.handle(JobConcluded(1, None), NOW)
    assert queue.handle(WorkerDied(1), NOW) == []
    assert queue.handle(Enqueue("second", "red"), NOW) == [SpawnWorker(2, "red")]


def test_a_withdrawn_job_that_waits_costs_no_execution():
    queue = working_queue()
    queue.handle(Enqueue("second", "red"), NOW)
    assert queue.handle(Withdraw("second"), NOW) == []
    assert queue.handle(JobConcluded(1, "done"), NOW) == [Answer("first", "done")]


def test_a_withdrawn_job_that_runs_is_killed_with_its_worker():
    queue = working_queue()
    queue.handle(Enqueue("second", "red"), NOW)
    assert queue.handle(Withdraw("first"), NOW) == [KillWorker(1), SpawnWorker(2, "red")]
    assert queue.handle(JobConcluded(1, "too late"), NOW) == []


def test_a_worker_whose_job_was_withdrawn_while_it_started_takes_what_waits():
    queue = ExecuteQueue(workers=1)
    queue.handle(Enqueue("first", "red"), NOW)
    queue.handle(Enqueue("second", "red"), NOW)
    assert queue.handle(Withdraw("first"), NOW) == []
    assert queue.handle(WorkerSpawned(1), NOW) == [StartJob(1, "second")]


def test_a_job_whose_worker_is_delayed_goes_to_whichever_is_free_first():
    queue = working_queue(workers=2)
    assert queue.handle(Enqueue("second", "red"), NOW) == [SpawnWorker(2, "red")]
    assert queue.handle(WorkerDelayed(2), NOW) == []
    assert queue.handle(JobConcluded(1, None), NOW)[1:] == [StartJob(1, "second")]
    assert queue.handle(WorkerDelayed(2), NOW) == []
    queue.handle(Enqueue("third", "red"), NOW)
    assert queue.handle(WorkerSpawned(2), NOW) == [StartJob(2, "third")]


def test_a_delayed_job_is_still_the_first_of_its_lane():
    queue = ExecuteQueue(workers=1)
    queue.handle(Enqueue("first", "red"), NOW)
    queue.handle(Enqueue("second", "red"), NOW)
    assert queue.handle(WorkerDelayed(1), NOW) == []
    assert queue.handle(WorkerSpawned(1), NOW) == [StartJob(1, "first")]


def test_the_policy_decides_whose_turn_it_is_and_age_decides_within_a_kind():
    queue = ExecuteQueue(workers=1, policy=Shares())
    queue.handle(Enqueue("running"), NOW)
    queue.handle(WorkerSpawned(1), NOW)
    for name, kind in (
        ("backing", ExecutionKind.BACKING),
        ("dispute 1", ExecutionKind.DISPUTE),
        ("dispute 2", ExecutionKind.DISPUTE),
    ):
        queue.handle(Enqueue(name, kind=kind), NOW)
    started = [queue.handle(JobConcluded(1, None), NOW)[-1] for _ in range(3)]
    assert started == [StartJob(1, name) for name in ("dispute 1", "dispute 2", "backing")]


def test_an_id_that_is_queued_already_is_warned_of_and_dropped(caplog):
    queue = working_queue()
    with caplog.at_level(logging.WARNING):
        assert queue.handle(Enqueue("first", "red"), NOW) == []
    assert "first" in caplog.text


def test_a_queue_without_workers_is_refused():
    with pytest.raises(InvalidSetting):
        ExecuteQueue(workers=0)


class AnyStory(RuleBasedStateMachine):
    """Whatever happens in whichever order, what the queue's text promises holds."""

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.queue = ExecuteQueue(workers=self.LIMIT, policy=self.policy())
        self.names = iter(range(10**6))
        self.now = NOW
        self.wanted: dict[int, str] = {}
        self.starting: dict[int, str] = {}
        self.idle: dict[int, str] = {}
        self.busy: dict[int, int] = {}
        self.environments: dict[int, str] = {}

    def policy(self) -> Fifo | Shares:
        return Shares()

    def carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case SpawnWorker(worker=worker, environment=environment):
                    self.starting[worker] = self.environments[worker] = environment
                case StartJob(worker=worker, id=job):
                    assert self.idle.pop(worker) == self.wanted[job]
                    assert job not in self.busy.values()
                    self.busy[worker] = job
                case KillWorker(worker=worker):
                    assert (worker in self.idle) != (worker in self.busy)
                    self.idle.pop(worker, None)
                    self.busy.pop(worker, None)
                case Answer(id=job):
                    del self.wanted[job]

    def tell(self, event) -> None:
        self.carry_out(self.queue.handle(event, self.now))

    @rule(kind=st.sampled_from(ExecutionKind), environment=st.sampled_from(["red", "blue"]))
    def enqueue(self, kind, environment):
        job = next(self.names)
        self.wanted[job] = environment
        self.tell(Enqueue(job, environment, kind))

    @rule(seconds=st.sampled_from([0.5, MAX_KEEP_WAITING]))
    def time_passes(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def worker_comes_up(self, data):
        worker = data.draw(st.sampled_from(sorted(self.starting)))
        self.idle[worker] = self.starting.pop(worker)
        self.tell(WorkerSpawned(worker))

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def worker_is_delayed(self, data):
        self.tell(WorkerDelayed(data.draw(st.sampled_from(sorted(self.starting)))))

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), alive=st.booleans())
    def job_concludes(self, data, alive):
        worker = data.draw(st.sampled_from(sorted(self.busy)))
        job = self.busy.pop(worker)
        if alive:
            self.idle[worker] = self.environments[worker]
        self.tell(JobConcluded(worker, "done", alive))
        assert job not in self.wanted

    @precondition(lambda self: self.busy or self.idle)
    @rule(data=st.data())
    def worker_dies(self, data):
        worker = data.draw(st.sampled_from(sorted([*self.busy, *self.idle])))
        self.busy.pop(worker, None)
        self.idle.pop(worker, None)
        self.tell(WorkerDied(worker, "lost"))

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def requester_goes_away(self, data):
        job = data.draw(st.sampled_from(sorted(self.wanted)))
        self.tell(Withdraw(job))
        assert job not in self.busy.values()
        del self.wanted[job]

    @invariant()
    def no_job_waits_while_a_worker_is_idle_or_a_place_is_free(self):
        waiting = len(self.wanted) - len(self.busy)
        occupied = len(self.busy) + len(self.starting)
        assert occupied == self.LIMIT or waiting <= len(self.starting)

    @invariant()
    def there_are_never_more_workers_than_the_limit(self):
        assert len(self.busy) + len(self.idle) + len(self.starting) <= self.LIMIT


TestAnyStory = AnyStory.TestCase
TestAnyStory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
