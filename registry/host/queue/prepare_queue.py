"""Which preparation runs next, and with how many workers.

Two lines, critical before normal, first come first served within each. A worker does one job at
a time.

-   A job that comes while a worker is idle is started at once. Otherwise it waits, and one more
    worker is asked for: while there are fewer than the soft limit for a normal job, fewer than
    the hard limit for a critical one. Workers that are still starting count.
-   A worker that came up, or finished a job, takes the next one that waits; but one that finished
    while there are more than the soft limit is let go first.
-   A worker that died with its job: the outcome counts, and a replacement comes only if jobs wait.
-   A worker that died before it received its job: the job goes back to the front of its line.
-   A worker that cannot be started, several times: if it was the last one, all that waits is
    answered so; else it waits for the others.
-   A replacement is never reason enough to go beyond the soft limit.

A normal job can starve while critical ones keep coming; there are few of those, by intention.

So no job waits while a worker is idle, and while any job waits some worker is busy or starting.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count

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
    WorkerDied,
    WorkerGivenUp,
    WorkerSpawned,
)
from registry.host.queue.priority import Priority

__all__ = ["PREPARE_WORKERS", "PREPARE_WORKERS_HARD", "Enqueue", "PrepareQueue"]

# One at a time, as the original: compilers use every core they find, and executions need some.
PREPARE_WORKERS = 1
PREPARE_WORKERS_HARD = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Enqueue:
    """A request to prepare."""

    id: Hashable
    priority: Priority = Priority.NORMAL


@dataclass(slots=True, eq=False)
class _Job:
    id: Hashable
    priority: Priority
    deliveries: int = 0


class PrepareQueue:
    """Decide what the preparing workers do: `handle(event)` returns instructions.

    Up to `soft_limit` workers for everything, up to `hard_limit` when critical jobs wait.
    Raises `InvalidSetting` unless 1 <= soft_limit <= hard_limit.
    """

    def __init__(
        self, *, soft_limit: int = PREPARE_WORKERS, hard_limit: int = PREPARE_WORKERS_HARD
    ) -> None:
        if not 1 <= soft_limit <= hard_limit:
            raise InvalidSetting(
                f"there cannot be {soft_limit} prepare workers and at most {hard_limit}; "
                "ask for at least 1, and no more than the hard limit"
            )
        self._limit = {Priority.NORMAL: soft_limit, Priority.CRITICAL: hard_limit}
        self._lines: dict[Priority, deque[_Job]] = {
            Priority.CRITICAL: deque(),
            Priority.NORMAL: deque(),
        }
        self._jobs: dict[Hashable, _Job] = {}
        self._starting: set[int] = set()
        self._workers: dict[int, _Job | None] = {}
        self._numbers = count(1)

    def handle(self, event: Event | Enqueue) -> list[Instruction]:
        """Handle an event; return the instructions in order."""
        match event:
            case Enqueue(id=id, priority=priority):
                return self._enqueue(_Job(id, priority))
            case WorkerSpawned(worker=worker) if worker in self._starting:
                self._starting.remove(worker)
                return self._feed(worker)
            case JobConcluded(worker=worker) if self._workers.get(worker):
                return self._conclude(event)
            case WorkerDied(worker=worker) if worker in self._workers or worker in self._starting:
                return self._bury(event)
            case WorkerGivenUp(worker=worker) if worker in self._starting:
                return self._give_up(event)
            case Withdraw(id=id):
                return self._withdraw(id)
            case _:  # of a worker that was killed meanwhile; or is delayed, and has no job yet
                _log.debug("ignored %r", event)
                return []

    def _enqueue(self, job: _Job) -> list[Instruction]:
        if job.id in self._jobs:
            _log.warning("%s is queued for preparation already; dropped the second request", job.id)
            return []
        self._jobs[job.id] = job
        self._lines[job.priority].append(job)
        return self._serve(job.priority)

    def _conclude(self, event: JobConcluded) -> list[Instruction]:
        job = self._workers.pop(event.worker)
        assert job is not None
        del self._jobs[job.id]
        answer = Answer(job.id, event.outcome)
        if not event.alive:
            return [answer, *self._replace()]
        if 1 + self._size() > self._limit[Priority.NORMAL]:
            return [answer, KillWorker(event.worker)]
        return [answer, *self._feed(event.worker)]

    def _bury(self, event: WorkerDied) -> list[Instruction]:
        self._starting.discard(event.worker)
        job = self._workers.pop(event.worker, None)
        if job is None:
            return self._replace()
        if job.deliveries >= MAX_DELIVERIES:
            del self._jobs[job.id]
            return [Answer(job.id, event.outcome), *self._replace()]
        self._lines[job.priority].appendleft(job)
        return self._replace()

    def _give_up(self, event: WorkerGivenUp) -> list[Instruction]:
        self._starting.remove(event.worker)
        if self._size():  # another one will take what waits
            return []
        waiting = [job for line in self._lines.values() for job in line]
        for job in waiting:
            self._lines[job.priority].remove(job)
            del self._jobs[job.id]
        return [Answer(job.id, event.outcome) for job in waiting]

    def _withdraw(self, id: Hashable) -> list[Instruction]:
        job = self._jobs.pop(id, None)
        if job is None:
            return []
        if job in self._lines[job.priority]:
            self._lines[job.priority].remove(job)
            return []
        worker = next(number for number, held in self._workers.items() if held is job)
        del self._workers[worker]
        return [KillWorker(worker), *self._replace()]

    def _serve(self, priority: Priority) -> list[Instruction]:
        for worker, job in self._workers.items():
            if job is None:
                return self._feed(worker)
        return self._grow(priority)

    def _feed(self, worker: int) -> list[Instruction]:
        self._workers[worker] = None
        for line in self._lines.values():
            if line:
                return [self._start(worker, line.popleft())]
        return []

    def _start(self, worker: int, job: _Job) -> StartJob:
        self._workers[worker] = job
        job.deliveries += 1
        return StartJob(worker, job.id)

    def _replace(self) -> list[Instruction]:
        return self._serve(Priority.NORMAL) if any(self._lines.values()) else []

    def _grow(self, priority: Priority) -> list[Instruction]:
        if self._size() >= self._limit[priority]:
            return []
        worker = next(self._numbers)
        self._starting.add(worker)
        return [SpawnWorker(worker)]

    def _size(self) -> int:
        return len(self._workers) + len(self._starting)
