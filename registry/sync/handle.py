"""An open cache for code that blocks: how it is opened, how a verb is driven, how it is closed.

Each effect is performed as it comes. Many threads may share one handle. Ctrl-C in the middle of an
effect is thrown into the verb as `Interrupted`; what the verb wants then runs to its end, and only
then is the KeyboardInterrupt raised.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from registry.config import CleanupConfig, RetryPolicy, require_overrides
from registry.effects import Effect, GiveUpReserve, Run, Verb
from registry.errors import CacheDirectoryRefused, DatabaseDamaged, HandleClosed, HandleForked
from registry.opening.cache import database_path, on_the_reserve, open_cache, replace_damaged
from registry.opening.lock import undisturbed
from registry.verbs import hosts, maintenance
from registry.verbs.driver import drive, is_nested
from registry.verbs.handle import Handle
from registry.world import dropped, fork
from registry.world.closed import closed_error, copied_error
from registry.world.database import Database
from registry.world.world import World, this_process

__all__ = ["SyncHandle"]

T = TypeVar("T")


class SyncHandle:
    """An open cache; `Registry` gives it its verbs."""

    def __init__(
        self,
        cache_dir: str | os.PathLike[str],
        *,
        cleanup: CleanupConfig | None = None,
        retry: RetryPolicy | None = None,
        upgrade: bool = True,
    ) -> None:
        self._closed: type[HandleClosed] | None = HandleClosed  # until it is open
        self._gone = True  # closed to the end, or not opened
        self._closing = threading.RLock()
        self._closer: int | None = None  # the thread that closes it
        require_overrides(cleanup, retry)
        cache = open_cache(cache_dir, upgrade=upgrade)
        try:
            self._enter(cache, cleanup, retry)
        except DatabaseDamaged:  # on a page that opening did not read
            replace_damaged(cache)  # by us, or by another process that was faster
            self._enter(open_cache(cache, upgrade=upgrade), cleanup, retry)

    def _enter(self, cache: Path, cleanup: CleanupConfig | None, retry: RetryPolicy | None) -> None:
        on_the_reserve(cache, lambda: self._appear(cache, cleanup, retry))
        try:
            self._drive(hosts.enter(self._handle, this_process()))
            self._world.lock.enter()
        except BaseException:
            self._let_go()
            raise

    def _appear(
        self, cache: Path, cleanup: CleanupConfig | None, retry: RetryPolicy | None
    ) -> None:
        with undisturbed(cache), fork.opening():
            self._world = World(cache)
            self._database = Database(database_path(cache), self._world.identity)
            self._handle = Handle(
                self._world.lock.host_id, cache, cleanup, retry, is_nested=is_nested, blocks=True
            )
            self._closed, self._gone = None, False
            fork.track(self, self._world)

    @property
    def cache_dir(self) -> Path:
        """The cache directory, absolute."""
        return self._handle.cache

    def close(self) -> None:
        """Release the claims of this handle, without a failure, and close files and database.

        Verbs that run in other threads raise `HandleClosed`.
        """
        fork.notice()
        had: list[bool] = []
        try:
            # One call of a C function, because a signal handler may raise between two calls. A
            # handler must not wait for a thread that waits for what the handler interrupted.
            had.extend(map(self._closing.acquire, (not self._database.is_interrupted(),)))
            if had[0] and not self._gone:
                self._close()
        finally:
            if had and had[0]:
                self._closing.release()

    def _close(self) -> None:
        """Close, or finish a closing that was interrupted.

        If a signal handler does this, the interrupted call finds the rest done.
        """
        try:
            self._closed = HandleClosed
            self._closer = threading.get_ident()
            # No other thread may claim after all claims were released.
            self._database = self._database.handed_over()
            if self._world.is_there_to_be_closed():
                drive(maintenance.close(self._handle), self._perform)
        except HandleClosed:
            if not self._gone:
                raise
        finally:
            self._closer = None
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A dropped handle must not look alive, and its claims must not look like a dead host's.
        if not getattr(self, "_gone", True) and not fork.is_child():
            dropped.clean_up(self._close_dropped)

    def _close_dropped(self) -> None:
        fork.track(self, self._world)  # its weak reference is dead already
        self.close()

    def __reduce__(self) -> NoReturn:
        raise copied_error(self)

    def __repr__(self) -> str:
        state = "open" if self._closed is None else "closed"
        return f"<{type(self).__name__} {str(self._handle.cache)!r} {state}>"

    # --- the process ----------------------------------------------------------------------------

    def _after_fork(self) -> None:
        """Be closed in the child of a fork: its copy of the lock would keep the parent alive."""
        self._closed = HandleForked
        self._gone = True
        self._closing = threading.RLock()  # the thread that held the old one does not exist here
        self._handle.hot.clear()
        self._world.abandon()

    def _at_exit(self) -> None:
        """Be closed at the end of the process."""
        self.close()

    # --- driving --------------------------------------------------------------------------------

    def _let_go(self) -> None:
        self._closed = HandleClosed
        self._handle.hot.clear()  # so that the hot path ends too
        self._database.close()
        with fork.opening():
            self._world.close(has_row=self._handle.has_row)
            fork.untrack(self)
        self._gone = True

    def _drive(self, verb: Verb[T]) -> T:
        if self._closed is not None or fork.is_child():
            verb.close()  # it has not started
            raise self._refusal()
        try:
            self._world.require()
        except CacheDirectoryRefused:
            verb.close()
            raise
        return drive(verb, self._perform)

    def _refusal(self) -> HandleClosed:
        fork.notice()
        return closed_error(self._closed or HandleClosed)

    def _perform(self, effect: Effect[Any]) -> Any:
        # Read before the check below: the thread that closes the handle marks it first.
        database = self._database
        if fork.is_child() or (self._closed is not None and self._closer != threading.get_ident()):
            raise self._refusal()  # closed by another thread or a signal handler
        if type(effect) is Run:
            return database.run(effect.statement, effect.params)
        answer = self._world.perform(effect)
        if type(effect) is GiveUpReserve:  # with its space the log can be restarted, too
            database.checkpoint()
        return answer
