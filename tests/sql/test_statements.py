"""The guarded statements, tried one by one: each makes the moves of the table, and no others.

They run here on an empty database in memory, with every parameter as it should be, or with the one
that proves the right to move made wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.making import prepared
from support.tables import change

from registry import ArtifactId, Registry, State
from registry.schema.ddl import DDL
from registry.sql.transitions import MOVES, TRANSITIONS, Event

LEGAL: dict[Event, dict[State | None, State | None]] = {
    Event.CLAIM: {None: State.PREPARING, State.FAILED: State.PREPARING},
    Event.TAKE_OVER: {State.PREPARING: State.PREPARING},
    Event.PUBLISH: {State.PREPARING: State.PREPARED},
    Event.FAIL: {State.PREPARING: State.FAILED},
    Event.RELEASE: {State.PREPARING: None},
    Event.RESTORE: {State.PREPARING: State.FAILED},
    Event.REAP: {State.PREPARING: State.FAILED},
    Event.REAP_HOST: {State.PREPARING: State.FAILED},
    Event.EXTEND: {State.PREPARING: State.PREPARING},
    Event.REDATE: {State.PREPARING: State.PREPARING},
    Event.NEED: {State.PREPARED: State.PREPARED},
    Event.PRUNE: {State.PREPARED: None},
    Event.FORGET: {State.FAILED: None},
    Event.REMOVE: {State.PREPARED: None, State.FAILED: None},
    Event.DISCARD: {State.PREPARED: None},
    Event.RETRY: {State.FAILED: State.FAILED},
}
MONTH = 30 * 86400 * 1_000_000
# What proves the right to make each move, made wrong.
WITHOUT_THE_RIGHT: list[tuple[Event, dict[str, Any]]] = [
    (Event.CLAIM, {"now": 999}),
    (Event.TAKE_OVER, {"seen_token": "another"}),
    (Event.TAKE_OVER, {"seen_deadline": 899}),
    (Event.PUBLISH, {"my_token": "another"}),
    (Event.FAIL, {"my_token": "another"}),
    (Event.RELEASE, {"my_token": "another"}),
    (Event.RESTORE, {"my_token": "another"}),
    (Event.REAP, {"seen_token": "another"}),
    (Event.REAP, {"seen_deadline": 899}),
    (Event.REAP_HOST, {"seen_host": "another"}),
    (Event.EXTEND, {"my_token": "another"}),
    (Event.REDATE, {"seen_token": "another"}),
    (Event.REDATE, {"seen_deadline": MONTH + 899}),
    (Event.REDATE, {"now": MONTH}),
    (Event.NEED, {"seen_path": "another"}),
    (Event.PRUNE, {"horizon": 499}),
    (Event.FORGET, {"count_limit": 2, "bytes_limit": 10, "horizon": 399}),
    (Event.REMOVE, {"prep": "b" * 64}),
    (Event.DISCARD, {"seen_path": "another"}),
    (Event.RETRY, {"prep": "b" * 64}),
]
PATH, NEW_PATH = "1" * 128 + ".pvf", "2" * 128 + ".pvf"
RIGHT = {
    "code": "a" * 64,
    "prep": "a" * 64,
    "now": 1000,
    "anyway": False,
    "label": None,
    "made_by": None,
    "my_token": "token",
    "my_path": NEW_PATH,
    "my_host": "me",
    "seen_token": "token",
    "seen_deadline": 900,
    "seen_path": PATH,
    "seen_host": "host",
    "prepare_timeout": 60,
    "dated": 0,
    "max_retries": None,
    "retry_cooldown": None,
    "error": "it went wrong",
    "kind": "wrong",
    "retryable": True,
    "size": 7,
    "checksum": "sum",
    "seconds": 0.5,
    "bytes_limit": 0,
    "horizon": 1000,
    "spared": 1,  # the bystander
    "count_limit": 0,
    "most": 256,
}


def right(event: Event) -> dict[str, Any]:
    """Everything as it should be; what is dated anew was claimed when the clock was ahead."""
    return RIGHT | ({"seen_deadline": MONTH + 900} if event is Event.REDATE else {})


FAILURE = {"num_failures": 1, "last_time_failed": 400, "error": "wrong", "retry_at": 1000}
CLAIMED = {"path": PATH, "token": "token", "host_id": "host", "claimed_at": 300, "deadline": 900}
COLUMNS: dict[State | None, dict[str, Any]] = {
    State.PREPARING: CLAIMED,
    State.PREPARED: {"path": PATH, "size": 9, "checksum": "sum", "last_time_needed": 500},
    State.FAILED: FAILURE,
}


@pytest.fixture
def memory() -> Iterator[sqlite3.Connection]:
    """An empty database with our schema, and nothing else of ours."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in DDL:
            connection.execute(statement)
        connection.execute("INSERT INTO usage VALUES (0, 0)")
        connection.execute("INSERT INTO failure_usage VALUES (0, 0)")
        yield connection


def put(memory: sqlite3.Connection, state: State | None, event: Event) -> None:
    """Put in the artifact that an event is about, and one beside it that no event may touch."""
    bystander = {"code_hash": "c" * 64, "prep_hash": "c" * 64, "state": "failed", **FAILURE}
    insert(memory, bystander)
    if state is not None:
        columns = {"code_hash": "a" * 64, "prep_hash": "a" * 64, "state": state, **COLUMNS[state]}
        if state is State.PREPARING and event is Event.RESTORE:
            columns |= FAILURE
        if state is State.PREPARING and event is Event.REDATE:
            columns |= {"claimed_at": MONTH + 300, "deadline": MONTH + 900}
        insert(memory, columns)


def insert(memory: sqlite3.Connection, columns: dict[str, Any]) -> None:
    names = ", ".join(columns)
    values = ", ".join(f":{name}" for name in columns)
    memory.execute(f"INSERT INTO artifact ({names}) VALUES ({values})", columns)


def contents(memory: sqlite3.Connection) -> list[Any]:
    rows = memory.execute("SELECT * FROM artifact ORDER BY id").fetchall()
    return [*rows, *memory.execute("SELECT * FROM usage").fetchall()]


def state_of(memory: sqlite3.Connection) -> State | None:
    found = memory.execute("SELECT state FROM artifact WHERE code_hash = ?", ("a" * 64,)).fetchone()
    return None if found is None else State(found[0])


EVERY_PAIR = [(event, state) for event in Event for state in (None, *State)]


@pytest.mark.parametrize(("event", "state"), EVERY_PAIR)
def test_a_statement_makes_its_moves_and_no_others(
    event: Event, state: State | None, memory: sqlite3.Connection
) -> None:
    put(memory, state, event)
    before = contents(memory)
    answer = memory.execute(TRANSITIONS[event].sql, right(event)).fetchall()
    if state in LEGAL[event]:
        assert len(answer) == 1
        assert state_of(memory) == LEGAL[event][state]
    else:
        assert answer == []
        assert contents(memory) == before


@pytest.mark.parametrize(("event", "wrong"), WITHOUT_THE_RIGHT)
def test_a_statement_without_the_right_to_move_changes_nothing(
    event: Event, wrong: dict[str, Any], memory: sqlite3.Connection
) -> None:
    state = next(state for state in LEGAL[event] if state is not None)
    put(memory, state, event)
    before = contents(memory)
    assert memory.execute(TRANSITIONS[event].sql, right(event) | wrong).fetchall() == []
    assert contents(memory) == before


def test_a_release_never_forgets_a_failure_nor_makes_one_up(memory: sqlite3.Connection) -> None:
    put(memory, State.PREPARING, Event.RESTORE)  # it failed before
    assert memory.execute(TRANSITIONS[Event.RELEASE].sql, RIGHT).fetchall() == []
    memory.execute("DELETE FROM artifact")
    put(memory, State.PREPARING, Event.RELEASE)  # it never failed
    assert memory.execute(TRANSITIONS[Event.RESTORE].sql, RIGHT).fetchall() == []


def test_every_statement_was_tried_without_the_right_to_move() -> None:
    assert {event for event, _ in WITHOUT_THE_RIGHT} == set(Event)


def test_the_table_of_moves_is_the_designs() -> None:
    ours = {event: dict.fromkeys(move.sources, move.target) for event, move in MOVES.items()}
    assert ours == LEGAL
    assert TRANSITIONS.keys() == MOVES.keys() == set(Event)


@pytest.mark.parametrize("event", Event)
def test_a_transition_is_one_statement_that_tells_who_won(event: Event) -> None:
    sql = TRANSITIONS[event].sql
    assert sqlite3.complete_statement(f"{sql};")
    assert ";" not in sql
    assert "RETURNING" in sql
    assert TRANSITIONS[event].writes


def test_pruning_reads_artifacts_by_last_use_and_by_primary_key_only(
    memory: sqlite3.Connection,
) -> None:
    plan = memory.execute(f"EXPLAIN QUERY PLAN {TRANSITIONS[Event.PRUNE].sql}", RIGHT).fetchall()
    assert {step[3] for step in plan if " artifact " in step[3]} == {
        "SEARCH artifact USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH artifact USING INDEX artifact_by_last_use (last_time_needed>?)",
        "SEARCH artifact USING INDEX artifact_by_last_use (last_time_needed<?)",
    }


def test_the_schema_itself_refuses_what_no_state_allows(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    """The CHECKs stand even where a statement of ours would be wrong."""
    prepared(registry, id)
    for wrong in (
        {"token": "token"},
        {"path": None},
        {"path": "../x"},
        {"size": None},
        {"state": "failed"},
        {"state": "preparing"},
        {"state": "unknown"},
        {"num_failures": -1},
        {"error": "wrong", "last_time_failed": 1},
    ):
        with pytest.raises(sqlite3.IntegrityError):
            change(cache, id, checked=True, **wrong)
