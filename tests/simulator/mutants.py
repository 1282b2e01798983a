"""Six deliberate faults of the product, each a patch of one statement, one effect or one order.

They live in here only. (The one of "no fsync" is two: a file's bytes, and its name in the folder.)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any, TypeAlias
from unittest.mock import patch

from registry.artifact import State
from registry.effects import ListNames, Now, Verb
from registry.sql.queries import PATHS_PAGE, Row
from registry.sql.statement import Statement
from registry.sql.transitions import PRUNE_BATCH, TRANSITIONS, Event
from registry.verbs import check, claim, database, lease, prune, publish

__all__ = [
    "Mutant",
    "believing_the_clock",
    "pruning_without_syncing_the_wal",
    "sweeping_rows_first",
    "unlinking_before_the_commit",
    "without_fencing_token",
    "without_syncing_files",
    "without_syncing_the_folder",
]

Mutant: TypeAlias = Callable[[], AbstractContextManager[Any]]


def without_fencing_token() -> AbstractContextManager[Any]:
    """Publish and fail whoever holds the claim."""
    changed = {event: _unfenced(TRANSITIONS[event]) for event in (Event.PUBLISH, Event.FAIL)}
    return patch.object(database, "TRANSITIONS", {**TRANSITIONS, **changed})


def unlinking_before_the_commit() -> AbstractContextManager[Any]:
    """Prune files first, and then their rows."""

    def delete(_: object, limit: int, horizon: int, spared: int, _reason: str) -> Verb[list[Row]]:
        yield from prune.unlink_all((yield from prune._doomed(limit, horizon)))
        now = yield from Now()
        bounds = {"bytes_limit": limit, "horizon": horizon, "spared": spared, "now": now}
        return (yield from database.end(Event.PRUNE, {**bounds, "most": PRUNE_BATCH})).rows

    return patch.object(prune, "_delete", delete)


def sweeping_rows_first() -> AbstractContextManager[Any]:
    """Read the rows, and only then list the folder."""

    def orphans() -> Verb[list[str]]:
        rows = yield from database.run(PATHS_PAGE, {"after_id": 0, "most": 1000})
        referred = {path for _, _, path in rows}
        referred |= {f"{path}.tmp" for _, state, path in rows if state == State.PREPARING}
        return sorted(set((yield from ListNames())) - referred)

    return patch.object(check, "orphans", orphans)


def without_syncing_files() -> AbstractContextManager[Any]:
    """Publish what is not on the disk yet."""
    return patch.object(publish, "Sync", lambda name: iter(()))


def without_syncing_the_folder() -> AbstractContextManager[Any]:
    """Publish under a name that is not on the disk yet."""
    return patch.object(publish, "SyncFolder", lambda: iter(()))


def pruning_without_syncing_the_wal() -> AbstractContextManager[Any]:
    """Prune on the connection with synchronous=NORMAL."""
    changed = {Event.PRUNE: replace(TRANSITIONS[Event.PRUNE], durable=False)}
    return patch.object(prune, "TRANSITIONS", {**TRANSITIONS, **changed})


def believing_the_clock() -> AbstractContextManager[Any]:
    """Take a time that lies ahead for one that is yet to come."""
    stack = ExitStack()
    for module in (claim, lease):
        stack.enter_context(patch.object(module, "is_ahead", lambda at, now: False))
    return stack


def _unfenced(statement: Statement) -> Statement:
    guard = " AND artifact.token = :my_token"
    assert guard in statement.sql
    return replace(statement, sql=statement.sql.replace(guard, ""))
