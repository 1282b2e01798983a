"""The proof is itself proved: six deliberate faults, each caught by the promise that it breaks.

Each is caught by a walk through all states or by a power cut; the product as it is passes the very
same. See `mutants.py` for what they are.
"""

from __future__ import annotations

import pytest

from registry.world.database import Database

from .exhaustive import Case, walk
from .invariants import Promise, Violation
from .mutants import (
    Mutant,
    believing_the_clock,
    pruning_without_syncing_the_wal,
    sweeping_rows_first,
    unlinking_before_the_commit,
    without_fencing_token,
    without_syncing_files,
    without_syncing_the_folder,
)
from .programs import pruner, publisher, sweeper
from .schedule import run
from .surroundings import empty_cache

TWO_AND_A_DEADLINE = Case({"first": publisher, "second": publisher}, minutes=1)
ONE_AND_A_PRUNER = Case({"publisher": publisher, "pruner": pruner})
ONE_AND_A_SWEEPER = Case({"publisher": publisher, "sweeper": sweeper})
MOST_SEEDS = 150


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
        seed, promise = first_violation("power cuts")
    assert promise is Promise.HAS_ITS_FILE
    run(seed, "power cuts")


def test_a_clock_that_is_set_back_catches_who_believes_it() -> None:
    with believing_the_clock():
        seed, promise = first_violation("anything")
    assert promise is Promise.NOT_BLOCKED
    run(seed, "anything")


def first_violation(mixture: str) -> tuple[int, Promise]:
    """The first seed that catches a fault, and the promise that is broken."""
    for seed in range(MOST_SEEDS):
        try:
            run(seed, mixture)
        except Violation as violation:
            return seed, violation.promise
    pytest.fail(f"{MOST_SEEDS} seeds caught nothing")


def test_the_durable_connection_syncs_the_wal_as_the_power_cut_supposes() -> None:
    with empty_cache() as cache:
        database = Database(str(cache / "registry.db"))
        try:
            for connection, level in ((database._main, 1), (database._durable, 2)):
                assert connection.execute("PRAGMA synchronous", {}) == [(level,)]
        finally:
            database.close()
