"""Who looks at the world after each effect: at the real rows and the real files, and judges.

It has a connection of its own, reads what an effect changed, checks that against the invariants and
against the model, and follows what of it a power cut would leave.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.effects import Effect, Rename, Run, TakeIn, Unlink, Write
from registry.opening.cache import database_path
from registry.sql.queries import Row
from registry.world.connection import connect

from .disk import Disk
from .invariants import (
    Key,
    Promise,
    Snapshot,
    Step,
    Violation,
    check_change,
    check_state,
)
from .model import Model

__all__ = ["Witness", "read_rows", "read_usage", "require_agreement"]


class Witness:
    """Watch one cache directory; every method raises `Violation` where a promise is broken."""

    def __init__(self, cache: Path, harmed: dict[str, int]) -> None:
        self.cache = cache
        self.harmed = harmed
        self._connection = connect(database_path(cache))
        self.world = self._look_again()
        self.disk = Disk(cache, self.world.files)
        self.model = Model(self.world.rows, dict(self.ask("SELECT name, value FROM setting")))
        self._reserved = {str(row.path) for row in self.world.rows.values()}
        self._reserved |= {name.removesuffix(".tmp") for name in self.world.files}
        try:
            check_state(self.world, harmed)
        except Violation:  # nobody else has this witness yet, to close it
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def ask(self, sql: str) -> list[Any]:
        """Ask the database, beside all hosts."""
        return self._connection.execute(sql).fetchall()

    def saw(self, step: Step, answer: Any) -> None:
        """Judge an effect that was performed, by what it did to the world."""
        before, effect = self.world, step.effect
        self._see(effect, answer)
        self.disk.note(effect, answer, lambda name: self.world.files[name])
        if self.world is not before:
            check_change(before, self.world, step)
            check_state(self.world, self.harmed)
        if isinstance(effect, Run):
            require_agreement(self.model, effect, answer, self.world)

    def harm(self, name: str, data: bytes | None, when: int) -> None:
        """Damage a file from outside: other bytes, or None to delete it."""
        path = self.cache / "artifacts" / name
        path.chmod(0o600)
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
            os.utime(path, (when, when))  # the real clock is too coarse for simulated times
        self.harmed[name] = when
        self.world = self.world.with_file(name, data)
        self.disk.harm(name, data)

    def look_again(self) -> Snapshot:
        """Read every row and every file anew, and see whether nothing was overlooked."""
        found = self._look_again()
        if found != self.world:
            raise Violation(Promise.NOTHING_LOST, f"found {found}, saw {self.world}")
        return found

    def _look_again(self) -> Snapshot:
        names = os.listdir(self.cache / "artifacts")
        files = {name: data for name in names if (data := self._read(name)) is not None}
        return Snapshot(read_rows(self._connection), read_usage(self._connection), files)

    def _see(self, effect: Effect[Any], answer: Any) -> None:
        match effect:
            case Run() if effect.statement.writes:
                self._see_rows()
            case Write() | TakeIn():
                if effect.name.removesuffix(".tmp") not in self._reserved:
                    raise Violation(Promise.RESERVED_FIRST, f"{effect.name} was never in a row")
                self._see_file(effect.name)
            case Rename():
                self._see_file(effect.name)
                self._see_file(effect.to)
            case Unlink() if answer:
                self._see_file(effect.name)

    def _see_rows(self) -> None:
        rows, usage = read_rows(self._connection), read_usage(self._connection)
        if rows != self.world.rows or usage != self.world.usage:
            self.world = Snapshot(rows, usage, self.world.files)
            self._reserved |= {str(row.path) for row in rows.values()}

    def _see_file(self, name: str) -> None:
        self.world = self.world.with_file(name, self._read(name))

    def _read(self, name: str) -> bytes | None:
        path = self.cache / "artifacts" / name
        return path.read_bytes() if path.exists() else None


def read_rows(connection: sqlite3.Connection) -> dict[Key, Row]:
    """All rows, by artifact."""
    rows = (Row(*row) for row in connection.execute("SELECT * FROM artifact").fetchall())
    return {(row.code_hash, row.prep_hash): row for row in rows}


def read_usage(connection: sqlite3.Connection) -> tuple[int, int]:
    """What the triggers keep."""
    query = "SELECT prepared_count, prepared_bytes FROM usage"
    ((count, size),) = connection.execute(query).fetchall()
    return count, size


def require_agreement(model: Model, effect: Run, answer: list[Any], world: Snapshot) -> None:
    """Let the model make the same move, and compare what it leads to and what it answers."""
    name = effect.statement.name
    if not model.knows(name):
        return
    moved = model.apply(name, effect.params)
    if model.rows != world.rows:
        raise Violation(Promise.LEGAL_MOVES, f"{name}: {_difference(model.rows, world.rows)}")
    if name not in ("need", "configure") and sorted(answer) != sorted(row[:21] for row in moved):
        raise Violation(Promise.LEGAL_MOVES, f"{name} answered {answer}, not {moved}")


def _difference(ours: Mapping[Key, Row], theirs: Mapping[Key, Row]) -> str:
    keys = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    return "; ".join(f"expected {ours.get(key)}, found {theirs.get(key)}" for key in keys)
