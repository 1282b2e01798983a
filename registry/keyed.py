"""`Keyed`: one compilation per machine behind a seam that only knows `get` and `put`.

The compile caches of Triton, Numba and others look a key up, compile in code that is not ours, and
store the result. So a miss claims, and the put publishes under that claim. What such a protocol
gets wrong is the miss that no put follows. Hence five rules:

1. A miss claims only in a flight, whose end releases what was not put. Outside of one, `get` is a
   plain look-up, and `put` claims and publishes at once.
2. A thread that holds a claim never waits for another's: compilations nest, and would deadlock.
3. A release without a put lets all who wait compile, side by side. Only after a holder's death one
   of them claims anew.
4. Waiting is bounded; then the one who waited compiles without a claim.
5. An error of the cache is a miss, a warning and a count. Nothing here raises into a compilation.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeAlias, TypeVar

from registry.artifact import Artifact, ArtifactId, State
from registry.config import as_span
from registry.errors import (
    ArtifactBusy,
    ClaimLost,
    DiskFull,
    InvalidData,
    RecursivePreparation,
    UnknownArtifact,
    WaitTimeout,
)
from registry.log import about, in_one_line, logger
from registry.process_handles import handle
from registry.sync import Claim, Registry
from registry.world import dropped

__all__ = ["Flight", "Keyed", "KeyedStats"]

T = TypeVar("T")
Key: TypeAlias = str | bytes

PATIENCE = timedelta(minutes=10)
# A cache that is locked or refused may cost 30 s each time that it is tried.
PAUSE_SECONDS = 60.0
# Errors that say something about one artifact, so that the next may well be stored.
_OF_ONE_ARTIFACT = (DiskFull, InvalidData, ClaimLost, UnknownArtifact)


@dataclass(slots=True)
class KeyedStats:
    """What one `Keyed` has done in this process.

    `claims` are misses that claimed; `waits` are misses that waited for another's compilation, of
    which `landed` had to compile all the same. `fenced` are puts whose claim was lost, `errors`
    are errors of the cache, each of which was a miss or a put that was not stored.
    """

    hits: int = 0
    misses: int = 0
    claims: int = 0
    puts: int = 0
    waits: int = 0
    landed: int = 0
    fenced: int = 0
    errors: int = 0


class _Held(NamedTuple):
    """A claim between a miss and its put."""

    claim: Claim
    pid: int
    thread: int
    flight: object


# All claims of this process, by cache and artifact: a put may come from another thread. Each change
# is one step of the interpreter's, so that a fork inherits no lock. In the child of a fork those of
# the forking thread stay, as those of another process: its parent may wait for it.
_held: dict[tuple[Path, ArtifactId], _Held] = {}
_flights: ContextVar[tuple[Flight, ...]] = ContextVar("flights", default=())
_warned: set[tuple[int, str, str]] = set()
_paused: dict[str, float] = {}


class Keyed:
    """Compiled bytes by key, shared by all processes of this machine; NEVER raises for the cache.

    `kind` says who makes them ("triton"); equal keys of two kinds are two artifacts. The cache is
    that of `registry.handle(cache)`: by default $REGISTRY_CACHE, else the user's. `patience` bounds
    the waiting for another process that compiles the same. Threads may share it, and it may be
    used after a fork. Raises `TypeError` for a key that is neither str nor bytes.
    """

    def __init__(
        self,
        kind: str,
        cache: str | os.PathLike[str] | None = None,
        *,
        patience: timedelta = PATIENCE,
    ) -> None:
        if not isinstance(kind, str):
            raise TypeError(f"a kind is a str, not {type(kind).__name__}")
        self._kind = kind
        self._cache = cache
        self._patience = as_span("patience", patience).total_seconds()
        self._stats = KeyedStats()

    @property
    def stats(self) -> KeyedStats:
        """What was done so far: a copy."""
        return replace(self._stats)

    def flight(self) -> Flight:
        """Return the scope of one compilation: a context manager, or an object to be closed."""
        return Flight(self)

    def id(self, key: Key, *, group: Key = "") -> ArtifactId:
        """Return the id under which a key is stored."""
        code = f"registry/keyed/1\n{_digest(self._kind)}\n{_digest(group)}"
        return ArtifactId.of(code.encode(), {"key": _digest(key)})

    def get(self, key: Key, *, group: Key = "", label: str | None = None) -> bytes | None:
        """Return the bytes of a key, or None: then compile, and put.

        In a flight a miss claims the key, or waits for who has claimed it.
        """
        return self._get_in(self._flight(), key, group, label)

    def put(self, key: Key, data: bytes, *, group: Key = "", label: str | None = None) -> bool:
        """Store the bytes of a key; return whether they were, and not refused or another's."""
        work = partial(self._put, self.id(key, group=group), data, self._label(key, label))
        return self._safely(work, False)

    def remove(self, key: Key, *, group: Key = "") -> bool:
        """Forget a key; return whether it was stored. One that is being compiled stays."""
        return self._safely(partial(self._remove, self.id(key, group=group)), False)

    def forget(self, group: Key = "") -> int:
        """Forget all keys of a group that are not being compiled; return how many there were."""
        return self._safely(partial(self._forget, self.id("", group=group).code_hash), 0)

    # --- what may fail --------------------------------------------------------------------------

    def _get_in(
        self, flight: Flight | None, key: Key, group: Key, label: str | None
    ) -> bytes | None:
        named = self.id(key, group=group), self._label(key, label)
        found = self._safely(partial(self._look_up, flight, *named), None)
        if found is None:
            self._stats.misses += 1
        else:
            self._stats.hits += 1
        return found

    def _look_up(self, flight: Flight | None, id: ArtifactId, label: str) -> bytes | None:
        registry = self._handle()
        found = registry.read(id)
        if found is None and flight and flight.belongs_to(self) and flight.tries_first(id):
            return self._join(registry, flight, id, label)
        return found

    def _join(self, registry: Registry, flight: Flight, id: ArtifactId, label: str) -> bytes | None:
        """Claim, or wait for who has claimed; None: compile."""
        until = time.monotonic() + self._patience
        while True:
            claimed = registry.claim(id, label=label)
            if isinstance(claimed, Claim):
                self._stats.claims += 1
                flight.hold(registry, claimed)
                return None
            settled: Artifact | None = claimed
            if claimed.state is State.PREPARING:
                settled = self._wait(registry, id, until)
            if settled is None or (settled is claimed and claimed.state is State.FAILED):
                return None
            found = registry.read(id) if settled.state is State.PREPARED else None
            if found is not None:
                return found
            # It was damaged, or removed at once, or its holder died: claim it anew.
            if time.monotonic() >= until:
                return None

    def _wait(self, registry: Registry, id: ArtifactId, until: float) -> Artifact | None:
        left = until - time.monotonic()
        if left <= 0 or _holds_a_claim():
            return None
        self._stats.waits += 1
        try:
            settled = registry.wait(id, timeout=timedelta(seconds=left))
        except (WaitTimeout, RecursivePreparation):
            settled = None
        self._stats.landed += settled is None
        return settled

    def _put(self, id: ArtifactId, data: bytes, label: str) -> bool:
        registry = self._handle()
        claim = _taken(registry, id) or _claim_now(registry, id, label)
        if claim is None:
            return False
        try:
            claim.publish(bytes(data))
        except ClaimLost:
            self._stats.fenced += 1
            return False
        except BaseException:
            with suppress(Exception):
                claim.release()
            raise
        self._stats.puts += 1
        return True

    def _release(self, claims: list[Claim]) -> None:
        for claim in claims:
            if self._is_paused():  # it may be locked: nobody is to wait for it again
                dropped.clean_up(partial(_release, claim))
            else:
                self._safely(partial(_release, claim), None)

    def _remove(self, id: ArtifactId) -> bool:
        try:
            return self._handle().remove(id)
        except ArtifactBusy:
            return False

    def _forget(self, code_hash: str) -> int:
        return self._handle().remove_all(code=code_hash)

    def _safely(self, work: Callable[[], T], instead: T) -> T:
        """Do what may fail with the cache, unless it failed a moment ago."""
        if self._is_paused():
            return instead
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - rule 5
            self._stats.errors += 1
            if not isinstance(error, _OF_ONE_ARTIFACT):
                _paused[self._named()] = time.monotonic() + PAUSE_SECONDS
            self._warn(error)
            return instead

    def _is_paused(self) -> bool:
        return time.monotonic() < _paused.get(self._named(), 0.0)

    def _handle(self) -> Registry:
        return handle(self._cache)

    def _named(self) -> str:
        return str(self._cache or os.environ.get("REGISTRY_CACHE"))

    def _warn(self, error: Exception) -> None:
        cause = (os.getpid(), self._named(), type(error).__name__)
        if cause not in _warned:
            _warned.add(cause)
            logger.warning(
                "%s compiles without the cache: %s",
                self._kind,
                in_one_line(error) or type(error).__name__,
                extra=about("keyed_failed", error=str(error), error_kind=type(error).__name__),
            )

    # --- flights --------------------------------------------------------------------------------

    def _flight(self) -> Flight | None:
        """The innermost flight of this cache that is not another process's."""
        mine = (it for it in reversed(_flights.get()) if it.belongs_to(self))
        return next(mine, None)

    def _label(self, key: Key, label: str | None) -> str:
        text = label or (key if isinstance(key, str) else key.hex())
        return in_one_line(f"{self._kind} {text[:80]}")


class Flight:
    """The scope of one compilation: what a miss in it has claimed ends with it.

    In a `with` block it is that of `Keyed.get`, in this thread or task. An object that lives as
    long as one compilation may keep one and use its own `get` and `put`; it ends at `close`, or
    when nobody holds it any more.
    """

    def __init__(self, keyed: Keyed) -> None:
        self._keyed = keyed
        self._pid = os.getpid()
        self.token = object()
        self._tried: set[ArtifactId] = set()
        self._places: list[tuple[Path, ArtifactId]] = []
        self._ended = False

    def get(self, key: Key, *, group: Key = "", label: str | None = None) -> bytes | None:
        """As `Keyed.get`, in this flight."""
        return self._keyed._get_in(self, key, group, label)  # noqa: SLF001

    def put(self, key: Key, data: bytes, *, group: Key = "", label: str | None = None) -> bool:
        """As `Keyed.put`."""
        return self._keyed.put(key, data, group=group, label=label)

    def belongs_to(self, keyed: Keyed) -> bool:
        """Whether a miss of it claims here: not in the child of a fork, whose scope this is not."""
        return self._keyed is keyed and not self._ended and self._pid == os.getpid()

    def tries_first(self, id: ArtifactId) -> bool:
        """Whether this is the first miss of an artifact here; who landed does not wait again."""
        is_first = id not in self._tried
        self._tried.add(id)
        return is_first

    def hold(self, registry: Registry, claim: Claim) -> None:
        """Keep a claim until the put, or until the end."""
        place = (registry.cache_dir, claim.id)
        self._places.append(place)
        _held[place] = _Held(claim, os.getpid(), threading.get_ident(), self.token)

    def close(self) -> None:
        """End it, and release what was claimed and not put."""
        self._ended = True
        self._keyed._release(self._claims())  # noqa: SLF001

    def _claims(self) -> list[Claim]:
        """Take the claims that are left."""
        left = []
        while self._places:
            place = self._places.pop()
            held = _held.get(place)
            if held is not None and held.flight is self.token:
                _held.pop(place, None)
                if held.pid == os.getpid():
                    left.append(held.claim)
        return left

    def __enter__(self) -> Flight:
        _flights.set((*_flights.get(), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        _flights.set(tuple(it for it in _flights.get() if it is not self))
        self.close()

    def __del__(self) -> None:
        for claim in self._claims():
            dropped.clean_up(partial(_release, claim))


def _digest(part: Key) -> str:
    if isinstance(part, str):
        return f"str:{blake2b(part.encode('utf-8', 'surrogatepass')).hexdigest()}"
    if isinstance(part, bytes):
        return f"bytes:{blake2b(part).hexdigest()}"
    raise TypeError(f"a key is a str or bytes, not {type(part).__name__}")


def _taken(registry: Registry, id: ArtifactId) -> Claim | None:
    """Take the claim of this process, in whichever flight, so that one put has it."""
    place = (registry.cache_dir, id)
    held = _held.get(place)
    if held is None or held.pid != os.getpid():
        return None
    taken = _held.pop(place, None)
    return None if taken is None else taken.claim


def _claim_now(registry: Registry, id: ArtifactId, label: str) -> Claim | None:
    """Claim for what is compiled already; deaths that are remembered do not matter any more."""
    claimed = registry.claim(id, label=label)
    if not isinstance(claimed, Claim) and claimed.state is State.FAILED:
        registry.retry(id)
        claimed = registry.claim(id, label=label)
    return claimed if isinstance(claimed, Claim) else None


def _release(claim: Claim) -> None:
    with suppress(ClaimLost):
        claim.release()


def _holds_a_claim() -> bool:
    """Whether this thread holds a claim, or a flight around it does."""
    me, around = threading.get_ident(), [it.token for it in _flights.get()]
    return any(it.thread == me or it.flight in around for it in list(_held.values()))


def _keep_what_the_parent_holds() -> None:
    for place, held in list(_held.items()):
        if held.thread != threading.get_ident():
            _held.pop(place, None)
    _paused.clear()


os.register_at_fork(after_in_child=_keep_what_the_parent_holds)
