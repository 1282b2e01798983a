"""What one open handle remembers between its verbs.

Nothing here is shared between processes, and nothing here decides who may do what: the database
does. Forgetting all of it would cost time, never correctness.

*Owned claims.* Token and file name are drawn, and noted here, before the claim's statement runs.
So when a verb is interrupted, at any point, it is known what it may have claimed. A claim whose
`Lease` nobody holds any more (the verb was interrupted, the `Claim` was dropped) is an orphan; it
is released at the handle's next verb, in maintenance, or at close.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from registry.access_time import use_marked
from registry.artifact import (
    Artifact,
    ArtifactId,
    Holder,
    State,
    from_micros,
    names,
    needed_at,
    to_micros,
)
from registry.config import CACHE_LIMIT, MIN_STALE_TIME, CleanupConfig, RetryPolicy
from registry.effects import Signal, is_file_name
from registry.errors import DatabaseDamaged
from registry.sql.queries import Row
from registry.verbs.counters import Counters, Evicted
from registry.verbs.waiting_room import WaitingRoom

__all__ = ["LATE_LIMIT", "Handle", "HotArtifact", "HotArtifacts", "Lease", "OwnedClaims"]

# About 1.7 KB each, most of it the `Artifact` that is answered: some 110 MB at most for all that
# one process keeps hot, and only where it needs so many different ones.
HOT_LIMIT = 65536
LATE_LIMIT = 10_000  # last uses that wait to be written
SETTINGS_HOLD_MICROS = 1_000_000
_STATES = {state.value: state for state in State}
_PREPARED = State.PREPARED


class Lease:
    """A claim as the verbs know it: the token that proves it and the file name reserved for it."""

    def __init__(self, id: ArtifactId, token: str, path: str) -> None:
        self.id = id
        self.token = token
        self.path = path
        self.claimed: Row | None = None  # the row as the claim left it, once it is known to be ours
        self.since = 0.0
        self.clocks = (0, 0.0)  # `Now` and `Elapsed` when it was claimed or extended last
        self.ended = False
        self.has_written = False  # so its file may be published, even if an error was reported
        # Held by the thread that publishes: two would write, and check, each other's file.
        self.publishing = threading.Lock()


class OwnedClaims:
    """The claims that this handle holds, or may hold, and which of them nobody holds any more.

    Each verb asks for those, so that costs the same however many are held: a lease that goes
    enters a queue. What enters it is a method written in C. In a function of ours an interruption
    would be lost, and the claim with it.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._gone: deque[_Watch] = deque()

    def note(self, lease: Lease) -> None:
        """Remember a claim that is about to be made."""
        watch = _Watch(lease, self._gone.append)
        watch.token = lease.token
        self._held[lease.token] = _Held(lease.id, lease.path, watch, threading.get_ident())

    def drop(self, lease: Lease) -> None:
        """Leave a claim to the next verb, should its own not manage to end it."""
        held = self._held.get(lease.token)
        if held is not None:
            self._gone.append(held.watch)

    def end(self, lease: Lease) -> None:
        """Forget a claim that is known to be over."""
        lease.ended = True
        self._held.pop(lease.token, None)

    def orphans(self) -> list[Lease]:
        """Adopt the claims whose lease nobody holds."""
        adopted: list[Lease] = []
        if not self._gone:  # the common case, at the start of every verb
            return adopted
        with suppress(IndexError, ValueError):  # another thread, at it as well, was faster
            while self._gone:
                watch = self._gone[0]
                held = self._held.get(watch.token)
                if held is not None and held.watch is watch:  # neither over nor adopted already
                    adopted.append(self._adopted(watch.token, held))
                self._gone.remove(watch)  # last, so that an interruption does not lose it
        return adopted

    def all(self) -> list[Lease]:
        """Adopt every claim, for closing."""
        return [
            held.watch() or self._adopted(token, held) for token, held in list(self._held.items())
        ]

    def has_made(self, id: ArtifactId) -> bool:
        """Whether this very thread made a claim of it."""
        mine = threading.get_ident()
        return any(held.id == id and held.thread == mine for held in list(self._held.values()))

    def _adopted(self, token: str, held: _Held) -> Lease:
        lease = Lease(held.id, token, held.path)
        self.note(lease)
        return lease


class _Watch(weakref.ref[Lease]):
    """Watches a lease without holding it."""

    token = ""  # of the claim; for an instant, of none


class _Held(NamedTuple):
    """What is known of a claim without holding its lease."""

    id: ArtifactId
    path: str
    watch: _Watch
    thread: int  # which made it


class HotArtifact:
    """An artifact known to be prepared, and its file as it was when its checksum was compared."""

    __slots__ = ("artifact", "identity", "name", "place", "size", "written")

    def __init__(
        self, artifact: Artifact, place: str, name: str, size: int, identity: tuple[int, int]
    ) -> None:
        self.artifact = artifact
        self.place = place  # its whole path, as it is answered
        self.name = name
        self.size = size
        self.identity = identity  # inode and mtime in ns
        self.written = 0  # the last_time_needed last written, microseconds

    def marked_lately(self, seen: os.stat_result, now: int, resolution: int) -> bool:
        """Whether a host has left a last use on the file that is young enough; it is noted then."""
        at = use_marked(seen)
        if at is None or not 0 <= now - at < resolution:
            return False
        self.used(at)
        return True

    def used(self, at: int) -> Artifact:
        """Note the last use that the row has now, whichever host wrote it; answer the artifact."""
        self.written = at
        self.artifact = needed_at(self.artifact, from_micros(at))
        return self.artifact


class HotArtifacts(OrderedDict[ArtifactId, HotArtifact]):
    """A bounded dictionary; the first to come is the first to go.

    `resolution` is how old a last use may grow before it is written again, `ask_at` when the
    cache's settings, which it follows from, are to be read again; both in microseconds.
    """

    resolution = 0
    ask_at = 0

    def remember(self, hot: HotArtifact) -> None:
        self[hot.artifact.id] = hot
        while len(self) > HOT_LIMIT:
            self.popitem(last=False)

    def trust(self, now: int) -> None:
        """Note that the settings were read just now."""
        self.ask_at = now + SETTINGS_HOLD_MICROS

    def is_to_ask(self, now: int) -> bool:
        """Whether the settings are to be read again; also where the clock was set back since."""
        return not 0 < self.ask_at - now <= SETTINGS_HOLD_MICROS

    def expire(self) -> None:
        """Have the settings read at the next need: they may have changed."""
        self.ask_at = 0


class Handle:
    """One open handle: who it is, where its files are, its own limits, its claims, what is hot,
    what it has done.

    `is_nested` tells whether a verb of this thread waits for this one, `blocks` whether its verbs
    keep a thread from doing anything else.
    """

    def __init__(
        self,
        host_id: str,
        cache: Path,
        cleanup: CleanupConfig | None,
        retry: RetryPolicy | None,
        new_signal: Callable[[], Signal] = threading.Event,
        is_nested: Callable[[], bool] = bool,
        blocks: bool = False,
    ) -> None:
        self.host_id = host_id
        self.cache = cache
        self.folder = cache / "artifacts"
        self.cleanup = cleanup
        self.retry = retry
        self.new_signal = new_signal
        self.is_nested = is_nested
        self.blocks = blocks
        self.claims = OwnedClaims()
        self.hot = HotArtifacts()
        self.counters = Counters()
        self.evicted = Evicted()
        self.told = Counter[str]()  # of the counters, what the cache knows
        self.told_at = 0
        # Last uses not written yet, by file name and time; see `registry.verbs.last_use`.
        self.late_uses: dict[ArtifactId, tuple[str, int]] = {}
        self.locked_at: float | None = None  # when a hit last met the lock of another program
        # The row of this host, where it could not be written yet; the first claim needs it.
        self.unlisted: dict[str, Any] | None = None
        self.warned_over_limit: float | None = None
        self.has_row = False  # or may have one
        # Ours, and on which machine; known once it has entered.
        self.process: tuple[int, str] | None = None
        self.waiting = WaitingRoom()

    def untold(self) -> dict[str, int]:
        """What this handle has counted that no trigger sees, and has not told the cache yet."""
        done = self.counters
        counted = {"hits": done.hits, "misses": done.misses, "coalesced": done.coalesced}
        return {name: count - self.told[name] for name, count in counted.items()}

    @property
    def max_retries(self) -> int | None:
        return None if self.retry is None else self.retry.max_retries

    @property
    def retry_cooldown(self) -> int | None:
        return None if self.retry is None else to_micros(self.retry.cooldown)

    def cache_limit(self, stored: int | None) -> int:
        """The limit (bytes) that holds for this handle: its own, the cache's, or the default."""
        if self.cleanup is not None:
            return self.cleanup.cache_limit
        return CACHE_LIMIT if stored is None else stored

    def min_stale_time(self, stored: int | None) -> int:
        """The stale time (microseconds) that holds for this handle; as with `cache_limit`."""
        if self.cleanup is not None:
            return to_micros(self.cleanup.min_stale_time)
        return to_micros(MIN_STALE_TIME) if stored is None else stored

    def artifact(self, row: Row, id: ArtifactId | None = None) -> Artifact:
        """Show a row to the user, under the very id that he named, if he did."""
        state = _STATES.get(row.state) or _no_state(row)
        prepared = state is _PREPARED
        return Artifact(
            id=id or ArtifactId(row.code_hash, row.prep_hash),
            state=state,
            # A hostile row may say anything; only a name of ours becomes a path.
            path=self.folder / str(row.path) if prepared and is_file_name(row.path) else None,
            size=row.size if prepared else None,
            checksum=row.checksum,
            last_time_needed=_time(row.last_time_needed),
            num_failures=row.num_failures,
            last_time_failed=_time(row.last_time_failed),
            error=row.error,
            error_kind=row.error_kind,
            retry_at=_time(row.retry_at),
            label=row.label,
            prepare_seconds=row.prepare_seconds,
            holder=None if prepared or row.host_id is None else self._holder(row, row.host_id),
            kind=row.kind,
        )

    def artifacts(self, rows: Iterable[Row]) -> list[Artifact]:
        """Show rows to the user, but none that names no artifact: `check` reports those."""
        return [self.artifact(row) for row in rows if names(row.code_hash, row.prep_hash)]

    def _holder(self, row: Row, host_id: str) -> Holder:
        pid, hostname = row.pid, row.hostname
        if host_id == self.host_id and self.process is not None:
            pid, hostname = self.process  # what a transition returns does not say
        return Holder(host_id, pid, hostname, from_micros(row.claimed_at or 0))


def _no_state(row: Row) -> State:
    raise DatabaseDamaged(
        f"the row of {row.code_hash}/{row.prep_hash} has an unknown state, {row.state!r}; "
        "`registry check --repair` removes it"
    )


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
