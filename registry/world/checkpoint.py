"""Checkpoints: the -wal file is kept small, and never while another process writes.

SQLite 3.7.0 to 3.51.2 can corrupt a WAL database when one process checkpoints while another writes
(the "WAL-reset bug"). So no connection checkpoints by itself. When the -wal file has grown over
4 MB, one connection takes the write lock, a second one checkpoints PASSIVE beneath it, and the
first rolls back. The trigger is the size of the file, never a counter of this process: many
processes write little each.
"""

from __future__ import annotations

import _thread
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing

from registry.effects import Locked
from registry.world import clock, fork
from registry.world.cache_identity import CacheIdentity
from registry.world.connection import WAL_TRIGGER_BYTES, bare, translated
from registry.world.mutex import is_free

__all__ = ["Checkpointer"]

# After an attempt, the next one comes when the file has grown by so much, or so much later. With
# 1 MB and 100 ms it reached 13 MB beside two readers on a busy machine; so, 4.7 MB.
WAL_GROWTH_BYTES = 256 * 1024
WAL_PAUSE_SECONDS = 0.02
# How long after a look at the file the next one comes: in so much time all processes together write
# some hundred KB, and looking after each statement cost 2 µs of 30.
WAL_LOOK_SECONDS = 0.001
# How long an attempt asks for the write lock, and then, holding it, for slow readers to be done.
WAL_PATIENCE_SECONDS = 0.02
# Once the file is so large, longer: writers that wait for us cannot make it grow meanwhile.
WAL_URGENT_BYTES = 5 * 1024**2
WAL_URGENT_PATIENCE_SECONDS = 0.2
_WAL_POLL_SECONDS = 0.0005


class Checkpointer:
    """Keep the -wal file small, safely; one for each handle."""

    def __init__(self, path: str, identity: CacheIdentity | None = None) -> None:
        self._path = path
        self._identity = identity
        self._wal = f"{path}-wal"
        self._next_size = WAL_TRIGGER_BYTES
        self._next_time = 0.0
        self._next_look = 0.0
        self._is_backfilled = False
        self.mutex = threading.Lock()
        fork.hold_off(self)

    def due(self) -> bool:
        """Whether the file has grown enough since the last attempt; one stat now and then."""
        now = clock.elapsed()
        if now < self._next_look:
            return False
        self._next_look = now + WAL_LOOK_SECONDS
        try:
            size = os.stat(self._wal).st_size
        except OSError:
            return False
        if size <= WAL_TRIGGER_BYTES:
            self._next_size = WAL_TRIGGER_BYTES
            return False
        return size >= self._next_size or now >= self._next_time

    def run(self) -> bool:
        """Checkpoint under the write lock; where that is not to be had, at another time.

        Whether the next write restarts the log, unless a reader needs it.

        Never in the main thread, which a signal handler interrupts: it would find the database
        locked by us, and if it raises, the transaction would stay open.
        """
        self._is_backfilled = False
        if threading.get_ident() == threading.main_thread().ident:
            _in_another_thread(self._run_alone)
        else:
            self._run_alone()
        return self._is_backfilled

    def before_fork(self) -> None:
        """Nothing is open: the mutex is held only while `run` is at it."""

    def after_fork(self) -> None:
        """Nothing is open, and this one is not used any more."""

    def _run_alone(self) -> None:
        if is_free(self.mutex):  # else another thread is at it
            with self.mutex:
                if not fork.is_under_way():
                    self._is_backfilled = self._run()

    def _run(self) -> bool:
        if self._identity is not None and self._identity.problem() is not None:
            return False  # the path leads to another cache
        try:
            size = os.stat(self._wal).st_size
            self._next_size = size + WAL_GROWTH_BYTES
            urgent = size > WAL_URGENT_BYTES
            patience = WAL_URGENT_PATIENCE_SECONDS if urgent else WAL_PATIENCE_SECONDS
            with closing(bare(self._path, 0)) as guard, closing(bare(self._path, 0)) as worker:
                if not clock.patiently(lambda: _locked(guard), patience, _WAL_POLL_SECONDS):
                    return False
                done = clock.patiently(lambda: _backfilled(worker), patience, _WAL_POLL_SECONDS)
                guard.execute("ROLLBACK")
                return done
        except (sqlite3.Error, OSError):
            return False  # trouble that the verbs will meet and report themselves
        finally:
            self._next_time = clock.elapsed() + WAL_PAUSE_SECONDS


def _in_another_thread(work: Callable[[], None]) -> None:
    """Do it in a thread of its own; one that is interrupted while it waits leaves it to its end."""
    done = threading.Lock()

    def act() -> None:
        try:
            work()
        finally:
            done.release()

    done.acquire()
    try:
        _thread.start_new_thread(act, ())
    except RuntimeError:  # none can be started: better here than never
        work()
    else:
        done.acquire()


def _locked(guard: sqlite3.Connection) -> bool:
    try:
        guard.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if isinstance(translated(error, ""), Locked):
            return False
        raise
    return True


def _backfilled(worker: sqlite3.Connection) -> bool:
    """Whether the database holds all that the -wal file does: else a reader still needs it."""
    _, written, copied = worker.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(written == copied)
