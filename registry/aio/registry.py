"""`AsyncRegistry`: the verbs, each as `Registry` has it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ParamSpec

from registry.aio.claim import AsyncClaim
from registry.aio.handle import AsyncHandle
from registry.artifact import Artifact, ArtifactId, State
from registry.config import LARGEST, Settings
from registry.errors import UnknownArtifact
from registry.hot_path import hot_artifact
from registry.verbs import (
    claim,
    diagnosis,
    history,
    hosts,
    listing,
    maintenance,
    need,
    put,
    removal,
    stats,
    wait,
)
from registry.verbs.boundary import telling_outward
from registry.verbs.counters import Counters
from registry.verbs.handle import Lease
from registry.verbs.prepare import get_or_prepare, require_arguments
from registry.world.own_folder import own_folder, pinned_file, require_file_name
from registry.world.shield import in_thread

if TYPE_CHECKING:
    from registry.recipe import AsyncRecipe, Label
    from registry.verbs.check import CheckReport
    from registry.verbs.diagnosis import Diagnosis
    from registry.verbs.history import HistoryEvent
    from registry.verbs.hosts import HostInfo
    from registry.verbs.listing import Position, Stats, Wanted
    from registry.verbs.stats import Measurement

__all__ = ["AsyncRegistry"]

P = ParamSpec("P")


class AsyncRegistry(AsyncHandle):
    """Open a cache of artifacts that all processes of this machine share; see `Registry`.

    Use it as an async context manager: entering opens it. It belongs to the event loop that opened
    it (`WrongLoop`); its tasks may share it.
    """

    # --- artifacts ------------------------------------------------------------------------------

    async def get(self, id: ArtifactId) -> Artifact | None:
        """As `Registry.get`."""
        return await self._drive(listing.get(self._opened, id))

    async def need(self, id: ArtifactId) -> Artifact | None:
        """As `Registry.need`; the hot path is the same, and does not yield to the loop."""
        hot = hot_artifact(self._opened, id)
        if hot is not None:
            return hot
        return await self._drive(need.need(self._opened, id))

    async def claim(
        self,
        id: ArtifactId,
        *,
        timeout: timedelta | None = None,
        label: str | None = None,
        kind: str | None = None,
    ) -> AsyncClaim | Artifact:
        """As `Registry.claim`."""
        claimed = await self._drive(claim.claim(self._opened, id, timeout, label, kind))
        return AsyncClaim(self, claimed) if isinstance(claimed, Lease) else claimed

    async def wait(self, id: ArtifactId, *, timeout: timedelta | None = None) -> Artifact | None:
        """As `Registry.wait`."""
        return await self._drive(wait.wait(self._opened, id, timeout))

    async def get_or_prepare(
        self,
        id: ArtifactId,
        prepare: Callable[[], bytes | os.PathLike[str] | Awaitable[bytes | os.PathLike[str]]],
        *,
        timeout: timedelta | None = None,
        label: str | None = None,
        kind: str | None = None,
    ) -> Artifact:
        """As `Registry.get_or_prepare`.

        A coroutine function is awaited, and cancelled with the task; any other function runs in a
        thread, which goes on when the task is cancelled: its claim is released at once, and its
        result is dropped.
        """
        require_arguments(prepare, timeout, label, kind)
        hot = hot_artifact(self._opened, id)
        if hot is not None:
            return hot
        verb = get_or_prepare(self._opened, id, prepare, timeout, label, kind)
        return await self._drive(verb)

    async def open_file(self, id: ArtifactId) -> BinaryIO:
        """As `Registry.open_file`; the file is a plain one, whose reads block."""
        return await self._drive(need.open_file(self._opened, id))

    async def read(self, id: ArtifactId) -> bytes | None:
        """As `Registry.read`; reading does not block the loop."""
        try:
            with await self.open_file(id) as file, telling_outward():
                return await in_thread(file.read)
        except UnknownArtifact:
            return None

    async def put(
        self,
        id: ArtifactId,
        data: bytes | os.PathLike[str],
        *,
        kind: str | None = None,
        label: str | None = None,
    ) -> Artifact:
        """As `Registry.put`."""
        return await self._drive(put.put(self._opened, id, data, label, kind))

    @asynccontextmanager
    async def pinned(self, id: ArtifactId, *, name: str = "artifact") -> AsyncIterator[Path]:
        """As `Registry.pinned`."""
        require_file_name(name)
        async with self.scratch_folder() as folder:
            yield await self._pin(id, folder, name)

    async def _pin(self, id: ArtifactId, folder: Path, name: str) -> Path:
        while True:
            with await self.open_file(id) as file:
                path = pinned_file(file, folder, name)
            if path is not None:  # else it was pruned just now
                return path

    @asynccontextmanager
    async def scratch_folder(self) -> AsyncIterator[Path]:
        """As `Registry.scratch_folder`."""
        handle = self._opened
        self._world.require()
        made = own_folder(handle.cache, handle.host_id)
        folder = await in_thread(made.__enter__)
        try:
            yield folder
        finally:
            await in_thread(partial(made.__exit__, None, None, None))

    def artifacts(
        self,
        *,
        state: State | None = None,
        code: bytes | str | None = None,
        kind: str | None = None,
    ) -> AsyncIterator[Artifact]:
        """As `Registry.artifacts`."""
        wanted = listing.wanted(state, code, kind)
        return self._listed(wanted, listing.start(wanted))

    async def _listed(self, wanted: Wanted, at: Position | None) -> AsyncIterator[Artifact]:
        while at is not None:
            page = await self._drive(listing.page(self._opened, wanted, at))
            for artifact in page.artifacts:
                yield artifact
            at = page.next

    async def find(self, prefix: str, *, past: bool = False) -> ArtifactId:
        """As `Registry.find`."""
        return await self._drive(listing.find(self._opened, prefix, past))

    async def history(self, id: ArtifactId) -> list[HistoryEvent]:
        """As `Registry.history`."""
        return await self._drive(history.history(self._opened, id))

    async def events(self) -> AsyncIterator[HistoryEvent]:
        """As `Registry.events`."""
        before: int | None = LARGEST
        while before is not None:
            page = await self._drive(history.events_page(self._opened, before))
            for event in page.events:
                yield event
            before = page.next

    async def remove(self, id: ArtifactId) -> bool:
        """As `Registry.remove`."""
        return await self._drive(listing.remove(self._opened, id))

    async def remove_all(self, *, code: bytes | str | None = None, kind: str | None = None) -> int:
        """As `Registry.remove_all`."""
        return await self._drive(removal.remove_all(self._opened, code, kind))

    async def retry(self, id: ArtifactId) -> bool:
        """As `Registry.retry`."""
        return await self._drive(listing.retry(self._opened, id))

    def artifact(
        self,
        *,
        version: object,
        name: str | None = None,
        key: Callable[..., object] | None = None,
        label: Label | None = None,
        source: bool = True,
        kind: str | None = "python",
    ) -> Callable[
        [Callable[P, bytes | os.PathLike[str] | Awaitable[bytes | os.PathLike[str]]]],
        AsyncRecipe[P],
    ]:
        """As `Registry.artifact`, for coroutine functions and others."""
        from registry.recipe import AsyncRecipe, Terms

        async def this() -> AsyncRegistry:
            return self

        def decorate(function: Callable[P, Any]) -> AsyncRecipe[P]:
            return AsyncRecipe(Terms(function, version, name, key, label, source, kind), this)

        return decorate

    # --- the cache ------------------------------------------------------------------------------

    async def prune(
        self,
        *,
        cache_limit: int | None = None,
        min_stale_time: timedelta | None = None,
        dry_run: bool = False,
        kind: str | None = None,
    ) -> list[Artifact]:
        """As `Registry.prune`."""
        verb = maintenance.prune(self._opened, cache_limit, min_stale_time, dry_run, kind)
        return await self._drive(verb)

    async def stats(self) -> Stats:
        """As `Registry.stats`."""
        return await self._drive(listing.stats(self._opened))

    async def check(self, *, repair: bool = False, checksums: bool = False) -> CheckReport:
        """As `Registry.check`."""
        return await self._drive(maintenance.check(self._opened, repair, checksums))

    async def hosts(self) -> list[HostInfo]:
        """As `Registry.hosts`."""
        return await self._drive(hosts.hosts(self._opened))

    async def diagnose(self) -> Diagnosis:
        """As `Registry.diagnose`."""
        return await self._drive(diagnosis.diagnose(self._opened))

    async def measure(self) -> Measurement:
        """As `Registry.measure`."""
        return await self._drive(stats.measure(self._opened))

    @property
    def counters(self) -> Counters:
        """As `Registry.counters`; any thread may ask."""
        self._refuse()
        return self._handle.counters.copy()

    async def settings(self) -> Settings:
        """As `Registry.settings`."""
        return await self._drive(listing.settings(self._opened))

    async def configure(self, **changes: Any) -> Settings:
        """As `Registry.configure`."""
        return await self._drive(listing.configure(self._opened, changes))

    async def maintain(self) -> bool:
        """As `Registry.maintain`."""
        return await self._drive(maintenance.pulse(self._opened))
