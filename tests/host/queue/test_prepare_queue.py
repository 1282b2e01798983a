"""The prepare queue, without a worker, a clock or a disk."""

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
    WorkerDied,
    WorkerSpawned,
)
from registry.host.queue.prepare_queue import Enqueue, PrepareQueue
from registry.host.queue.priority import Priority

CRITICAL = Priority.CRITICAL


def busy_queue(**limits: int) -> PrepareQueue:
    """A queue whose worker 1 is busy with "first"."""
    queue = PrepareQueue(**limits)
    assert queue.handle(Enqueue("first")) == [SpawnWorker(1)]
    assert queue.handle(WorkerSpawned(1)) == [StartJob(1, "first")]
    return queue


def test_an_idle_worker_takes_a_new_job_at_once():
    queue = busy_queue()
    assert queue.handle(JobConcluded(1, "done")) == [Answer("first", "done")]
    assert queue.handle(Enqueue("second")) == [StartJob(1, "second")]


def test_a_normal_job_asks_for_workers_up_to_the_soft_limit_only():
    queue = PrepareQueue(soft_limit=2, hard_limit=3)
    asked = [queue.handle(Enqueue(name)) for name in "abc"]
    assert asked == [[SpawnWorker(1)], [SpawnWorker(2)], []]


def test_a_critical_job_asks_for_workers_up_to_the_hard_limit():
    queue = PrepareQueue(soft_limit=1, hard_limit=2)
    asked = [queue.handle(Enqueue(name, CRITICAL)) for name in "abc"]
    assert asked == [[SpawnWorker(1)], [SpawnWorker(2)], []]


def test_critical_overtakes_normal_and_each_line_keeps_its_order():
    queue = busy_queue()
    for name, priority in (("n1", Priority.NORMAL), ("c1", CRITICAL), ("n2", Priority.NORMAL)):
        queue.handle(Enqueue(name, priority))
    queue.handle(Enqueue("c2", CRITICAL))
    started = [queue.handle(JobConcluded(1, None))[-1] for _ in range(4)]
    assert started == [StartJob(1, name) for name in ("c1", "c2", "n1", "n2")]


def test_a_worker_over_the_soft_limit_is_let_go_though_jobs_wait():
    queue = busy_queue(soft_limit=1, hard_limit=2)
    assert queue.handle(Enqueue("urgent", CRITICAL)) == [SpawnWorker(2)]
    queue.handle(WorkerSpawned(2))
    queue.handle(Enqueue("waits"))
    assert queue.handle(JobConcluded(1, "done")) == [Answer("first", "done"), KillWorker(1)]
    assert queue.handle(JobConcluded(2, "done")) == [Answer("urgent", "done"), StartJob(2, "waits")]


def test_a_worker_that_died_with_its_job_is_replaced_only_if_jobs_wait():
    queue = busy_queue()
    queue.handle(Enqueue("second"))
    assert queue.handle(JobConcluded(1, "it died", alive=False)) == [
        Answer("first", "it died"),
        SpawnWorker(2),
    ]
    assert queue.handle(WorkerSpawned(2)) == [StartJob(2, "second")]
    assert queue.handle(JobConcluded(2, "too", alive=False)) == [Answer("second", "too")]


def test_a_job_whose_worker_died_before_receiving_it_goes_to_the_front():
    queue = busy_queue()
    queue.handle(Enqueue("second"))
    assert queue.handle(WorkerDied(1)) == [SpawnWorker(2)]
    assert queue.handle(WorkerSpawned(2)) == [StartJob(2, "first")]
    assert queue.handle(JobConcluded(2, None))[-1] == StartJob(2, "second")


def test_a_job_that_no_worker_lives_to_receive_is_answered():
    queue = busy_queue()
    for worker in range(1, MAX_DELIVERIES):
        assert queue.handle(WorkerDied(worker, "lost")) == [SpawnWorker(worker + 1)]
        assert queue.handle(WorkerSpawned(worker + 1)) == [StartJob(worker + 1, "first")]
    assert queue.handle(WorkerDied(MAX_DELIVERIES, "lost")) == [Answer("first", "lost")]


def test_such_a_job_goes_to_a_worker_that_is_idle():
    queue = busy_queue(soft_limit=2, hard_limit=2)
    queue.handle(Enqueue("second"))
    queue.handle(WorkerSpawned(2))
    queue.handle(JobConcluded(1, None))
    assert queue.handle(WorkerDied(2)) == [StartJob(1, "second")]


def test_an_idle_worker_that_died_is_replaced_when_the_next_job_comes():
    queue = busy_queue()
    queue.handle(JobConcluded(1, None))
    assert queue.handle(WorkerDied(1)) == []
    assert queue.handle(Enqueue("second")) == [SpawnWorker(2)]


def test_an_id_that_is_queued_or_running_already_is_warned_of_and_dropped(caplog):
    queue = busy_queue()
    with caplog.at_level(logging.WARNING):
        assert queue.handle(Enqueue("first", CRITICAL)) == []
    assert "first" in caplog.text
    assert queue.handle(JobConcluded(1, "done")) == [Answer("first", "done")]


def test_a_withdrawn_job_that_waits_is_forgotten():
    queue = busy_queue()
    queue.handle(Enqueue("second"))
    assert queue.handle(Withdraw("second")) == []
    assert queue.handle(JobConcluded(1, "done")) == [Answer("first", "done")]


def test_a_withdrawn_job_that_runs_is_killed_with_its_worker():
    queue = busy_queue()
    queue.handle(Enqueue("second"))
    assert queue.handle(Withdraw("first")) == [KillWorker(1), SpawnWorker(2)]
    assert queue.handle(JobConcluded(1, "too late")) == []
    assert queue.handle(WorkerDied(1)) == []
    assert queue.handle(WorkerSpawned(2)) == [StartJob(2, "second")]


@pytest.mark.parametrize(("soft", "hard"), [(0, 1), (2, 1), (-1, -1)])
def test_limits_without_a_worker_or_in_the_wrong_order_are_refused(soft, hard):
    with pytest.raises(InvalidSetting):
        PrepareQueue(soft_limit=soft, hard_limit=hard)


class AnyStory(RuleBasedStateMachine):
    """Whatever happens in whichever order, what the queue's text promises holds."""

    SOFT, HARD = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.queue = PrepareQueue(soft_limit=self.SOFT, hard_limit=self.HARD)
        self.names = iter(range(10**6))
        self.lines: dict[Priority, list[int]] = {CRITICAL: [], Priority.NORMAL: []}
        self.starting: list[int] = []
        self.idle: list[int] = []
        self.busy: dict[int, tuple[int, Priority]] = {}
        self.priorities: dict[int, Priority] = {}
        self.lost: dict[int, int] = {}
        self.answered: set[int] = set()

    def carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case SpawnWorker(worker=worker):
                    self.starting.append(worker)
                case StartJob(worker=worker, id=job):
                    self.idle.remove(worker)
                    line = next(line for line in self.lines.values() if line)
                    assert job == line.pop(0), "the first of the most urgent line is next"
                    self.busy[worker] = (job, self.priorities[job])
                case KillWorker(worker=worker):
                    if worker in self.idle:
                        self.idle.remove(worker)
                    else:
                        del self.busy[worker]
                case Answer(id=job):
                    assert job not in self.answered
                    self.answered.add(job)

    @rule(priority=st.sampled_from(Priority))
    def enqueue(self, priority):
        job = next(self.names)
        self.priorities[job] = priority
        self.lines[priority].append(job)
        self.carry_out(self.queue.handle(Enqueue(job, priority)))

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def worker_comes_up(self, data):
        worker = data.draw(st.sampled_from(self.starting))
        self.starting.remove(worker)
        self.idle.append(worker)
        self.carry_out(self.queue.handle(WorkerSpawned(worker)))

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), alive=st.booleans())
    def job_concludes(self, data, alive):
        worker = data.draw(st.sampled_from(sorted(self.busy)))
        job, _ = self.busy.pop(worker)
        if alive:
            self.idle.append(worker)
        self.carry_out(self.queue.handle(JobConcluded(worker, "done", alive)))
        assert job in self.answered

    @precondition(lambda self: self.busy or self.idle)
    @rule(data=st.data())
    def worker_dies(self, data):
        worker = data.draw(st.sampled_from(sorted([*self.busy, *self.idle])))
        if worker in self.idle:
            self.idle.remove(worker)
        else:
            job, priority = self.busy.pop(worker)
            self.lost[job] = self.lost.get(job, 0) + 1
            if self.lost[job] < MAX_DELIVERIES:
                self.lines[priority].insert(0, job)
        self.carry_out(self.queue.handle(WorkerDied(worker, "lost")))

    @precondition(lambda self: self.busy or any(self.lines.values()))
    @rule(data=st.data())
    def requester_goes_away(self, data):
        running = [job for job, _ in self.busy.values()]
        waiting = [job for line in self.lines.values() for job in line]
        job = data.draw(st.sampled_from(running + waiting))
        for line in self.lines.values():
            if job in line:
                line.remove(job)
        self.carry_out(self.queue.handle(Withdraw(job)))

    @invariant()
    def no_job_waits_while_a_worker_is_idle(self):
        assert not (self.idle and any(self.lines.values()))

    @invariant()
    def a_waiting_job_has_somebody_to_wait_for(self):
        assert self.busy or self.starting or not any(self.lines.values())

    @invariant()
    def there_are_never_more_workers_than_the_hard_limit(self):
        assert len(self.busy) + len(self.idle) + len(self.starting) <= self.HARD


TestAnyStory = AnyStory.TestCase
TestAnyStory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
