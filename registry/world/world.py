"""The world of one handle: every effect but the database's, made real.

`World.perform` blocks until the effect is done. The async registry performs the quick ones in its
loop and hands the others to a thread.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from registry import effects
from registry.effects import Effect, Outcome, Process
from registry.errors import HandleClosed
from registry.log import about, logger
from registry.recursion import preparing
from registry.version import __version__
from registry.world import chance, clock
from registry.world.cache_identity import CacheIdentity
from registry.world.closed import closed_error
from registry.world.files import Files, Reserve
from registry.world.hosts import HostLock, Hosts
from registry.world.identity_file import stored_identity

__all__ = ["World", "back_off_seconds", "outcome_of", "this_process"]

T = TypeVar("T")
_COMMAND_CHARACTERS = 500


def back_off_seconds() -> float:
    """0.2 to 1 ms; see `registry.effects.BackOff`."""
    return chance.between(0.0002, 0.001)


def outcome_of(function: Callable[[], Any]) -> Outcome[Any]:
    """Call a user's function; an exception is an answer, an interruption is not."""
    try:
        return Outcome(function())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the user's and is recorded
        return Outcome(None, error)


class World:
    """The files, the hosts, the clocks and chance, as one handle sees them."""

    def __init__(self, directory: Path) -> None:
        self.files: Files | None = Files(directory / "artifacts")
        self.identity = CacheIdentity(directory, self.files.descriptor)
        self.hosts: Hosts | None = Hosts(directory / "hosts")
        self.lock: HostLock = self.hosts.register()
        self.reserve = Reserve(directory / "reserve")
        files, hosts = self.files, self.hosts
        self._wal = os.fspath(directory / "registry.db-wal")
        self._performers: dict[type, Callable[[Any], Any]] = {
            effects.Now: lambda _: clock.now(),
            effects.Elapsed: lambda _: clock.elapsed(),
            effects.WriteMark: lambda _: self.write_mark(),
            effects.Doze: self._doze,
            effects.Draw: lambda e: chance.token_hex(e.size),
            effects.Sleep: _sleep,
            effects.BackOff: lambda _: time.sleep(back_off_seconds()),
            effects.Call: _call,
            effects.Stat: lambda e: files.stat(e.name),
            effects.MarkUse: lambda e: files.mark_use(e.name, e.at, e.mtime),
            effects.Write: lambda e: files.write(e.name, e.data),
            effects.TakeIn: lambda e: files.take_in(e.name, e.source),
            effects.Sync: lambda e: files.sync(e.name),
            effects.Rename: lambda e: self._own(files.rename, e.name, e.to),
            effects.SyncFolder: lambda _: files.sync_folder(),
            effects.Unlink: lambda e: self._own(files.unlink, e.name),
            effects.ListNames: lambda _: files.list_names(),
            effects.Checksum: lambda e: files.checksum(e.name),
            effects.OpenFile: lambda e: files.open_file(e.name),
            effects.GiveUpReserve: lambda _: self._own(self.reserve.give_up),
            effects.RebuildReserve: lambda _: self._own(self.reserve.rebuild),
            effects.IsAlive: lambda e: self._is_alive(hosts, e),
            effects.ForgetHost: lambda e: self._own(hosts.forget, e.host_id),
            effects.ListLocks: lambda _: hosts.listed(),
            effects.StoredIdentity: lambda _: stored_identity(directory),
        }

    def perform(self, effect: Effect[Any]) -> Any:
        """Do what is wanted, and answer; once it is closed, raise `HandleClosed`."""
        performer = self._performers.get(type(effect))
        if performer is None:
            raise closed_error(HandleClosed)
        return performer(effect)

    def require(self) -> None:
        """See that this is the cache that was opened, and that its other hosts see that we live.

        Raises `CacheDirectoryRefused`; four lstats.
        """
        self.identity.require()
        hosts = self.hosts
        if hosts is not None:  # not closed meanwhile
            hosts.keep(self.lock)

    def _own(self, function: Callable[..., T], *args: str) -> T:
        """Do to the cache that was opened what must not be done to one in its place."""
        self.identity.require()
        return function(*args)

    def _is_alive(self, hosts: Hosts, effect: effects.IsAlive) -> bool:
        self.require()  # long after the verb began, it may be
        return hosts.is_alive(effect.host_id, effect.pid, effect.hostname)

    def write_mark(self) -> tuple[int, int] | None:
        """What a write to the database changes; see `registry.effects.WriteMark`."""
        try:
            seen = os.stat(self._wal)
        except OSError:
            return None
        return seen.st_size, seen.st_mtime_ns

    def is_there_to_be_closed(self) -> bool:
        """Whether claims can be given back where they were taken; logs it if they cannot."""
        problem = self.identity.problem()
        if problem is not None:
            told = about("replaced", error=problem)
            logger.warning("closed without giving anything back: %s", problem, extra=told)
        return problem is None

    def _doze(self, effect: effects.Doze) -> None:
        for _ in range(effect.naps):
            time.sleep(effects.NAP_SECONDS)
            if self.write_mark() != effect.mark:
                return

    def abandon(self) -> None:
        """Close the descriptors that a fork copied; never unlock: that would be the parent's."""
        self.lock.close()
        self._let_go_of_the_folders()

    def close(self, *, has_row: bool = False) -> None:
        """Let go of the host's lock, then of the folders; the lock file goes with a clean exit.

        If the row may still be there the file stays, unlocked: that proves that we are gone.
        """
        hosts = self.hosts
        if hosts is not None:
            is_there = self.identity.problem() is None
            if is_there and not has_row:
                hosts.leave(self.lock)
            self.lock.close()
            if is_there:
                self.reserve.rebuild()  # it may have been spent on opening
        self._let_go_of_the_folders()

    def _let_go_of_the_folders(self) -> None:
        """Who is in the middle of an effect, in another thread or beneath a signal handler, goes on
        with the folder that it has: its number may not become another's meanwhile.
        """
        self._performers.clear()
        self.hosts = self.files = None


def this_process() -> Process:
    """Say who we are, for the people who ask which hosts are there."""
    command = shlex.join(sys.orig_argv)[:_COMMAND_CHARACTERS].replace("\0", " ")
    command = os.fsencode(command).decode(errors="replace")  # a file name may be any bytes
    return Process(os.getpid(), os.uname().nodename, command, __version__)


def _sleep(effect: effects.Sleep) -> None:
    if effect.until is None:
        time.sleep(effect.seconds)
    else:
        effect.until.wait(effect.seconds)  # type: ignore[attr-defined]  # a threading.Event


def _call(effect: effects.Call) -> Outcome[Any]:
    with preparing(effect.scope):
        return outcome_of(effect.function)
