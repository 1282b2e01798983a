"""The events of the two queues, and their instructions.

A queue is a pure state machine: `handle(event)` returns the instructions that follow from the
event, in the order in which they are to be carried out, and does nothing else. It knows no
process, no clock and no disk; the pool carries out the instructions and reports the results.

A worker is a number that the queue gives out when it asks for the worker, and never again.
A job is named by any hashable id of the caller's.

    SpawnWorker  is followed by  WorkerSpawned or WorkerGivenUp, unless KillWorker came first
    StartJob     is followed by  JobConcluded or WorkerDied
    KillWorker   is followed by  nothing: the worker is forgotten already
    Answer       is the end of the job

A worker that died before it received its job gives it back to the front of its line. A job that
has met `MAX_DELIVERIES` such deaths is answered instead. Where no worker can be started, and none
is left, all that waits is answered.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "MAX_DELIVERIES",
    "Answer",
    "Event",
    "Instruction",
    "JobConcluded",
    "KillWorker",
    "SpawnWorker",
    "StartJob",
    "Withdraw",
    "WorkerDelayed",
    "WorkerDied",
    "WorkerGivenUp",
    "WorkerSpawned",
]

# One death is the machine's doing; three in a row are more likely the job's, which may be too large
# for any worker to receive.
MAX_DELIVERIES = 3


@dataclass(frozen=True, slots=True)
class WorkerSpawned:
    """The worker is up and ready for a job."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerDelayed:
    """The worker did not come up and is started once more."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerGivenUp:
    """The worker did not come up, several times, and is not started any more.

    `outcome` is what the waiting jobs are answered if there is no other worker.
    """

    worker: int
    outcome: object = None


@dataclass(frozen=True, slots=True)
class JobConcluded:
    """The worker's job ended, well or not; `alive` says whether the worker takes another one."""

    worker: int
    outcome: object
    alive: bool = True


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker died idle, or before it received its job; no job ran, so none failed.

    `outcome` is what its job is answered when there have been too many such deaths.
    """

    worker: int
    outcome: object = None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The caller no longer wants this job's outcome."""

    id: Hashable


@dataclass(frozen=True, slots=True)
class SpawnWorker:
    """Start a worker, for the execution environment if one is named."""

    worker: int
    environment: Hashable = None


@dataclass(frozen=True, slots=True)
class StartJob:
    """Give the job to the worker, which is up and idle."""

    worker: int
    id: Hashable


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End the worker, and the job that it is doing."""

    worker: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Give the outcome to the caller that waits for the job."""

    id: Hashable
    outcome: object


Event: TypeAlias = (
    WorkerSpawned | WorkerDelayed | WorkerGivenUp | JobConcluded | WorkerDied | Withdraw
)
Instruction: TypeAlias = SpawnWorker | StartJob | KillWorker | Answer
