"""Run statements with retries; after an I/O error, assume that it may have been committed.

*Locked* means that nothing was done: ask again, after a random pause, for a bounded time.

*Unsure* means that the statement may have been committed although an error came back (an I/O error
on the WAL can be followed by a recovery that brings the row to light). Every transition can simply
be run again, for its guard names the token or the path: it either happens now, or finds nothing to
do. So a verb that gets no row back reads the row again, and looks for its own token or path. For
the same reason no file is ever unlinked because of an error: only a successful read that shows no
reference permits that.

*A full disk*: a DELETE needs room in the WAL, so making room fails exactly when it is needed. What
ends an artifact gives up the reserve and runs once more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from registry.artifact import ArtifactId
from registry.effects import (
    BackOff,
    Elapsed,
    GiveUpReserve,
    Locked,
    NotOpened,
    Params,
    Run,
    Unsure,
    Verb,
)
from registry.errors import (
    CacheDirectoryRefused,
    DatabaseDamaged,
    DiskFull,
    RegistryBusy,
    RegistryError,
)
from registry.sql.queries import READ, Row
from registry.sql.statement import Statement
from registry.sql.transitions import TRANSITIONS, Event
from registry.verbs.handle import Handle

__all__ = [
    "at_once",
    "attempt",
    "delete",
    "end",
    "move",
    "one",
    "only_row",
    "read",
    "run",
    "run_on_the_reserve",
]

# Longer than any batch of ours holds the lock by far; shorter than a user's patience.
PATIENCE_SECONDS = 30.0
# Longer than the writers of a busy cache keep each other waiting; a hit waits no longer.
HIT_PATIENCE_SECONDS = 0.05
TRIES_WHEN_UNSURE = 3


class Answer(NamedTuple):
    """What a statement returned. `unsure`: it was run again after an error, so where there are no
    rows, what it was to do may have been done the time before.
    """

    rows: list[Any]
    unsure: bool


def run(statement: Statement, params: Params) -> Verb[list[Any]]:
    """Run a statement, waiting for the lock; raises `RegistryBusy`, `DatabaseDamaged`."""
    return (yield from _ask(statement, params)).rows


def one(statement: Statement, params: Params) -> Verb[Any]:
    """Run a statement that answers one row, always; raises `DatabaseDamaged` where it does not."""
    return only_row(statement, (yield from run(statement, params)))


def only_row(statement: Statement, rows: list[Any]) -> Any:
    """Take the one row that a statement always answers; raises `DatabaseDamaged`."""
    if len(rows) != 1:
        raise DatabaseDamaged(
            f"expected one row from {statement.name}, got {len(rows)}; see `registry db`"
        )
    return rows[0]


def at_once(
    handle: Handle, statement: Statement, params: Params, patience: float = HIT_PATIENCE_SECONDS
) -> Verb[list[Any] | None]:
    """Run a statement that something else does not depend on, if it can be run now; else None.

    Neither a lock, nor a full or read-only disk, nor an I/O error is told to the caller.
    """
    since, unsure = None, 0
    while True:
        try:
            rows = yield from Run(statement, params)
        except (DiskFull, CacheDirectoryRefused):
            return None
        except (Locked, Unsure) as error:
            unsure += isinstance(error, Unsure)
            now = yield from Elapsed()
            since = now if since is None else since
            if now - since > patience:
                handle.locked_at = now
                return None
            if unsure >= TRIES_WHEN_UNSURE:
                return None
            yield from BackOff()
        else:
            handle.locked_at = None
            return rows


def _ask(statement: Statement, params: Params) -> Verb[Answer]:
    retries: _Retries | None = None  # none is the common case
    while True:
        try:
            rows = yield from Run(statement, params)
        except (Locked, Unsure) as error:
            retries = retries or _Retries(statement)
            yield from retries.meet(error)
        else:
            return Answer(rows, retries is not None and retries.unsure > 0)


class _Retries:
    """How often a statement has failed, and since when."""

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self.unsure = 0
        self.since: float | None = None

    def meet(self, error: Exception) -> Verb[None]:
        """Pause before the statement is run again, unless that took too long."""
        now = yield from Elapsed()
        self.since = now if self.since is None else self.since
        self.unsure += isinstance(error, Unsure)
        if self.unsure >= TRIES_WHEN_UNSURE:
            raise _given_up(self.statement, error) from error
        if now - self.since > PATIENCE_SECONDS:
            raise RegistryBusy(
                f"the database was locked for {PATIENCE_SECONDS:.0f} s, could not "
                f"{self.statement.name}; look for a shell or a backup that holds it, then try again"
            ) from error
        yield from BackOff()


def _given_up(statement: Statement, error: Exception) -> RegistryError:
    if isinstance(error, NotOpened):  # no damage
        return CacheDirectoryRefused(
            f"the database cannot {statement.name}: {error}; see whether it is still there, and "
            "how many files this process has open (`ulimit -n`), then try again"
        )
    return DatabaseDamaged(f"the database cannot {statement.name}: {error}; see `registry check`")


def read(id: ArtifactId) -> Verb[Row | None]:
    """Read the row of an artifact."""
    return _first((yield from run(READ, {"code": id.code_hash, "prep": id.prep_hash})))


def move(event: Event, id: ArtifactId, **params: Any) -> Verb[Row | None]:
    """Make a guarded transition; no row means that it was refused and nothing changed."""
    return _first((yield from attempt(event, id, **params)).rows)


def attempt(event: Event, id: ArtifactId, **params: Any) -> Verb[Answer]:
    """The same for one who must know whether no row may mean that it was made before an error."""
    params |= {"code": id.code_hash, "prep": id.prep_hash}
    return (yield from _ask(TRANSITIONS[event], params))


def end(event: Event, params: Params) -> Verb[Answer]:
    """Delete rows, or give a claim back, even where the disk is full."""
    return (yield from delete(TRANSITIONS[event], params))


def delete(statement: Statement, params: Params) -> Verb[Answer]:
    """The same for a statement that is no event of one artifact."""
    answer = yield from run_on_the_reserve(statement, params)
    return answer._replace(rows=[Row(*row) for row in answer.rows])


def run_on_the_reserve(statement: Statement, params: Params) -> Verb[Answer]:
    """Run a statement on the way to making room, even where the disk is full."""
    try:
        return (yield from _ask(statement, params))
    except DiskFull:
        yield from GiveUpReserve()
        answer = yield from _ask(statement, params)
        return answer._replace(unsure=True)  # syncing may have failed after the commit


def _first(rows: list[Any]) -> Row | None:
    return Row(*rows[0]) if rows else None
