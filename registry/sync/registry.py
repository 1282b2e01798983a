"""`Registry`: the verbs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ParamSpec

from registry.artifact import Artifact, ArtifactId, State
from registry.config import LARGEST, Settings
from registry.errors import UnknownArtifact
from registry.hot_path import hot_artifact
from registry.sync.claim import Claim
from registry.sync.coroutines import refuse_coroutines
from registry.sync.handle import SyncHandle
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
from registry.world import fork
from registry.world.own_folder import own_folder, pinned_file, require_file_name

if TYPE_CHECKING:
    from registry.recipe import Label, Recipe
    from registry.verbs.check import CheckReport
    from registry.verbs.diagnosis import Diagnosis
    from registry.verbs.history import HistoryEvent
    from registry.verbs.hosts import HostInfo
    from registry.verbs.listing import Position, Stats, Wanted
    from registry.verbs.stats import Measurement

__all__ = ["Registry"]

P = ParamSpec("P")


class Registry(SyncHandle):
    """Open a cache of artifacts that all processes of this machine share.

    `cache_dir` is created if it is missing. `cleanup` and `retry` override the stored settings for
    this handle only; with `upgrade=False` an older schema is refused (`SchemaTooOld`) instead of
    migrated. Use it as a context manager, or call `close`.

    Raises `CacheDirectoryRefused`, `DiskFull`, `OpenTimeout`, `NotARegistry`, `DatabaseDamaged`,
    `SchemaTooNew`. Threads may share a handle; a forked child may not use it (`HandleForked`).

    Any verb may raise `HandleClosed`, `RegistryBusy` (the database was locked for 30 s) and
    `DatabaseDamaged`; a wrong type is a TypeError. NOT for network file systems, several users, or
    data that must not be lost.
    """

    # --- artifacts ------------------------------------------------------------------------------

    def get(self, id: ArtifactId) -> Artifact | None:
        """Return the artifact as its row says, or None; changes nothing, looks at no file."""
        return self._drive(listing.get(self._handle, id))

    def need(self, id: ArtifactId) -> Artifact | None:
        """Return the prepared artifact and record its use, or return None.

        The size of the file is compared each time, its checksum once for each handle. A missing or
        damaged file is a miss, and its row is deleted. The use is written at most once a second
        (for at most a thousand artifacts a second, if a handle uses more), so `last_time_needed`
        may lag by that, but never by more than half of `min_stale_time`; on a full disk it is not
        written. The file is NOT pinned: see `open_file`.
        """
        hot = hot_artifact(self._handle, id)
        if hot is not None:
            return hot
        return self._drive(need.need(self._handle, id))

    def claim(
        self,
        id: ArtifactId,
        *,
        timeout: timedelta | None = None,
        label: str | None = None,
        kind: str | None = None,
    ) -> Claim | Artifact:
        """Claim the right to prepare an artifact, or return the artifact.

        The claim is yours for `timeout` (by default the setting `prepare_timeout`); after that
        others may take it over. The artifact is returned if it is prepared, if another process is
        preparing it, or if it failed and may not be tried again yet. Its use is NOT recorded, and
        its file NOT checked. `label` is what people see, `kind` says who makes it: 1 to 32 of
        a-z0-9_.-; both are kept where none is given. Raises `InvalidData` for a label that contains
        NUL, or another kind.
        """
        claimed = self._drive(claim.claim(self._handle, id, timeout, label, kind))
        return Claim(self, claimed) if isinstance(claimed, Lease) else claimed

    def wait(self, id: ArtifactId, *, timeout: timedelta | None = None) -> Artifact | None:
        """Return the artifact once no process prepares it, or None if it has no row then.

        Raises `WaitTimeout`, and `RecursivePreparation` inside the `prepare` of that artifact.
        """
        return self._drive(wait.wait(self._handle, id, timeout))

    def get_or_prepare(
        self,
        id: ArtifactId,
        prepare: Callable[[], bytes | os.PathLike[str]],
        *,
        timeout: timedelta | None = None,
        label: str | None = None,
        kind: str | None = None,
    ) -> Artifact:
        """Return the prepared artifact; call `prepare` if no process of this machine has done so.

        `prepare` returns bytes or the path of a file. It runs once at a time on the machine; other
        callers wait, for `timeout` at most (`WaitTimeout`). Raises `PreparationFailed` if this call
        failed, if the awaited one did, or if an earlier one did that may not be tried again yet.
        `prepare` raises `PrepareError` to say whether its error is deterministic. An error that
        shows a bug of the program is raised as it is and not stored: a TypeError or `InvalidData`
        for what `prepare` returned, ImportError, NameError, SyntaxError, a TypeError of a call
        whose arguments do not fit.
        Raises `RecursivePreparation` inside the `prepare` of that artifact, `DiskFull` (nothing is
        recorded), `CodeTooLarge` if `prepare` does. The file is NOT pinned: see `open_file`.
        """
        refuse_coroutines(prepare)
        require_arguments(prepare, timeout, label, kind)
        hot = hot_artifact(self._handle, id)
        if hot is not None:
            return hot
        return self._drive(get_or_prepare(self._handle, id, prepare, timeout, label, kind))

    def open_file(self, id: ArtifactId) -> BinaryIO:
        """Open the checked file of a prepared artifact for reading; records its use.

        An open file stays readable after pruning; close it yourself. Raises `UnknownArtifact`.
        """
        return self._drive(need.open_file(self._handle, id))

    def read(self, id: ArtifactId) -> bytes | None:
        """Return the checked bytes of a prepared artifact and record its use, or return None."""
        try:
            with self.open_file(id) as file, telling_outward():
                return file.read()
        except UnknownArtifact:
            return None

    def put(
        self,
        id: ArtifactId,
        data: bytes | os.PathLike[str],
        *,
        kind: str | None = None,
        label: str | None = None,
    ) -> Artifact:
        """Publish bytes that exist already, or the path of a file, which is moved in, at once.

        What is there wins: a prepared artifact is left as it is, returned, and its use recorded; a
        file given by path is not moved then. A remembered failure is replaced. Raises
        `ArtifactBusy` while it is claimed, by another process or by this one; `InvalidData`,
        `DiskFull` and `ClaimLost` as `Claim.publish`.
        """
        return self._drive(put.put(self._handle, id, data, label, kind))

    @contextmanager
    def pinned(self, id: ArtifactId, *, name: str = "artifact") -> Iterator[Path]:
        """Keep the file of a prepared artifact, under a path of its own, while a block runs.

        For what wants a path: a linker, `dlopen`, another process. The path ends in `name` and is
        there until the block is left, or this handle closed, whatever is pruned or removed. It is
        the artifact's file (a hard link), not to be changed. Counts as a need. Raises
        `UnknownArtifact`, `DiskFull`.
        """
        require_file_name(name)
        with self.scratch_folder() as folder:
            yield self._pin(id, folder, name)

    def _pin(self, id: ArtifactId, folder: Path, name: str) -> Path:
        while True:
            with self.open_file(id) as file:
                path = pinned_file(file, folder, name)
            if path is not None:  # else it was pruned just now
                return path

    @contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        """Make an empty folder on the file system of the cache, and remove it after the block.

        A file in it that a `prepare` returns is moved into the cache without a copy; so enter the
        block before `get_or_prepare` is called. It is also removed when this handle closes, or
        after its process was killed. Raises `DiskFull`.
        """
        if self._closed is not None or fork.is_child():
            raise self._refusal()
        self._world.require()
        with own_folder(self._handle.cache, self._handle.host_id) as folder:
            yield folder

    def artifacts(
        self,
        *,
        state: State | None = None,
        code: bytes | str | None = None,
        kind: str | None = None,
    ) -> Iterator[Artifact]:
        """Iterate over the artifacts, most recently needed first; NOT a snapshot: read in pages.

        Only those in one state, of one code (bytes, or its hash), of one kind, where these are
        given. Those of one code come in the order of their parameters' hashes, by an index.
        """
        wanted = listing.wanted(state, code, kind)
        return self._listed(wanted, listing.start(wanted))

    def _listed(self, wanted: Wanted, at: Position | None) -> Iterator[Artifact]:
        while at is not None:
            page = self._drive(listing.page(self._handle, wanted, at))
            yield from page.artifacts
            at = page.next

    def find(self, prefix: str, *, past: bool = False) -> ArtifactId:
        """Find the one artifact whose code hash, or "code/prep", starts with `prefix`.

        With `past`, also among artifacts that were removed but are still in the history. Raises
        `UnknownArtifact`, `AmbiguousPrefix`, `InvalidId`.
        """
        return self._drive(listing.find(self._handle, prefix, past))

    def history(self, id: ArtifactId) -> list[HistoryEvent]:
        """Return the events of an artifact, oldest first, whether it still exists or not.

        The last 10,000 events of all artifacts are kept. The end of a preparation is written just
        after it, and NOT if the process dies in between.
        """
        return self._drive(history.history(self._handle, id))

    def events(self) -> Iterator[HistoryEvent]:
        """Iterate over the events of all artifacts, newest first.

        There are at most 10,000. NOT a snapshot: read in pages. See `history`.
        """
        before: int | None = LARGEST
        while before is not None:
            page = self._drive(history.events_page(self._handle, before))
            yield from page.events
            before = page.next

    def remove(self, id: ArtifactId) -> bool:
        """Delete a prepared or failed artifact and its file; return whether there was one.

        Raises `ArtifactBusy` if it is being prepared. A file that a process has open stays
        readable there.
        """
        return self._drive(listing.remove(self._handle, id))

    def remove_all(self, *, code: bytes | str | None = None, kind: str | None = None) -> int:
        """Delete all prepared and failed artifacts and their files; return how many.

        Only those of one code (bytes, or its hash) and of one kind, where these are given. What is
        being prepared is left. NOT one step: other processes may publish meanwhile.
        """
        return self._drive(removal.remove_all(self._handle, code, kind))

    def retry(self, id: ArtifactId) -> bool:
        """Allow a failed artifact to be tried again at once; return whether it had failed."""
        return self._drive(listing.retry(self._handle, id))

    def artifact(
        self,
        *,
        version: object,
        name: str | None = None,
        key: Callable[..., object] | None = None,
        label: Label | None = None,
        source: bool = True,
        kind: str | None = "python",
    ) -> Callable[[Callable[P, bytes | os.PathLike[str]]], Recipe[P]]:
        """Decorate a function that builds bytes: as `registry.prepared`, through this handle.

        After a fork the decorated function raises `HandleForked`; `registry.prepared` does not.
        """
        from registry.recipe import Recipe, Terms

        def decorate(function: Callable[P, bytes | os.PathLike[str]]) -> Recipe[P]:
            refuse_coroutines(function)
            return Recipe(Terms(function, version, name, key, label, source, kind), lambda: self)

        return decorate

    # --- the cache ------------------------------------------------------------------------------

    def prune(
        self,
        *,
        cache_limit: int | None = None,
        min_stale_time: timedelta | None = None,
        dry_run: bool = False,
        kind: str | None = None,
    ) -> list[Artifact]:
        """Delete the least recently needed artifacts until the rest fits `cache_limit` bytes.

        Artifacts that were needed within `min_stale_time`, are being prepared or have failed are
        kept. A limit that is not given is the handle's own, else the stored setting; if neither is
        given, `hard_limit` applies too. Returns what was deleted (with `dry_run`: would be),
        oldest first. With `kind`, only artifacts of that kind go, and only their bytes count.
        Raises `InvalidSetting` for a value out of range.
        """
        return self._drive(
            maintenance.prune(self._handle, cache_limit, min_stale_time, dry_run, kind)
        )

    def stats(self) -> Stats:
        """Return counts and sizes; takes the same time at any size, unless it is over the limit."""
        return self._drive(listing.stats(self._handle))

    def check(self, *, repair: bool = False, checksums: bool = False) -> CheckReport:
        """Compare the database with itself and with the files; return what differs.

        Reads every row, and with `checksums` every file. With `repair`, repairs what differs.
        Raises `DatabaseDamaged` if the database belongs to another cache. NOT a snapshot: other
        handles may be at work.
        """
        return self._drive(maintenance.check(self._handle, repair, checksums))

    def hosts(self) -> list[HostInfo]:
        """List the open handles on this cache, in all processes, and what each prepares."""
        return self._drive(hosts.hosts(self._handle))

    def diagnose(self) -> Diagnosis:
        """Return what `registry.doctor` examines; takes longer with more files."""
        return self._drive(diagnosis.diagnose(self._handle))

    def measure(self) -> Measurement:
        """Return what `registry.metrics` exports; takes hardly longer in a large cache."""
        return self._drive(stats.measure(self._handle))

    @property
    def counters(self) -> Counters:
        """The counts of this handle since it was opened: a copy, made without a statement."""
        if self._closed is not None or fork.is_child():
            raise self._refusal()
        return self._handle.counters.copy()

    def settings(self) -> Settings:
        """Return the settings that all processes with this cache share."""
        return self._drive(listing.settings(self._handle))

    def configure(self, **changes: Any) -> Settings:
        """Change stored settings, all or none; they apply to all processes at once.

        Raises `InvalidSetting` for an unknown name or a value out of range, TypeError for a bare
        number where a `timedelta` belongs.
        """
        return self._drive(listing.configure(self._handle, changes))

    def maintain(self) -> bool:
        """Do the hourly maintenance if it is due and no other process does; return whether.

        Publishing, pruning and closing do this too; call it if you do none of these for long.
        """
        return self._drive(maintenance.pulse(self._handle))
