"""The real database and the real folder, in which every effect can be taken back.

The database goes back by a savepoint, the folder by doing the reverse; who lives, who has a lock
and what time it is are plain values. To be quick all hosts share one connection: each statement is
its own transition, and is judged by the invariants and by the model, all the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from registry import effects as fx
from registry.effects import Effect
from registry.opening.cache import database_path
from registry.world.connection import connect
from registry.world.files import Files
from registry.world.identity_file import stored_identity

from .host import Clock
from .invariants import Snapshot, Step, check_change, check_state
from .model import Model
from .witness import read_rows, read_usage, require_agreement

__all__ = ["Mark", "ReversibleWorld", "State"]


@dataclass(frozen=True, slots=True)
class State:
    """All that is shared: what is stored, the time, who lives, whose locks and rows are there."""

    stored: Snapshot = field(default_factory=Snapshot)
    now: int = Clock.wall
    living: frozenset[str] = frozenset()
    locks: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    slandered: frozenset[str] = frozenset()

    def digest(self) -> int:
        rows = frozenset(self.stored.rows.values())
        files = frozenset(self.stored.files.items())
        return hash((rows, files, self.now, self.living, self.locks, self.hosts))


Mark: TypeAlias = tuple[State, int]


class ReversibleWorld:
    """One cache, and what was done to it since each mark."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.state = State()
        self._files = Files(cache / "artifacts")
        self._kept = cache / "kept"  # links to what was unlinked, so that it can come back
        self._kept.mkdir()
        self._reverse: list[Callable[[], None]] = []
        self._connection = connect(database_path(cache))
        self._connection.execute("BEGIN IMMEDIATE")
        self._performers: dict[type, Callable[[Any], Any]] = {
            fx.Run: self._run,
            fx.Now: lambda _: self.state.now,
            fx.Elapsed: lambda _: 0.0,
            fx.WriteMark: lambda _: None,
            fx.BackOff: lambda _: None,
            fx.IsAlive: lambda effect: effect.host_id in self.state.living,
            fx.ListLocks: lambda _: sorted(self.state.locks),
            fx.ForgetHost: self._forget,
            fx.StoredIdentity: lambda _: stored_identity(cache),
            fx.Stat: lambda effect: self._files.stat(effect.name),
            fx.MarkUse: lambda _: None,  # it only spares a write
            fx.Checksum: lambda effect: self._files.checksum(effect.name),
            fx.ListNames: lambda _: sorted(self._files.list_names()),
            fx.Write: self._write,
            fx.Sync: lambda effect: self._files.sync(effect.name),
            fx.SyncFolder: lambda _: None,
            fx.Rename: self._rename,
            fx.Unlink: self._unlink,
            fx.GiveUpReserve: lambda _: None,
            fx.RebuildReserve: lambda _: None,
        }

    def close(self) -> None:
        self._connection.close()
        self._files.close()

    def mark(self) -> Mark:
        """Remember this moment."""
        self._connection.execute("SAVEPOINT mark")
        return self.state, len(self._reverse)

    def back(self, mark: Mark) -> None:
        """Return to the last moment that was marked."""
        self._connection.execute("ROLLBACK TO mark")
        self._connection.execute("RELEASE mark")
        self.state, count = mark
        while len(self._reverse) > count:
            self._reverse.pop()()

    def open_host(self, host_id: str) -> None:
        """Let a host be there: alive, with its lock and its row."""
        row = (host_id, 1, "simulated", "simulator", self.state.now, "0")
        self._connection.execute("INSERT INTO host VALUES (?, ?, ?, ?, ?, ?)", row)
        one = {host_id}
        state = self.state
        self.state = replace(
            state,
            living=state.living | one,
            locks=state.locks | one,
            hosts=state.hosts | one,
        )

    def kill(self, host_id: str) -> None:
        """Let a host die."""
        self.state = replace(self.state, living=self.state.living - {host_id})

    def perform(self, host_id: str, effect: Effect[Any]) -> Any:
        """Do what a host wants, judge it, and answer."""
        before = self.state.stored
        answer = self._performers[type(effect)](effect)
        after = self.state.stored
        if after is not before:
            check_change(before, after, Step(host_id, effect, self.state.now, self._thought_alive))
            check_state(after)
        if isinstance(effect, fx.Run) and effect.statement.writes:
            require_agreement(Model(before.rows, {}), effect, answer, after)
        return answer

    def _thought_alive(self, host_id: str) -> bool:
        return host_id in self.state.living - self.state.slandered

    def _run(self, effect: fx.Run) -> list[Any]:
        answer = self._connection.execute(effect.statement.sql, effect.params).fetchall()
        if effect.statement.writes:
            stored = self.state.stored
            rows, usage = read_rows(self._connection), read_usage(self._connection)
            if rows != stored.rows or usage != stored.usage:
                self.state = replace(self.state, stored=Snapshot(rows, usage, stored.files))
            hosts = self._connection.execute("SELECT id FROM host").fetchall()
            self.state = replace(self.state, hosts=frozenset(row[0] for row in hosts))
        return answer

    def _forget(self, effect: fx.ForgetHost) -> None:
        if effect.host_id not in self.state.living:
            self.state = replace(self.state, locks=self.state.locks - {effect.host_id})

    def _write(self, effect: fx.Write) -> Any:
        written = self._files.write(effect.name, effect.data)
        self._reverse.append(lambda: self._path(effect.name).unlink())
        self._see(effect.name)
        return written

    def _rename(self, effect: fx.Rename) -> None:
        self._files.rename(effect.name, effect.to)
        self._reverse.append(lambda: self._files.rename(effect.to, effect.name))
        self._see(effect.name, effect.to)

    def _unlink(self, effect: fx.Unlink) -> bool:
        path, kept = self._path(effect.name), self._kept / str(len(self._reverse))
        if path.exists():
            os.link(path, kept)
            self._reverse.append(lambda: os.rename(kept, path))
        found = self._files.unlink(effect.name)
        if found:
            self._see(effect.name)
        return found

    def _see(self, *names: str) -> None:
        stored = self.state.stored
        for name in names:
            path = self._path(name)
            stored = stored.with_file(name, path.read_bytes() if path.exists() else None)
        self.state = replace(self.state, stored=stored)

    def _path(self, name: str) -> Path:
        return self.cache / "artifacts" / name
