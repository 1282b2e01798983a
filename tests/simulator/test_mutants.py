"""The proof is itself proved: five deliberate faults, each caught by the promise that it breaks.

Each is a patch of one statement, one effect or one order of the product, in here only. The product
as it is passes the very same run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypeAlias
from unittest.mock import patch

import pytest

from registry.artifact import State
from registry.effects import ListNames, Verb
from registry.queries import PATHS_PAGE, Row
from registry.statement import Statement
from registry.transitions import PRUNE_BATCH, TRANSITIONS, Event
from registry.verbs import asking, pruning, publishing, reconciling
from registry.world.database import Database

from .exhaustive import Case, walk
from .invariants import Promise, Violation
from .programs import pruner, publisher, sweeper
from .schedule import run
from .surroundings import empty_cache

TWO_AND_A_DEADLINE = Case({"first": publisher, "second": publisher}, minutes=1)
ONE_AND_A_PRUNER = Case({"publisher": publisher, "pruner": pruner})
ONE_AND_A_SWEEPER = Case({"publisher": publisher, "sweeper": sweeper})
MOST_SEEDS = 150
Mutant: TypeAlias = Callable[[], AbstractContextManager[Any]]


def without_fencing_token() -> AbstractContextManager[Any]:
    """Publish and fail whoever holds the claim."""
    changed = {event: _unfenced(TRANSITIONS[event]) for event in (Event.PUBLISH, Event.FAIL)}
    return patch.object(asking, "TRANSITIONS", {**TRANSITIONS, **changed})


def unlinking_before_the_commit() -> AbstractContextManager[Any]:
    """Prune files first, and then their rows."""

    def delete(_: object, limit: int, horizon: int, spared: int, _reason: str) -> Verb[list[Row]]:
        yield from pruning.unlink_all((yield from pruning._doomed(limit, horizon)))
        bounds = {"bytes_limit": limit, "horizon": horizon, "spared": spared}
        return (yield from asking.end(Event.PRUNE, {**bounds, "most": PRUNE_BATCH}))

    return patch.object(pruning, "_delete", delete)


def sweeping_rows_first() -> AbstractContextManager[Any]:
    """Read the rows, and only then list the folder."""

    def orphans() -> Verb[list[str]]:
        rows = yield from asking.run(PATHS_PAGE, {"after_id": 0, "most": 1000})
        referred = {path for _, _, path in rows}
        referred |= {f"{path}.tmp" for _, state, path in rows if state == State.PREPARING}
        return sorted(set((yield from ListNames())) - referred)

    return patch.object(reconciling, "orphans", orphans)


def without_syncing_files() -> AbstractContextManager[Any]:
    """Publish what is not on the disk yet."""
    return patch.object(publishing, "Sync", lambda name: iter(()))


def without_syncing_the_folder() -> AbstractContextManager[Any]:
    """Publish under a name that is not on the disk yet."""
    return patch.object(publishing, "SyncFolder", lambda: iter(()))


def pruning_without_syncing_the_wal() -> AbstractContextManager[Any]:
    """Prune on the connection with synchronous=NORMAL."""
    changed = {Event.PRUNE: replace(TRANSITIONS[Event.PRUNE], durable=False)}
    return patch.object(asking, "TRANSITIONS", {**TRANSITIONS, **changed})


@pytest.mark.parametrize(
    ("mutant", "case", "promise"),
    [
        (without_fencing_token, TWO_AND_A_DEADLINE, Promise.FENCED),
        (unlinking_before_the_commit, ONE_AND_A_PRUNER, Promise.LIVE_FILES_STAY),
        (sweeping_rows_first, ONE_AND_A_SWEEPER, Promise.LIVE_FILES_STAY),
    ],
    ids=["no fencing token", "unlink before commit", "sweep reads rows first"],
)
def test_a_walk_through_all_states_catches(mutant: Mutant, case: Case, promise: Promise) -> None:
    with mutant(), pytest.raises(Violation) as caught:
        walk(case)
    assert caught.value.promise is promise
    walk(case)


@pytest.mark.parametrize(
    "mutant",
    [without_syncing_files, without_syncing_the_folder, pruning_without_syncing_the_wal],
    ids=["no fsync", "no fsync of the folder", "prune with synchronous NORMAL"],
)
def test_a_power_cut_catches(mutant: Mutant) -> None:
    with mutant():
        seed, promise = first_violation()
    assert promise is Promise.HAS_ITS_FILE
    run(seed, "power cuts")


def first_violation() -> tuple[int, Promise]:
    """The first seed that catches a fault, and the promise that is broken."""
    for seed in range(MOST_SEEDS):
        try:
            run(seed, "power cuts")
        except Violation as violation:
            return seed, violation.promise
    pytest.fail(f"{MOST_SEEDS} seeds caught nothing")


def test_the_durable_connection_syncs_the_wal_as_the_power_cut_supposes() -> None:
    with empty_cache() as cache:
        database = Database(str(cache / "registry.db"))
        try:
            for connection, level in ((database._main, 1), (database._syncing(), 2)):
                assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        finally:
            database.close()


def _unfenced(statement: Statement) -> Statement:
    guard = " AND artifact.token = :my_token"
    assert guard in statement.sql
    return replace(statement, sql=statement.sql.replace(guard, ""))
