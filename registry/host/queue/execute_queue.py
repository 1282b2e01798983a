"""Which execution runs next, and on which worker.

A worker is bound to the execution environment that it was started for, and is only ever started
for a job that is then its first: were it started idle, that job could be taken by another worker
meanwhile, and the new one be of the wrong environment for all that is left.

The policy names the lane whose turn it is. In it, the oldest job runs, with one
exception: a worker that has just finished prefers the oldest job of its own environment, unless
the oldest of all has waited `MAX_KEEP_WAITING` already. The job gets

1.  the worker that has just finished, if it was chosen for it; else
2.  an idle worker of its environment; else
3.  a new worker, in the place of an idle one of another environment, which is killed; else
4.  a new worker, if there are fewer than the limit; else it waits.

A job whose worker does not come up at once goes back to the front of its lane, for whichever worker
is free first; that may be this one, for which it is tried again.

Time is handed in, as seconds of any clock that does not jump.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count

from registry.config import as_amount
from registry.errors import InvalidSetting
from registry.host.queue.events import (
    MAX_DELIVERIES,
    Answer,
    Event,
    Instruction,
    JobConcluded,
    KillWorker,
    SpawnWorker,
    StartJob,
    Withdraw,
    WorkerDelayed,
    WorkerDied,
    WorkerGivenUp,
    WorkerSpawned,
)
from registry.host.queue.policy import Fifo, Policy, as_policy
from registry.host.queue.priority import ExecutionKind

__all__ = ["EXECUTE_WORKERS", "MAX_KEEP_WAITING", "Enqueue", "ExecuteQueue"]

# Two, as the original: one for what is urgent, one for what is not.
EXECUTE_WORKERS = 2
# Seconds. Longer than the shortest execution limit (2 s), or a preferred worker could never be
# waited for; shorter than a block's time (6 s), or the oldest would be late.
MAX_KEEP_WAITING = 4.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Enqueue:
    """A request to execute in this environment."""

    id: Hashable
    environment: Hashable = None
    kind: ExecutionKind = ExecutionKind.BACKING


@dataclass(slots=True, eq=False)
class _Job:
    id: Hashable
    environment: Hashable
    lane: Hashable
    since: float
    deliveries: int = 0


@dataclass(slots=True)
class _Worker:
    environment: Hashable
    job: _Job | None
    starting: bool = True

    @property
    def idle(self) -> bool:
        return self.job is None and not self.starting


class ExecuteQueue:
    """Decide what the executing workers do: `handle(event, now)` returns instructions.

    Raises `InvalidSetting` for fewer than one worker.
    """

    def __init__(self, *, workers: int = EXECUTE_WORKERS, policy: Policy | None = None) -> None:
        if as_amount("execute_workers", workers) < 1:
            raise InvalidSetting(f"there cannot be {workers} execute workers; ask for at least 1")
        self._limit = workers
        self._policy = Fifo() if policy is None else as_policy(policy)
        self._lanes: dict[Hashable, deque[_Job]] = {}
        self._jobs: dict[Hashable, _Job] = {}
        self._workers: dict[int, _Worker] = {}
        self._numbers = count(1)

    def handle(self, event: Event | Enqueue, now: float) -> list[Instruction]:
        """Handle an event; return the instructions in order."""
        match event:
            case Enqueue():
                return self._enqueue(event, now)
            case Withdraw(id=id):
                return self._withdraw(id, now)
            case _ if event.worker not in self._workers:  # killed meanwhile
                _log.debug("ignored %r", event)
                return []
            case WorkerSpawned():
                return self._spawned(event.worker, now)
            case WorkerDelayed():
                return self._delay(event.worker, now)
            case WorkerGivenUp():
                return self._give_up(event)
            case JobConcluded():
                return self._conclude(event, now)
            case WorkerDied():
                return self._bury(event, now)

    def _enqueue(self, event: Enqueue, now: float) -> list[Instruction]:
        if event.id in self._jobs:
            _log.warning("%s is queued for execution already; dropped the second one", event.id)
            return []
        job = _Job(event.id, event.environment, self._policy.lane(event.kind), since=now)
        self._jobs[job.id] = job
        self._line(job).append(job)
        return self._schedule(now)

    def _spawned(self, number: int, now: float) -> list[Instruction]:
        worker = self._workers[number]
        worker.starting = False
        if worker.job is None:  # withdrawn meanwhile, or it took too long
            return self._schedule(now, finished=number)
        return [self._start(number, worker.job)]

    def _delay(self, number: int, now: float) -> list[Instruction]:
        job, self._workers[number].job = self._workers[number].job, None
        if job is None:
            return []
        self._line(job).appendleft(job)
        return self._schedule(now)

    def _conclude(self, event: JobConcluded, now: float) -> list[Instruction]:
        worker = self._workers[event.worker]
        job, worker.job = worker.job, None
        if not event.alive:
            del self._workers[event.worker]
        answer = [Answer(self._jobs.pop(job.id).id, event.outcome)] if job else []
        return [*answer, *self._schedule(now, finished=event.worker)]

    def _bury(self, event: WorkerDied, now: float) -> list[Instruction]:
        job = self._workers.pop(event.worker).job
        if job is None:
            return self._schedule(now)
        if job.deliveries >= MAX_DELIVERIES:
            del self._jobs[job.id]
            return [Answer(job.id, event.outcome), *self._schedule(now)]
        self._line(job).appendleft(job)
        return self._schedule(now)

    def _give_up(self, event: WorkerGivenUp) -> list[Instruction]:
        job = self._workers.pop(event.worker).job
        if job is not None:
            self._line(job).appendleft(job)
        if self._workers:  # another one will take what waits
            return []
        waiting = [job for line in self._lanes.values() for job in line]
        self._lanes.clear()
        for job in waiting:
            del self._jobs[job.id]
        return [Answer(job.id, event.outcome) for job in waiting]

    def _withdraw(self, id: Hashable, now: float) -> list[Instruction]:
        job = self._jobs.pop(id, None)
        if job is None:
            return []
        if job in self._line(job):
            self._line(job).remove(job)
            return []
        number = next(number for number, worker in self._workers.items() if worker.job is job)
        if self._workers[number].starting:
            self._workers[number].job = None
            return []
        del self._workers[number]
        return [KillWorker(number), *self._schedule(now)]

    def _schedule(self, now: float, finished: int | None = None) -> list[Instruction]:
        instructions: list[Instruction] = []
        while placed := self._place_one(now, finished):
            instructions += placed
            finished = None
        return instructions

    def _place_one(self, now: float, finished: int | None) -> list[Instruction]:
        lanes = {lane for lane, line in self._lanes.items() if line}
        if not lanes:
            return []
        line = self._lanes[self._policy.choose(lanes)]
        job, number = self._match(line, now, finished)
        if number is None and not self._room():
            return []
        line.remove(job)
        self._policy.picked(job.lane)
        return [self._start(number, job)] if number is not None else self._spawn_for(job)

    def _match(
        self, line: deque[_Job], now: float, finished: int | None
    ) -> tuple[_Job, int | None]:
        oldest = line[0]
        worker = None if finished is None else self._workers.get(finished)
        if worker is not None and worker.idle and now - oldest.since < MAX_KEEP_WAITING:
            for job in line:
                if job.environment == worker.environment:
                    return job, finished
        return oldest, self._idle(oldest.environment)

    def _idle(self, environment: Hashable) -> int | None:
        for number, worker in self._workers.items():
            if worker.idle and worker.environment == environment:
                return number
        return None

    def _spare(self) -> int | None:
        return next((number for number, worker in self._workers.items() if worker.idle), None)

    def _room(self) -> bool:
        return len(self._workers) < self._limit or self._spare() is not None

    def _spawn_for(self, job: _Job) -> list[Instruction]:
        spare = self._spare()
        retired: list[Instruction] = []
        if spare is not None:
            del self._workers[spare]
            retired = [KillWorker(spare)]
        number = next(self._numbers)
        self._workers[number] = _Worker(job.environment, job)
        return [*retired, SpawnWorker(number, job.environment)]

    def _start(self, number: int, job: _Job) -> StartJob:
        self._workers[number].job = job
        job.deliveries += 1
        return StartJob(number, job.id)

    def _line(self, job: _Job) -> deque[_Job]:
        return self._lanes.setdefault(job.lane, deque())
