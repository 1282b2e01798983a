"""The workers of a pool, doing what a queue says.

Each worker has one task of the event loop, its life, that owns it from start to removal:

    spawn it, a few times until it works        and tell the queue: WorkerDelayed, WorkerSpawned
                                                or, at the end of its patience, WorkerGivenUp
    wait at its desk for a job, have it done    and tell the queue: JobConcluded
    bury it                                     and tell the queue: WorkerDied

Telling the queue is a plain call, and its instructions are carried out within the same step: they
begin or cancel a life, lay a job on a desk, or resolve a future, and none of that waits. So the
queue and its workers never disagree. A queue ignores what it hears of a worker that it has done
with already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from registry.errors import InternalError, RegistryError
from registry.host.intake import stopped
from registry.host.metrics import PoolMetrics
from registry.host.pool.job import Job
from registry.host.pool.worker import NoWorker, Worker, WorkerLost
from registry.host.queue.events import (
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
from registry.host.worker.confinement import Confinement
from registry.log import about, in_one_line
from registry.shortage import explained_os_error

__all__ = ["RETRY_DELAY", "START_TRIES", "Crew"]

# Seconds. What keeps a process from starting (no memory, no process numbers) may pass.
RETRY_DELAY = 3.0
# But a request must not wait for a worker for ever, nor keep others waiting.
START_TRIES = 3

Id: TypeAlias = Hashable
Enqueue = TypeVar("Enqueue")

_log = logging.getLogger(__name__)


class Crew(Generic[Enqueue]):
    """Workers for one backend, each in a folder of its own within `folder`."""

    def __init__(
        self,
        decide: Callable[[Event | Enqueue], list[Instruction]],
        backend: str,
        folder: Path,
        metrics: PoolMetrics,
        confinement: Confinement | None = None,
        start_timeout: float | None = None,
    ) -> None:
        self._decide = decide
        self._backend = backend
        self._folder = folder
        self._metrics = metrics
        self._confinement = confinement
        self._start_timeout = start_timeout
        self._up: set[int] = set()
        self._lives: dict[int, asyncio.Task[None]] = {}
        self._desks: dict[int, asyncio.Queue[Id | None]] = {}
        self._jobs: dict[Id, Job] = {}
        self._answers: dict[Id, asyncio.Future[object]] = {}
        self._names = count(1)
        self._stopped = False

    @property
    def is_up(self) -> bool:
        """Whether there is a worker, at work or ready for it."""
        return bool(self._up)

    def refuse_if_stopped(self) -> None:
        """Raise `HandleClosed` once stopped."""
        if self._stopped:
            raise stopped()

    async def run(self, id: Id, job: Job, enqueue: Enqueue) -> object:
        """Have the job done; return or raise what came of it.

        Cancelled, the job is withdrawn; one that runs is killed, with its worker. Raises
        `HandleClosed` when stopped, and `WorkerLost` if no worker lives long enough to take it.
        """
        self.refuse_if_stopped()
        answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_take_note)
        self._jobs[id], self._answers[id] = job, answer
        try:
            self._tell(enqueue)
            return await answer
        except asyncio.CancelledError:
            self._tell(Withdraw(id))
            raise
        finally:
            del self._jobs[id], self._answers[id]

    async def drain(self) -> None:
        """Wait until no job is left, queued or running; new ones are waited for too."""
        while self._answers:
            await asyncio.wait(list(self._answers.values()))

    async def stop(self) -> None:
        """Kill the workers, and refuse what waits, what runs and what comes; safe to repeat."""
        self._stopped = True
        for answer in self._answers.values():
            _resolve(answer, stopped())
        lives = list(self._lives.values())
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    def _tell(self, event: Event | Enqueue) -> None:
        if not self._stopped:
            for instruction in self._decide(event):
                self._carry_out(instruction)

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case SpawnWorker(worker=number):
                self._desks[number] = asyncio.Queue()
                self._lives[number] = asyncio.create_task(self._live(number))
                self._lives[number].add_done_callback(partial(self._ended, number))
            case StartJob(worker=number, id=id):
                self._desks[number].put_nowait(id)
            case KillWorker(worker=number):
                self._lives[number].cancel()
            case Answer(id=id, outcome=outcome):
                _resolve(self._answers[id], outcome)

    async def _live(self, number: int) -> None:
        desk = self._desks[number]
        try:
            worker = await self._hire(number)
        except NoWorker as error:
            self._tell(WorkerGivenUp(number, error))
            return
        self._up.add(number)
        try:
            worker.gone.add_done_callback(lambda _: desk.put_nowait(None))
            self._tell(WorkerSpawned(number))
            with suppress(WorkerLost):
                while worker.alive and (given := await desk.get()) is not None:
                    self._tell(await self._conclude(number, given, worker))
            self._tell(WorkerDied(number, WorkerLost("workers died before they had the job")))
        finally:
            self._up.discard(number)
            self._metrics.retired += 1
            await _bury(worker)

    async def _conclude(self, number: int, id: Id, worker: Worker) -> JobConcluded:
        # Apart, so that no idle worker holds the outcome of its last job, which may be large.
        outcome = await _outcome(self._jobs[id], worker)
        return JobConcluded(number, outcome, worker.alive)

    async def _hire(self, number: int) -> Worker:
        for tries in count(1):
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._metrics.spawning += 1
                folder = self._folder / str(next(self._names))
                worker = await Worker.spawn(
                    self._backend, folder, self._confinement, self._start_timeout
                )
                self._metrics.spawned += 1
                return worker
            except Exception as error:
                told = about("worker_not_started", error=str(error))
                said = in_one_line(error)
                if tries >= START_TRIES:
                    _log.warning("cannot start a worker, giving up: %s", said, extra=told)
                    raise NoWorker(
                        f"no worker could be started, in {tries} tries; the last one: "
                        f"{_explained(error)}"
                    ) from error
                _log.warning(
                    "cannot start a worker, trying again in %s s: %s",
                    RETRY_DELAY,
                    said,
                    extra=told,
                )
                self._tell(WorkerDelayed(number))
                await asyncio.sleep(RETRY_DELAY)
        raise AssertionError

    def _ended(self, number: int, life: asyncio.Task[None]) -> None:
        del self._lives[number], self._desks[number]
        if not life.cancelled() and (error := life.exception()) is not None:
            # A bug in the queue, which must not leave a caller waiting.
            self._stopped = True
            for answer in self._answers.values():
                _resolve(answer, error)


async def _outcome(job: Job, worker: Worker) -> object:
    """Run the job; an unexpected error ends this worker, and no other."""
    try:
        return await job.perform(worker)
    except RegistryError as error:
        return error
    except (WorkerLost, asyncio.CancelledError):
        raise
    except Exception as error:  # noqa: BLE001 - the pool survives all of them
        worker.alive = False
        _log.exception("a worker is retired", extra=about("worker_retired", error=repr(error)))
        failure = InternalError(f"the host could not do the job: {error!r}; ask again")
        failure.__cause__ = error
        return failure


async def _bury(worker: Worker) -> None:
    try:
        await worker.bury()
    except Exception as error:  # noqa: BLE001 - it is retired all the same
        _log.warning(
            "a worker could not be cleared up after: %s; its folder is %s",
            in_one_line(error),
            in_one_line(worker.folder),
            exc_info=error,
            extra=about("worker_not_cleared", error=str(error), place=str(worker.folder)),
        )


def _resolve(answer: asyncio.Future[object], outcome: object) -> None:
    if answer.done():
        return
    if isinstance(outcome, BaseException):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _take_note(answer: asyncio.Future[object]) -> None:
    # If its caller is cancelled at the same moment, no one awaits it, which is no bug.
    if not answer.cancelled():
        answer.exception()


def _explained(error: Exception) -> Exception:
    known = explained_os_error(error, "a pipe or file") if isinstance(error, OSError) else None
    return known or error
