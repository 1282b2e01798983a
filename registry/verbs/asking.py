"""How verbs ask the database: patiently, and knowing that an error means "unknown".

*Locked* means that nothing was done: ask again, after a random pause, for a bounded time.

*Unsure* means that the statement may have been committed although an error came back (an I/O error
on the WAL can be followed by a recovery that brings the row to light). Every transition can simply
be run again, for its guard names the token or the path: it either happens now, or finds nothing to
do. So whoever gets no row back reads the row again, and recognises its own token or path in it. For
the same reason no file is ever unlinked because of an error: only a successful read that shows no
reference permits that.

*A full disk*: a DELETE needs room in the WAL, so making room fails exactly when it is needed. What
ends an artifact gives up the reserve and runs once more.
"""

from __future__ import annotations

from typing import Any

from registry.artifact import ArtifactId
from registry.effects import (
    BackOff,
    Elapsed,
    GiveUpReserve,
    Locked,
    Params,
    Run,
    Unsure,
    Verb,
)
from registry.errors import DatabaseDamaged, DiskFull, RegistryBusy
from registry.queries import READ, Row
from registry.statement import Statement
from registry.transitions import TRANSITIONS, Event

__all__ = ["end", "move", "read", "run"]

# Longer than any batch of ours holds the lock by far; shorter than a user's patience.
PATIENCE_SECONDS = 30.0
TRIES_WHEN_UNSURE = 3


def run(statement: Statement, params: Params) -> Verb[list[Any]]:
    """Run a statement, waiting for the lock; raises `RegistryBusy`, `DatabaseDamaged`."""
    try:
        return (yield from Run(statement, params))
    except (Locked, Unsure) as first:
        return (yield from _again(statement, params, first))


def _again(statement: Statement, params: Params, error: Exception) -> Verb[list[Any]]:
    started = yield from Elapsed()
    unsure = 0
    while True:
        unsure += isinstance(error, Unsure)
        if unsure >= TRIES_WHEN_UNSURE:
            raise DatabaseDamaged(
                f"the database cannot {statement.name}: {error}; see `registry check`"
            ) from error
        if (yield from Elapsed()) - started > PATIENCE_SECONDS:
            raise RegistryBusy(
                f"the database was locked for {PATIENCE_SECONDS:.0f} s, could not "
                f"{statement.name}; look for a shell or a backup that holds it, then try again"
            ) from error
        yield from BackOff()
        try:
            return (yield from Run(statement, params))
        except (Locked, Unsure) as again:
            error = again


def read(id: ArtifactId) -> Verb[Row | None]:
    """Read the row of an artifact."""
    return _first((yield from run(READ, {"code": id.code_hash, "prep": id.prep_hash})))


def move(event: Event, id: ArtifactId, **params: Any) -> Verb[Row | None]:
    """Make a guarded transition; no row means that it was refused and nothing changed."""
    params |= {"code": id.code_hash, "prep": id.prep_hash}
    return _first((yield from run(TRANSITIONS[event], params)))


def end(event: Event, params: Params) -> Verb[list[Row]]:
    """Delete rows, or give a claim back, even where the disk is full."""
    statement = TRANSITIONS[event]
    try:
        rows = yield from run(statement, params)
    except DiskFull:
        yield from GiveUpReserve()
        rows = yield from run(statement, params)
    return [Row(*row) for row in rows]


def _first(rows: list[Any]) -> Row | None:
    return Row(*rows[0]) if rows else None
