"""The host: precheck, heads-up, execute, over a shared registry and workers of its own.

What each verb does, by the state that the artifact is in:

            unknown              preparing        prepared           failed
precheck    prepare (normal,     join             bump, answer       the stored error; never
            strict time-out)                                         tried again
heads_up    prepare (normal)     nothing          bump               prepare, if it may be retried
execute     prepare (its own     park until it    file there: bump,  retried if it may be, else the
            priority), park      is prepared      execute; gone:     stored error
                                                  prepare, park

"Preparing" includes other tasks, hosts and processes; to join means to wait for the row. When the
caller of an execution cancels, the execution is not started, or is killed if it runs; the
preparation that it waits for goes on, because others may want it.

A damaged or missing artifact found at execution is removed and prepared again, once, before any
error is raised, so that the next request does not find it again.

Errors in the request itself are raised before anything is claimed: the code is not to blame.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import MappingProxyType, ModuleType
from typing import Any, Self

from registry.aio import AsyncRegistry
from registry.aio.host_calls import reject, workers_folder
from registry.artifact import Artifact, ArtifactId, State
from registry.blame import remembers_failures
from registry.config import as_amount, as_span
from registry.errors import (
    InternalError,
    InvalidSetting,
    NotPrepared,
    PossiblyInvalid,
    PreparationFailed,
    UnknownArtifact,
)
from registry.host import backend as backends
from registry.host.intake import Bound, Door
from registry.host.kinds import TRANSIENT, Kind
from registry.host.messages import Task
from registry.host.metrics import HostMetrics
from registry.host.pool.execute_pool import EXECUTION_TIMEOUT, ExecutePool
from registry.host.pool.preparations import Preparations, Wanted, warn_if_too_large
from registry.host.pool.prepare_pool import PreparePool
from registry.host.pool.worker import SPAWN_TIMEOUT
from registry.host.pulse import CLEANUP_INTERVAL, Pulse
from registry.host.queue.execute_queue import EXECUTE_WORKERS
from registry.host.queue.policy import Policy
from registry.host.queue.prepare_queue import PREPARE_WORKERS, PREPARE_WORKERS_HARD
from registry.host.queue.priority import ExecutionKind, Priority
from registry.host.worker.confinement import Confinement
from registry.host.worker.limits import LENIENT_TIMEOUT, PRECHECK_TIMEOUT, Limits
from registry.verbs.prepare import failure
from registry.verbs.text import ABANDONED, as_label
from registry.world.removal import remove
from registry.world.shield import in_thread, unbroken

__all__ = ["Host"]

_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})
# Bytes, decompressed: the original's limit for validation code.
CODE_LIMIT = 12 * 1024**2
# More often than this nothing is pruned between its need and its execution, but in a tiny cache.
TRIES = 3
START_TIMEOUT = timedelta(seconds=SPAWN_TIMEOUT)


class Host:
    """Prepare and execute artifacts in worker processes, sharing what is prepared.

    `backend` is a module or its import path. `precheck_timeout` and `prepare_timeout` are CPU
    time; `memory_limit` (bytes) bounds each job, `code_limit` (bytes) code that is to be prepared,
    once decompressed. With a `confinement`, jobs reach their own folders, what runs them, and
    nothing else; by default they may do what this user may. A worker has `start_timeout` to start.
    A host has at most `execute_workers + max_waiting` requests at once, and as many preparations;
    it refuses more (`QueueFull`). Use it as an async context manager; it belongs to the loop of
    its registry, and must be stopped before that is closed. Hosts may share a registry.
    """

    def __init__(
        self,
        registry: AsyncRegistry,
        backend: str | ModuleType,
        *,
        prepare_workers: int = PREPARE_WORKERS,
        prepare_workers_hard: int = PREPARE_WORKERS_HARD,
        execute_workers: int = EXECUTE_WORKERS,
        policy: Policy | None = None,
        cleanup_interval: timedelta = CLEANUP_INTERVAL,
        precheck_timeout: timedelta = PRECHECK_TIMEOUT,
        prepare_timeout: timedelta = LENIENT_TIMEOUT,
        memory_limit: int | None = None,
        code_limit: int = CODE_LIMIT,
        confinement: Confinement | None = None,
        start_timeout: timedelta = START_TIMEOUT,
        max_waiting: int | None = None,
    ) -> None:
        _require("registry", registry, AsyncRegistry)
        if as_span("start_timeout", start_timeout) == timedelta(0):
            raise InvalidSetting("start_timeout is 0:00:00; a worker needs some time to start")
        name = backends.import_path(backend)
        self._backend = backends.load(name)
        self._registry = registry
        self._precheck_limits = Limits.of(precheck_timeout, memory_limit, "precheck_timeout")
        self._prepare_limits = Limits.of(prepare_timeout, memory_limit, "prepare_timeout")
        self._pulse = Pulse(registry, cleanup_interval)
        self._memory_limit = memory_limit
        self._code_limit = as_amount("code_limit", code_limit)
        if confinement is not None:
            _require("confinement", confinement, Confinement)
            confinement = confinement._around(registry.cache_dir)  # noqa: SLF001
        self._folder = workers_folder(registry) / secrets.token_hex(4)
        self._pool = PreparePool(
            name,
            self._folder / "prepare",
            workers=prepare_workers,
            workers_hard=prepare_workers_hard,
            confinement=confinement,
            start_timeout=start_timeout,
        )
        self._executions = ExecutePool(
            name,
            self._folder / "execute",
            workers=execute_workers,
            policy=policy,
            confinement=confinement,
            start_timeout=start_timeout,
        )
        bound = Bound(execute_workers, max_waiting)
        check_code = partial(backends.check_code, self._backend, limit=self._code_limit)
        self._preparations = Preparations(registry, self._pool, check_code, bound)
        self._door = Door(bound)

    async def precheck(
        self, code: bytes, params: Mapping[str, Any] = _NO_PARAMS, *, label: str | None = None
    ) -> Artifact:
        """Answer the prepared artifact; raises `PreparationFailed`, `CodeTooLarge`, `QueueFull`.

        A failure that is known is raised as it is stored, and never tried again by this verb.
        """
        with self._door.enter():
            wanted = await self._wanted(code, params, self._precheck_limits, label=label)
            if wanted.id not in self._preparations:
                known = await self._registry.get(wanted.id)
                if known and known.state is State.FAILED and remembers_failures():
                    raise failure(known, self._registry.cache_dir)
            return await self._prepared(wanted)

    async def heads_up(self, wanted: Iterable[tuple[bytes, Mapping[str, Any]]]) -> None:
        """Say what will be needed soon: bump it, or begin to prepare it; answers at once.

        A failure is logged, and raised by the next request for it. Raises `QueueFull` at the first
        for which there is no room; what came before goes on.
        """
        with self._door.enter():
            for code, params in wanted:
                soon = await self._wanted(code, params, self._prepare_limits)
                if soon.id in self._preparations or await self._registry.need(soon.id):
                    continue
                self._preparations.start(soon).add_done_callback(warn_if_too_large)

    async def execute(
        self,
        code: bytes,
        params: Mapping[str, Any],
        request: Any,
        *,
        priority: Priority = Priority.NORMAL,
        kind: ExecutionKind = ExecutionKind.BACKING,
        timeout: timedelta | None = None,
        label: str | None = None,
    ) -> Any:
        """Answer what the backend's `execute` returns, preparing the artifact first if need be.

        `timeout` is CPU time, by default what the kind allows (2 s or 12 s); `request` and result
        are what msgpack can say. Raises `InvalidCandidate`, `PossiblyInvalid`, `InternalError`;
        `PreparationFailed` for code that cannot be prepared (an `InternalError` too where that
        may pass); `CodeTooLarge`; `QueueFull`; `HandleClosed` once stopped.
        """
        with self._door.enter():
            _require("priority", priority, Priority)
            _require("kind", kind, ExecutionKind)
            cpu_limit = EXECUTION_TIMEOUT[kind] if timeout is None else timeout
            limits = Limits.of(cpu_limit, self._memory_limit, "timeout")
            task = await in_thread(partial(Task.execute, request, limits))
            wanted = await self._wanted(code, params, self._prepare_limits, priority, label)
            return await self._execute(wanted, task, kind)

    @property
    def metrics(self) -> HostMetrics:
        """The metrics of this host; any thread may read them until the registry is closed."""
        pools = self._pool.metrics.copy(), self._executions.metrics.copy()
        return HostMetrics(self._registry.counters, self._preparations.coalesced, *pools)

    async def stop(self, *, drain: bool = False) -> None:
        """Stop: with `drain`, answer what was asked for first; then kill the workers.

        What is not answered raises `HandleClosed`; its claims are released without a failure.
        Cancelled, it stops all the same.
        """
        self._door.shut()
        try:
            if drain:
                await self._door.emptied()
                await self._preparations.drain()
        finally:
            await unbroken(self._end())

    async def _end(self) -> None:
        await self._pulse.stop()
        await self._preparations.stop()
        await self._pool.stop()
        await self._executions.stop()
        await self._door.emptied()
        with suppress(OSError):  # then it goes with the registry's handle
            await in_thread(partial(remove, self._folder))

    async def __aenter__(self) -> Self:
        self._pulse.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _wanted(
        self,
        code: bytes,
        params: Mapping[str, Any],
        limits: Limits,
        priority: Priority = Priority.NORMAL,
        label: str | None = None,
    ) -> Wanted:
        _require("code", code, bytes)  # what can be changed has no hash that stays true
        _require("params", params, Mapping)
        artifact_id = await in_thread(partial(self._name, code, params))
        if backends.takes_code_limit(self._backend):
            params = {"code_limit": self._code_limit, **params}
        task = Task.prepare(code, params, limits)
        return Wanted(artifact_id, task, priority, as_label(label), backends.kind(self._backend))

    def _name(self, code: bytes, params: Mapping[str, Any]) -> ArtifactId:
        return ArtifactId.of(code, self._backend.identity(params))

    async def _prepared(self, wanted: Wanted) -> Artifact:
        waits = wanted.id in self._preparations
        if not waits and (ready := await self._registry.need(wanted.id)):
            return ready
        return await self._preparations.join(wanted)

    async def _ready(self, wanted: Wanted) -> Artifact:
        try:
            return await self._prepared(wanted)
        except NotPrepared:
            raise
        except PreparationFailed as error:
            if error.artifact is None or not _may_pass(error.artifact):
                raise
            raise NotPrepared(error) from error

    async def _execute(self, wanted: Wanted, task: Task, kind: ExecutionKind) -> Any:
        was_rejected = False
        for _ in range(TRIES):
            artifact = await self._ready(wanted)
            assert artifact.path is not None
            try:
                executed = await self._executions.run(
                    artifact.path, task, kind=kind, environment=wanted.id.prep_hash
                )
            except UnknownArtifact:  # pruned just now
                continue
            except PossiblyInvalid as error:
                if error.kind != Kind.CORRUPTED_ARTIFACT:
                    raise
                await reject(self._registry, artifact)
                if was_rejected:
                    raise
                was_rejected = True
            else:
                return executed.result
        raise InternalError(f"{wanted.id.short} went {TRIES} times before it could be executed")


def _require(name: str, value: object, type_: type) -> None:
    if not isinstance(value, type_):
        expected = type_.__name__
        article = "an" if expected[0] in "AEIOU" else "a"
        raise TypeError(f"{name} is {article} {expected}, not {type(value).__name__}")


def _may_pass(artifact: Artifact) -> bool:
    # Then the failure says nothing about the candidate.
    return artifact.retry_at is not None or artifact.error_kind in TRANSIENT | ABANDONED
