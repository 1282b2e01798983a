"""The host: precheck, heads-up, execute, over a shared registry and workers of its own.

What each verb does, by the state that the artifact is in:

            unknown              preparing        prepared           failed
precheck    prepare (normal,     join             bump, answer       the stored error; never
            strict time-out)                                         tried again
heads_up    prepare (normal)     nothing          bump               prepare, if it may be retried
execute     prepare (its own     park until it    file there: bump,  retried if it may be, else the
            priority), park      is prepared      execute; gone:     stored error
                                                  prepare, park

"Preparing" means by anybody: another task, another host, another process; to join it is to wait
for its row. An execution whose requester goes away is not begun, or is killed if it runs; the
preparation that it parked on goes on, for others may want it.

A damaged or missing artifact met at execution is removed first, then prepared again, once, before
anything is raised: so whoever asks again does not meet it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType, ModuleType, TracebackType
from typing import Any, Self

from registry.aio import AsyncRegistry
from registry.artifact import Artifact, ArtifactId, State
from registry.config import as_amount, as_span
from registry.errors import (
    CodeTooLarge,
    InternalError,
    NotPrepared,
    PossiblyInvalid,
    PreparationFailed,
    RegistryError,
    UnknownArtifact,
)
from registry.host import backend as backends
from registry.host.execute_pool import EXECUTION_TIMEOUT, ExecutePool
from registry.host.execute_queue import EXECUTE_WORKERS
from registry.host.kinds import Kind
from registry.host.limits import LENIENT_TIMEOUT, PRECHECK_TIMEOUT
from registry.host.policy import Policy
from registry.host.preparations import Preparations, Wanted
from registry.host.prepare_pool import PreparePool
from registry.host.prepare_queue import PREPARE_WORKERS, PREPARE_WORKERS_HARD
from registry.host.priority import ExecutionKind, Priority
from registry.verbs.preparing import failure

__all__ = ["Host"]

_log = logging.getLogger(__name__)
_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})
CLEANUP_INTERVAL = timedelta(hours=1)
# Bytes, decompressed: the original's limit for validation code.
CODE_LIMIT = 12 * 1024**2
# An artifact pruned between its need and its execution is prepared again; more often than this in
# one execution, the cache is far too small.
TRIES = 3


class Host:
    """Prepare and execute artifacts in worker processes, sharing what is prepared.

    `backend` is a module or its import path. `precheck_timeout` and `prepare_timeout` are CPU
    time; `memory_limit` (bytes) bounds each job, `code_limit` (bytes) the code once decompressed.
    Use it as an async context manager; it belongs to the loop of its registry, and must be
    stopped before that is closed.
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
    ) -> None:
        name = backends.import_path(backend)
        self._backend = backends.load(name)
        self._registry = registry
        self._precheck_timeout = as_span("precheck_timeout", precheck_timeout)
        self._prepare_timeout = as_span("prepare_timeout", prepare_timeout)
        self._cleanup_interval = as_span("cleanup_interval", cleanup_interval)
        self._memory_limit = memory_limit
        self._code_limit = as_amount("code_limit", code_limit)
        folder = registry.workers_folder
        self._pool = PreparePool(
            name, folder / "prepare", workers=prepare_workers, workers_hard=prepare_workers_hard
        )
        self._executions = ExecutePool(
            name, folder / "execute", workers=execute_workers, policy=policy
        )
        self._preparations = Preparations(registry, self._pool, memory_limit)
        self._pulse: asyncio.Task[None] | None = None

    async def precheck(self, code: bytes, params: Mapping[str, Any] = _NO_PARAMS) -> Artifact:
        """Answer the prepared artifact; raises `PreparationFailed`, `CodeTooLarge`.

        A failure that is known is raised as it is stored, and never tried again by this verb.
        """
        artifact_id = await self._identify(code, params)
        known = await self._registry.get(artifact_id)
        if known is not None and known.state is State.FAILED:
            raise failure(known)
        wanted = self._wanted(artifact_id, code, params, Priority.NORMAL, self._precheck_timeout)
        return await self._prepared(wanted)

    async def heads_up(self, wanted: Iterable[tuple[bytes, Mapping[str, Any]]]) -> None:
        """Say what will be needed soon: bump it, or begin to prepare it; answers at once.

        Code that is too large is logged, and left out.
        """
        for code, params in wanted:
            try:
                artifact_id = await self._identify(code, params)
            except CodeTooLarge as error:
                _log.warning("heads-up: %s", error)
                continue
            if artifact_id in self._preparations or await self._registry.need(artifact_id):
                continue
            self._preparations.start(
                self._wanted(artifact_id, code, params, Priority.NORMAL, self._prepare_timeout)
            )

    async def execute(
        self,
        code: bytes,
        params: Mapping[str, Any],
        request: Any,
        *,
        priority: Priority = Priority.NORMAL,
        kind: ExecutionKind = ExecutionKind.BACKING,
        timeout: timedelta | None = None,
    ) -> Any:
        """Answer what the backend's `execute` returns, preparing the artifact first if need be.

        `timeout` is CPU time, by default what the kind allows (2 s or 12 s); `request` and result
        are what msgpack can say. Raises `InvalidCandidate`, `PossiblyInvalid`, `InternalError`;
        `PreparationFailed` for code that cannot be prepared (an `InternalError` too where that
        may pass); `CodeTooLarge`; `HandleClosed` once stopped.
        """
        cpu_limit = EXECUTION_TIMEOUT[kind] if timeout is None else as_span("timeout", timeout)
        artifact_id = await self._identify(code, params)
        wanted = self._wanted(artifact_id, code, params, priority, self._prepare_timeout)
        mended = False
        for _ in range(TRIES):
            artifact = await self._ready(wanted)
            try:
                return await self._execute(artifact, request, kind, cpu_limit)
            except UnknownArtifact:
                continue  # pruned just now
            except PossiblyInvalid as error:
                if error.kind != Kind.CORRUPTED_ARTIFACT or mended:
                    raise
                mended = True
                await self._registry.remove(artifact_id)
        raise InternalError(f"{wanted.id.short} was pruned {TRIES} times before it ran")

    async def stop(self, *, drain: bool = False) -> None:
        """Stop: with `drain`, answer what was asked for first; then kill the workers.

        What is not answered raises `HandleClosed`, or is cancelled; its claims are released.
        """
        if self._pulse is not None:
            self._pulse.cancel()
        await self._preparations.stop(drain=drain)
        if drain:
            await self._executions.drain()
        await self._pool.stop()
        await self._executions.stop()

    async def __aenter__(self) -> Self:
        self._pulse = asyncio.create_task(self._clean_up())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _ready(self, wanted: Wanted) -> Artifact:
        try:
            return await self._prepared(wanted)
        except PreparationFailed as error:
            if error.artifact is None or error.artifact.retry_at is None:
                raise
            # It may pass, so it says nothing about the candidate.
            raise NotPrepared(error) from error

    async def _prepared(self, wanted: Wanted) -> Artifact:
        if wanted.id not in self._preparations:
            ready = await self._registry.need(wanted.id)
            if ready is not None:
                return ready
        return await self._preparations.join(wanted)

    async def _execute(
        self, artifact: Artifact, request: Any, kind: ExecutionKind, cpu_limit: timedelta
    ) -> Any:
        assert artifact.path is not None
        executed = await self._executions.execute(
            artifact.path,
            request,
            kind=kind,
            environment=artifact.id.prep_hash,
            cpu_limit=cpu_limit,
            memory_limit=self._memory_limit,
        )
        return executed.result

    def _wanted(
        self,
        id: ArtifactId,
        code: bytes,
        params: Mapping[str, Any],
        priority: Priority,
        cpu_limit: timedelta,
    ) -> Wanted:
        if hasattr(self._backend, "check_code"):
            params = {**params, "code_limit": self._code_limit}
        return Wanted(id, code, params, priority, cpu_limit)

    async def _identify(self, code: bytes, params: Mapping[str, Any]) -> ArtifactId:
        identity = await asyncio.to_thread(self._backend.identity, params)
        artifact_id = ArtifactId.of(code, identity)
        check_code = getattr(self._backend, "check_code", None)
        if check_code is not None:
            await asyncio.to_thread(check_code, code, self._code_limit)
        elif len(code) > self._code_limit:
            raise CodeTooLarge(f"the code has {len(code)} bytes; {self._code_limit} is the limit")
        return artifact_id

    async def _clean_up(self) -> None:
        while True:
            await asyncio.sleep(self._cleanup_interval.total_seconds())
            with suppress(RegistryError):  # logged where it matters; the next pulse tries again
                await self._registry.prune()
