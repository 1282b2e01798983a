"""Executions: the execute queue's decisions, carried out by workers that run artifacts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from registry.errors import (
    ExecutionError,
    InternalError,
    InvalidCandidate,
    PossiblyInvalid,
    UnknownArtifact,
)
from registry.host import wire
from registry.host.kinds import EXECUTION_ERROR, Kind
from registry.host.messages import Reply, Task
from registry.host.pool.base import Pool
from registry.host.pool.worker import NoWorker, Worker, WorkerLost
from registry.host.queue.execute_queue import EXECUTE_WORKERS, Enqueue, ExecuteQueue
from registry.host.queue.policy import Policy
from registry.host.queue.priority import ExecutionKind
from registry.host.worker.confinement import Confinement
from registry.host.worker.job import ARTIFACT
from registry.host.worker.limits import APPROVAL_TIMEOUT, BACKING_TIMEOUT, Limits
from registry.world.shield import in_thread

__all__ = ["EXECUTION_TIMEOUT", "ExecutePool", "Executed"]

EXECUTION_TIMEOUT: Mapping[ExecutionKind, timedelta] = {
    ExecutionKind.DISPUTE: APPROVAL_TIMEOUT,
    ExecutionKind.APPROVAL: APPROVAL_TIMEOUT,
    ExecutionKind.BACKING_SYSTEM_PARAS: BACKING_TIMEOUT,
    ExecutionKind.BACKING: BACKING_TIMEOUT,
}
_FAULTS = {fault.__name__: fault for fault in (InvalidCandidate, PossiblyInvalid, InternalError)}


@dataclass(frozen=True, slots=True)
class Executed:
    """What an execution returned; `cpu_seconds` and `peak_memory` (bytes) are what it used."""

    result: Any
    cpu_seconds: float
    peak_memory: int


class ExecutePool(Pool[Enqueue]):
    """Execute artifacts in workers: at most `workers` at once, in the order of `policy`.

    That is first come, first served by default. `folder` is on the artifacts' file system.
    """

    def __init__(
        self,
        backend: str,
        folder: Path,
        *,
        workers: int = EXECUTE_WORKERS,
        policy: Policy | None = None,
        confinement: Confinement | None = None,
        start_timeout: timedelta | None = None,
    ) -> None:
        queue = ExecuteQueue(workers=workers, policy=policy)
        super().__init__(
            "execute",
            lambda event: queue.handle(event, asyncio.get_running_loop().time()),
            backend,
            folder,
            confinement,
            start_timeout,
        )

    async def execute(
        self,
        artifact: Path,
        request: Any,
        *,
        kind: ExecutionKind = ExecutionKind.BACKING,
        environment: Hashable = None,
        cpu_limit: timedelta | None = None,
        memory_limit: int | None = None,
    ) -> Executed:
        """Execute the artifact in that file, which may be pruned as soon as this has begun.

        `request` is a value for msgpack, else `TypeError` or `InvalidData`; `cpu_limit` is
        by default `EXECUTION_TIMEOUT` of the kind, `memory_limit` is bytes. Raises what `run`
        raises, and `InvalidSetting`.
        """
        cpu_limit = EXECUTION_TIMEOUT[kind] if cpu_limit is None else cpu_limit
        task = Task.execute(request, Limits.of(cpu_limit, memory_limit))
        return await self.run(artifact, task, kind=kind, environment=environment)

    async def run(
        self,
        artifact: Path,
        task: Task,
        *,
        kind: ExecutionKind = ExecutionKind.BACKING,
        environment: Hashable = None,
    ) -> Executed:
        """Do a task of executing; raises `InvalidCandidate`, `PossiblyInvalid`, `InternalError`.

        `UnknownArtifact` if there is no such file, `HandleClosed` when stopped. Cancelled, it
        ends the job.
        """
        self._crew.refuse_if_stopped()
        number = next(self._names)
        pin = self._folder / f"{ARTIFACT}-{number}"
        _make_folder(self._folder)
        _pin(artifact, pin)
        try:
            return await self._run(_Execution(task, pin), Enqueue(number, environment, kind))
        finally:
            with suppress(OSError):
                pin.unlink(missing_ok=True)

    async def _run(self, job: _Execution, enqueue: Enqueue) -> Executed:
        with self.metrics.accompany(job, job.task.payload) as clocked:
            try:
                executed = await self._crew.run(enqueue.id, clocked, enqueue)
            except WorkerLost as error:
                kind = error.kind if isinstance(error, NoWorker) else Kind.WORKER_DIED
                raise InternalError(str(error), kind=kind) from error
        assert isinstance(executed, Executed)
        self.metrics.peak_memory.observe(executed.peak_memory)
        return executed


@dataclass(frozen=True, slots=True)
class _Execution:
    task: Task
    pin: Path

    async def perform(self, worker: Worker) -> Executed:
        try:
            _link(self.pin, worker.folder / ARTIFACT)
        except InternalError:
            worker.alive = False  # something may be in its place, for the next one too
            raise
        reply = await worker.do(self.task)
        if reply.kind is not None:
            raise _failure(reply)
        try:
            result = await in_thread(partial(wire.unpack, reply.result))
        except ValueError as error:
            raise PossiblyInvalid(f"the job gave no result: {error}") from error
        return Executed(result, reply.cpu_seconds, reply.peak_memory)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InternalError(f"no folder for the workers: {error}", kind=Kind.IO_ERR) from error


def _pin(artifact: Path, pin: Path) -> None:
    # A second name for the file: pruning the artifact removes only the first.
    try:
        _link(artifact, pin)
    except InternalError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UnknownArtifact(f"there is no file {artifact} any more; prepare it") from error
        raise


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        raise InternalError(f"no link to the artifact: {error}", kind=Kind.IO_ERR) from error


def _failure(reply: Reply) -> ExecutionError:
    fault = _FAULTS.get(reply.fault) or EXECUTION_ERROR.get(str(reply.kind), PossiblyInvalid)
    return fault(reply.message, kind=str(reply.kind))
