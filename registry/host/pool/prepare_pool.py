"""Preparations: the prepare queue's decisions, carried out by workers that compile."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from registry.artifact import ArtifactId
from registry.config import as_amount
from registry.errors import ArtifactBusy, CodeTooLarge, PrepareError, RegistryError
from registry.host import kinds
from registry.host.kinds import Kind
from registry.host.messages import OF_THE_BACKEND, OF_THE_HOST, Reply, Task
from registry.host.pool.base import Pool
from registry.host.pool.worker import Worker, WorkerLost
from registry.host.queue.prepare_queue import (
    PREPARE_WORKERS,
    PREPARE_WORKERS_HARD,
    Enqueue,
    PrepareQueue,
)
from registry.host.queue.priority import Priority
from registry.host.worker.confinement import Confinement
from registry.host.worker.job import PREPARED
from registry.host.worker.limits import LENIENT_TIMEOUT, Limits

__all__ = ["PreparePool", "Prepared"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An artifact's bytes in a file that is the caller's to move or remove.

    `cpu_seconds` and `peak_memory` (bytes) are what the job used.
    """

    path: Path
    cpu_seconds: float
    peak_memory: int


class PreparePool(Pool[Enqueue]):
    """Prepare code in workers: up to `workers` at once, `workers_hard` when critical code waits."""

    def __init__(
        self,
        backend: str,
        folder: Path,
        *,
        workers: int = PREPARE_WORKERS,
        workers_hard: int = PREPARE_WORKERS_HARD,
        confinement: Confinement | None = None,
        start_timeout: timedelta | None = None,
    ) -> None:
        soft = as_amount("prepare_workers", workers)
        hard = as_amount("prepare_workers_hard", workers_hard)
        queue = PrepareQueue(soft_limit=soft, hard_limit=max(soft, hard))
        super().__init__("prepare", queue.handle, backend, folder, confinement, start_timeout)
        self._wanted: set[ArtifactId] = set()

    async def prepare(
        self,
        id: ArtifactId,
        code: bytes,
        params: Mapping[str, Any],
        *,
        priority: Priority = Priority.NORMAL,
        cpu_limit: timedelta = LENIENT_TIMEOUT,
        memory_limit: int | None = None,
    ) -> Prepared:
        """Prepare code, or raise `PrepareError` with the kind and whether it is deterministic.

        `memory_limit` is bytes. Raises what `run` raises, and `InvalidParams` and `InvalidSetting`
        for what cannot be asked for.
        """
        task = Task.prepare(code, params, Limits.of(cpu_limit, memory_limit))
        return await self.run(id, task, priority=priority)

    async def start_up(self, priority: Priority = Priority.NORMAL) -> None:
        """Have a worker; raises `NoWorker` if none can be started."""
        if not self.is_up:
            nobody = object()
            await self._crew.run(nobody, _Nothing(), Enqueue(nobody, priority))

    async def run(
        self,
        id: ArtifactId,
        task: Task,
        *,
        priority: Priority = Priority.NORMAL,
        begun: Callable[[], None] = lambda: None,
    ) -> Prepared:
        """Do a task of preparing; raises `PrepareError`, and `CodeTooLarge` where a backend does.

        `begun` is called when a worker takes it, and again if that one dies before it has it.
        `ArtifactBusy` while the same id is being prepared here, `HandleClosed` when stopped.
        Cancelled, it ends the job.
        """
        self._crew.refuse_if_stopped()
        if id in self._wanted:
            raise ArtifactBusy(f"{id.short} is being prepared by this pool already")
        target = self._folder / f"{PREPARED}-{next(self._names)}"
        self._wanted.add(id)
        try:
            return await self._run(id, _Preparation(task, target, begun), priority)
        except BaseException:
            with suppress(OSError):  # mostly there is none; it is there if we were cancelled late
                target.unlink()
            raise
        finally:
            self._wanted.remove(id)

    async def _run(self, id: ArtifactId, job: _Preparation, priority: Priority) -> Prepared:
        with self.metrics.accompany(job, job.task.payload) as clocked:
            try:
                prepared = await self._crew.run(id, clocked, Enqueue(id, priority))
            except WorkerLost as error:
                raise _unremembered(str(error), error.kind) from error
        assert isinstance(prepared, Prepared)
        self.metrics.peak_memory.observe(prepared.peak_memory)
        return prepared


class _Nothing:
    """What is done to see that there is somebody to do it."""

    async def perform(self, worker: Worker) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Preparation:
    task: Task
    target: Path
    begun: Callable[[], None]

    async def perform(self, worker: Worker) -> Prepared:
        self.begun()
        reply = await worker.do(self.task)
        if reply.kind is not None:
            raise _failure(reply)
        try:  # out of the worker's reach, before it is given something else to do
            _take(worker.folder / PREPARED, self.target)
        except OSError as error:
            said = f"the artifact could not be taken from its worker: {error}"
            raise _unremembered(said, Kind.RENAME_TMP_FILE) from error
        return Prepared(self.target, reply.cpu_seconds, reply.peak_memory)


def _take(prepared: Path, target: Path) -> None:
    # The job says that it has left a file there, and what a job says need not be true.
    found = prepared.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise PrepareError(
            "the job left no file as its artifact, but something else in its place",
            kind=Kind.JOB_DIED,
            deterministic=False,
        )
    prepared.rename(target)


def _unremembered(message: str, kind: Kind) -> PrepareError:
    return PrepareError(message, kind=kind, deterministic=False, remembered=False)


def _failure(reply: Reply) -> RegistryError:
    if reply.fault == CodeTooLarge.__name__:
        return CodeTooLarge(reply.message)
    kind = Kind.IO_ERR if reply.kind == Kind.WORKER_DIED else str(reply.kind)
    ours = reply.fault != OF_THE_BACKEND and reply.kind in kinds.OF_THE_HOST
    return PrepareError(
        reply.message,
        kind=kind,
        deterministic=reply.deterministic,
        remembered=not (ours or reply.fault == OF_THE_HOST),
    )
